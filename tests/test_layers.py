"""Which module may import which: one direction, and few that know the configuration."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jsrl"

# From the leaves to the top: a file imports only from files of earlier lines.
LAYERS = [
    "errors seeding interrupts processes envs.registration",
    "types activations statistics.seeds statistics.differences files loading mazes nondeterminism",
    "statistics.runs",
    "statistics",
    "envs.antmaze",
    "networks losses checkpoint",
    "learners.common",
    "learners.iql learners.bc",
    "guides.base",
    "guides.network guides.python guides.torchscript guides.onnx guides.waypoint guides.ant",
    "guides.npz",
    "guides",
    "curricula replay",
    "envs.make envs",
    "envs.adroit",
    "datasets.validation datasets.d4rl_files datasets.blocks",
    "datasets.dataset",
    "datasets.d4rl datasets.minari datasets.report",
    "datasets datasets.collect datasets.antmaze_walks",
    "datasets.antmaze datasets.adroit",
    "collector evaluate",
    "online tracking summary",
    "loggers.records loggers.progress",
    "loggers.jsonl",
    "loggers.tensorboard",
    "loggers",
    "figures run_directory",
    "monitor.splits monitor.kernels monitor.rows monitor.hooks monitor.faults monitor.margins",
    "monitor.sequential monitor.mmd monitor.witness",
    "monitor.figures monitor.recording monitor.observer",
    "monitor.joint monitor.rates monitor.sanity",
    "monitor.detector",
    "monitor.watch monitor.looks",
    "monitor.training_log monitor.deployed_recording",
    "monitor.training monitor.deployed monitor.baselines",
    "monitor.audit monitor.sources monitor.power",
    "records report.runs",
    "report export",
    "monitor.page monitor.power_report",
    "monitor",
    "learners",
    "grid grid.config monitor.config",
    "config",
    "build",
    "checks dataset_config",
    "reproducibility.config",
    "config_errors dataset_jobs",
    "parts",
    "judge",
    "train runs benchmark",
    "monitor_job",
    "detection_job",
    "grid.settings grid.published",
    "grid.plan",
    "grid.records grid.processes",
    "grid.runner",
    "grid.results",
    "grid.compare grid.rows",
    "grid.figures grid.markdown grid.protocol",
    "grid.report",
    "grid.job",
    "reproducibility reproducibility.tasks",
    "reproducibility.supervised reproducibility.predictions reproducibility.records",
    "reproducibility.measures",
    "reproducibility.cell reproducibility.compare",
    "reproducibility.figures",
    "reproducibility.report",
    "reproducibility.callback",
    "jsrl",
    "cli",
    "__main__",
]
"""``benchmark`` stands for all of its files: what they import of each other is their own affair."""

READ_THE_CONFIGURATION = {
    "train",
    "judge",
    "runs",
    "build",
    "parts",
    "checks",
    "cli",
    "config_errors",
    "dataset_config",
    "dataset_jobs",
    "detection_job",
    "monitor_job",
    "reproducibility.config",
    "reproducibility.cell",
    "reproducibility.measures",
    "reproducibility.predictions",
}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(path):
    """The modules of the package that a file imports, anywhere in it, but for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "jsrl":
                found.add(longest_module(name.split(".")[1:]))
    return found


def longest_module(parts):
    while ".".join(parts) not in MODULES:
        parts = parts[:-1]
    return ".".join(parts)


def place(name):
    """Where a module stands in the table."""
    return "benchmark" if name.startswith("benchmark.") else name or "jsrl"


GRAPH = {name: imports(path) for name, path in MODULES.items()}
RANK = {name: rank for rank, line in enumerate(LAYERS) for name in line.split()}


def test_every_module_has_its_place_in_the_table():
    assert set(map(place, GRAPH)) == set(RANK)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_from_layers_below_it(name):
    others = {place(other) for other in GRAPH[name]} - {place(name)}
    assert {other for other in others if RANK[other] >= RANK[place(name)]} == set()


def test_imports_form_no_cycle():
    seen, finished = [], set()

    def visit(name):
        assert name not in seen, " → ".join([*seen, name])
        if name not in finished:
            seen.append(name)
            for other in GRAPH[name]:
                visit(other)
            finished.add(seen.pop())

    for name in GRAPH:
        visit(name)


def test_only_the_composition_root_knows_the_configuration():
    schemas = {"config", "monitor.config"}
    reading = {name for name, used in GRAPH.items() if used & schemas}
    assert reading - schemas <= READ_THE_CONFIGURATION


def test_only_the_composition_root_advances_a_curriculum():
    callers = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                callers |= {name} if node.func.attr == "advance" else set()
    assert callers == {"train"}


def dotted(node):
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


GENERATORS = {"Generator", "default_rng", "SeedSequence", "BitGenerator"}


# The benchmark's inputs are random numbers whose values do not matter.
@pytest.mark.parametrize("name", sorted(n for n in MODULES if place(n) != "benchmark"))
def test_no_draw_comes_from_a_global_random_state(name):
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            assert "random" not in {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.module != "random"
        called = dotted(node) if isinstance(node, ast.Attribute) else ""
        if called.startswith(("np.random.", "numpy.random.")):
            assert called.split(".")[2] in GENERATORS, called
        assert called not in {"torch.manual_seed", "torch.seed", "torch.set_rng_state"}
        if isinstance(node, ast.Call) and dotted(node.func) in DRAWS:
            assert any(word.arg == "generator" for word in node.keywords), dotted(node.func)


DRAWS = {
    f"torch.{draw}"
    for draw in ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")
}
