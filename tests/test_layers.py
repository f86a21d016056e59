"""Which room may import from which: one direction, and few that know the configuration."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jsrl"

ROOMS = [
    *("core", "networks", "statistics", "loggers", "envs", "jumpstart", "learners", "guides"),
    *("rollout", "datasets", "report", "monitor", "settings", "run", "grid", "reproducibility"),
    *("benchmark", "commands"),
]
"""A room imports from itself and from rooms before it. The pages of the monitor and of a grid are
drawn with what ``report`` has, which therefore comes before them."""

ROOMS_OF_THE_MONITOR = ["capture", "detectors", "attribution", "watch", "studies", "page"]
"""A room of the monitor imports from itself and from those before it. Its configuration stands in
none of them."""

READ_THE_CONFIGURATION = {"settings", "run", "commands", "grid", "reproducibility"}
"""Below these rooms there are plain values."""

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


def room(name):
    """The room in which a module stands; the two files at the top may import anything."""
    return name.partition(".")[0]


GRAPH = {name: imports(path) for name, path in MODULES.items()}
AT_THE_TOP = {"", "__main__"}


def test_only_two_files_are_at_the_top():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_every_room_has_its_place_in_the_order():
    assert {room(name) for name in GRAPH} - AT_THE_TOP == set(ROOMS)


@pytest.mark.parametrize("name", sorted(set(MODULES) - AT_THE_TOP))
def test_a_module_imports_only_from_its_room_and_those_before_it(name):
    later = ROOMS[ROOMS.index(room(name)) + 1 :]
    assert {other for other in GRAPH[name] if room(other) in later} == set()


def room_of_monitor(name):
    """The room of the monitor in which a module stands, or "" for all others."""
    parts = name.split(".")
    return parts[1] if parts[0] == "monitor" and parts[1:2] != ["config"] and parts[1:] else ""


def test_every_room_of_the_monitor_has_its_place_in_the_order():
    assert {room_of_monitor(name) for name in MODULES} - {""} == set(ROOMS_OF_THE_MONITOR)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if room_of_monitor(name)))
def test_a_module_of_the_monitor_imports_only_from_its_room_and_those_before_it(name):
    own = ROOMS_OF_THE_MONITOR.index(room_of_monitor(name))
    later = ROOMS_OF_THE_MONITOR[own + 1 :]
    assert {other for other in GRAPH[name] if room_of_monitor(other) in later} == set()


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


def test_only_the_upper_rooms_know_the_configuration():
    reading = {room(name) for name, used in GRAPH.items() if "settings.schema" in used}
    assert reading <= READ_THE_CONFIGURATION


def test_only_the_stage_of_online_learning_advances_a_curriculum():
    callers = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                callers |= {name} if node.func.attr == "advance" else set()
    assert callers == {"run.stages"}


def dotted(node):
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


GENERATORS = {"Generator", "default_rng", "SeedSequence", "BitGenerator"}


# The benchmark's inputs are random numbers whose values do not matter.
@pytest.mark.parametrize("name", sorted(n for n in MODULES if room(n) != "benchmark"))
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
