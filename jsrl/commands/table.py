"""The commands: what each is called, what it takes, and what it does.

A schema and a function are named as ``module:attribute`` and imported when they are needed, so
that ``jsrl --help`` is quick.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        name: as it is typed after ``jsrl``, of one word or two.
        config: the name of its primary configuration, a YAML file in ``configs``.
        schema: the dataclass of its keys, as ``module:attribute``.
        function: the Hydra job, as ``module:attribute``.
        example: what it does, and how it is typed.
    """

    name: str
    config: str
    schema: str
    function: str
    example: str

    def load_schema(self) -> Any:
        """The dataclass of its keys."""
        return _load(self.schema)

    def load_function(self) -> Callable[[Any], Any]:
        """What is called with the composed configuration."""
        function: Callable[[Any], Any] = _load(self.function)
        return function


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return vars(importlib.import_module(module))[attribute]


_TABLE = (
    Command(
        "train",
        "config",
        "jsrl.settings.schema:TrainConfig",
        "jsrl.commands.train:train_job",
        "run an experiment, or resume it: jsrl train experiment=pointmaze_jsrl",
    ),
    Command(
        "resume",
        "resume",
        "jsrl.settings.schema:ResumeConfig",
        "jsrl.commands.train:resume_job",
        "go on with a run by the configuration in its folder: jsrl resume run=DIR",
    ),
    Command(
        "evaluate",
        "evaluate",
        "jsrl.commands.schemas:EvaluateConfig",
        "jsrl.commands.jobs:evaluate_job",
        "evaluate the policies of a run: jsrl evaluate run=DIR",
    ),
    Command(
        "dataset pointmaze",
        "dataset_pointmaze",
        "jsrl.commands.dataset_schemas:PointMazeDataConfig",
        "jsrl.commands.dataset:collect_pointmaze",
        "collect data in a maze: jsrl dataset pointmaze path=FILE",
    ),
    Command(
        "dataset rollouts",
        "dataset_rollouts",
        "jsrl.commands.dataset_schemas:RolloutDataConfig",
        "jsrl.commands.dataset:collect_guide",
        "collect what a guide does: jsrl dataset rollouts env=NAME guide=run guide.path=DIR",
    ),
    Command(
        "dataset antmaze",
        "dataset_antmaze",
        "jsrl.commands.dataset_schemas:AntMazeDataConfig",
        "jsrl.commands.dataset:collect_ant",
        "collect walks of D4RL's ant: jsrl dataset antmaze guide.path=FILE",
    ),
    Command(
        "dataset adroit",
        "dataset_adroit",
        "jsrl.commands.dataset_schemas:AdroitDataConfig",
        "jsrl.commands.dataset_adroit:collect_hand",
        "make data of the Adroit hand: jsrl dataset adroit env=adroit_door demonstrations=FILE",
    ),
    Command(
        "dataset report",
        "dataset_report",
        "jsrl.commands.dataset_schemas:DatasetReportConfig",
        "jsrl.commands.dataset:report_on",
        "report on offline data: jsrl dataset report path=FILE",
    ),
    Command(
        "export",
        "export",
        "jsrl.commands.schemas:ExportConfig",
        "jsrl.commands.jobs:export_job",
        "write a run's exploration-policy as TorchScript and ONNX: jsrl export run=DIR",
    ),
    Command(
        "grid",
        "grid",
        "jsrl.grid.config:GridJobConfig",
        "jsrl.commands.jobs:grid_job",
        "run a grid of experiments, or the rest of it: jsrl grid grid=pointmaze",
    ),
    Command(
        "reproducibility",
        "reproducibility",
        "jsrl.reproducibility.config:ReproducibilityConfig",
        "jsrl.commands.jobs:reproducibility_job",
        "how far replicas differ: jsrl reproducibility experiment=NAME",
    ),
    Command(
        "monitor",
        "monitor",
        "jsrl.monitor.config:MonitorJobConfig",
        "jsrl.commands.jobs:monitor_job",
        "whether a policy's inputs are still good: jsrl monitor run=DIR",
    ),
    Command(
        "detection",
        "detection",
        "jsrl.monitor.config:DetectionJobConfig",
        "jsrl.commands.jobs:detection_job",
        "how well a monitor notices faults: jsrl detection run=DIR column=4 other=6",
    ),
    Command(
        "attack",
        "attack",
        "jsrl.commands.attack_schema:AttackJobConfig",
        "jsrl.commands.jobs:attack_job",
        "what attacks do to a policy, and who notices: jsrl attack run=DIR",
    ),
    Command(
        "explain",
        "explain",
        "jsrl.commands.explain_schema:ExplainJobConfig",
        "jsrl.commands.jobs:explain_job",
        "which columns a policy looks at: jsrl explain run=DIR explain.relevant=[COLUMN,…]",
    ),
    Command(
        "report",
        "report",
        "jsrl.commands.schemas:ReportConfig",
        "jsrl.commands.jobs:report_job",
        "pool seeds over runs into tables and figures: jsrl report DIR…",
    ),
    Command(
        "benchmark",
        "benchmark",
        "jsrl.commands.schemas:BenchmarkConfig",
        "jsrl.commands.jobs:benchmark_job",
        "measure speed on this machine: jsrl benchmark",
    ),
)

COMMANDS: dict[str, Command] = {command.name: command for command in _TABLE}
"""Every command by its name."""
