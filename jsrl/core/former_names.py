"""Modules by the names that they had before every file stood in a room.

A user's own guide, learner or script may import them so; it goes on to work, and a
DeprecationWarning names the new place.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER_NAMES = {
    "activations": "networks.activations",
    "build": "run.build",
    "checkpoint": "core.checkpoint",
    "checks": "run.checks",
    "cli": "commands.cli",
    "collector": "rollout.collector",
    "command_config": "commands.schemas",
    "commands.arguments": "settings.arguments",
    "config": "settings.schema",
    "config_errors": "settings.mistakes",
    "conversions": "core.conversions",
    "curricula": "jumpstart.curricula",
    "dataset_config": "commands.dataset_schemas",
    "dataset_jobs": "commands.dataset",
    "deployment": "networks.deployment",
    "detection_job": "commands.detection",
    "errors": "core.errors",
    "evaluate": "rollout.evaluator",
    "export": "networks.export",
    "export_modules": "networks.export_modules",
    "export_onnx": "networks.export_onnx",
    "figures": "report.figures",
    "files": "core.files",
    "grid.rows": "grid.csv_rows",
    "interrupts": "core.interrupts",
    "judge": "run.evaluation",
    "kind_options": "settings.kind_options",
    "loading": "core.loading",
    "locks": "core.locks",
    "loggers.records": "loggers.metrics",
    "losses": "learners.losses",
    "mazes": "envs.mazes",
    "monitor.audit": "monitor.watch.audit",
    "monitor.baselines": "monitor.studies.baselines",
    "monitor.columns": "monitor.capture.columns",
    "monitor.deployed": "monitor.watch.deployed",
    "monitor.deployed_recording": "monitor.watch.deployed_recording",
    "monitor.deployed_reference": "monitor.watch.deployed_reference",
    "monitor.detector": "monitor.detectors.detector",
    "monitor.faults": "monitor.studies.faults",
    "monitor.health": "monitor.watch.health",
    "monitor.hooks": "monitor.capture.layers",
    "monitor.joint": "monitor.detectors.joint",
    "monitor.kernels": "monitor.detectors.kernels",
    "monitor.looks": "monitor.watch.unfinished_episodes",
    "monitor.margins": "monitor.detectors.margins",
    "monitor.mmd": "monitor.detectors.mmd",
    "monitor.observer": "monitor.capture.observer",
    "monitor.power": "monitor.studies.power",
    "monitor.power_report": "monitor.studies.power_report",
    "monitor.rates": "monitor.detectors.rates",
    "monitor.recording": "monitor.capture.recording",
    "monitor.robots": "monitor.watch.deployed_episodes",
    "monitor.rows": "monitor.capture.steps",
    "monitor.sanity": "monitor.detectors.sanity",
    "monitor.sequential": "monitor.detectors.sequential",
    "monitor.sources": "monitor.capture.episode_sources",
    "monitor.splits": "monitor.detectors.splits",
    "monitor.stand_ins": "monitor.capture.forward_passes",
    "monitor.training": "monitor.watch.training",
    "monitor.training_log": "monitor.watch.training_log",
    "monitor.two_samples": "monitor.detectors.sample_checks",
    "monitor.witness": "monitor.attribution.witness",
    "monitor_job": "commands.monitor",
    "nondeterminism": "core.nondeterminism",
    "online": "rollout.online",
    "parts": "run.components",
    "processes": "core.processes",
    "records": "run.recorder",
    "replay": "rollout.replay",
    "report.runs": "report.run_folders",
    "reproducibility.records": "reproducibility.cell_file",
    "run_directory": "run.directory",
    "run_origin": "run.origin",
    "scores": "rollout.scores",
    "seeding": "core.streams",
    "stage_config": "settings.stages",
    "start_lines": "run.start_lines",
    "statistics.runs": "statistics.replicas",
    "stored_config": "run.stored_config",
    "summary": "run.summary",
    "tracking": "rollout.tracker",
    "train": "run.train",
}
"""The name of a module below ``jsrl`` in earlier versions, and its present one."""

FORMER_CONTENTS = {
    "runs": ("run.saved", "run.saved_evaluation", "run.saved_export"),
    "types": ("core.specs", "core.transitions", "core.protocols", "core.devices"),
}
"""Modules whose contents stand in several today; the first that has a name gives it."""


class FormerNamesFinder(MetaPathFinder, Loader):
    """Finds a module of an earlier version, and gives the present one in its place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        known = package == "jsrl" and (name in FORMER_NAMES or name in FORMER_CONTENTS)
        return ModuleSpec(fullname, self) if known else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.partition(".")[2]
        places = FORMER_CONTENTS.get(name) or (FORMER_NAMES[name],)
        warnings.warn(
            f"{module.__name__} is {' and '.join(f'jsrl.{place}' for place in places)} now; import "
            "it from there",
            DeprecationWarning,
            stacklevel=2,
        )
        present = [importlib.import_module(f"jsrl.{place}") for place in places]
        if name in FORMER_NAMES:
            # The same object under both names, so that what is set in one is seen in the other.
            sys.modules[module.__name__] = present[0]
            return
        for one in reversed(present):
            module.__dict__.update({k: v for k, v in vars(one).items() if not k.startswith("_")})
        if name == "types":
            former = importlib.import_module("jsrl.core.former_specs")
            module.__dict__["EnvSpec"] = former.FormerEnvSpec


def find_former_names() -> None:
    """Let ``import jsrl.…`` find the modules of earlier versions too; harmless if repeated."""
    if not any(isinstance(finder, FormerNamesFinder) for finder in sys.meta_path):
        sys.meta_path.append(FormerNamesFinder())
