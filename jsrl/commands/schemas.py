"""The schemas of the shorter commands, and their registration with that of every command."""

from dataclasses import dataclass

from omegaconf import MISSING

from jsrl.commands.table import COMMANDS
from jsrl.grid.config import GridConfig
from jsrl.settings import schema
from jsrl.settings.kinds import store_schema


@dataclass
class EvaluateConfig:
    """``jsrl evaluate run=DIR``. With the null defaults it repeats the run's final evaluation."""

    # The folder of the run.
    run: str = MISSING
    # Of each seed and policy; null: the run's evaluation.final_episodes.
    episodes: int | None = None
    # Environments of each seed stepped at a time; null: the run's evaluation.num_envs.
    num_envs: int | None = None
    # Which start states: a number gives others for each; null: those of the final evaluation.
    key: int | None = None
    # A file for the numbers; null: evaluation.json in the run.
    output: str | None = None


@dataclass
class ExportConfig:
    """``jsrl export run=DIR``."""

    # The folder of the run.
    run: str = MISSING
    # A folder for the files; null: export in the run.
    output: str | None = None
    # What the files answer: environment, actions as step takes them, or normalised, in [-1, 1].
    units: str = "environment"


@dataclass
class ReportConfig:
    """``jsrl report DIR…``."""

    # Folders of runs; they may be given without the key.
    runs: list[str] = MISSING
    # A folder for tables and figures.
    output: str = "report"


@dataclass
class BenchmarkConfig:
    """``jsrl benchmark``. ``behaviour``: npz file of D4RL's ant, for the speed of collecting."""

    # How long each measurement lasts.
    seconds: float = 5.0
    # Whether compiled updates are measured too.
    compile: bool = True
    # Steps of the run whose memory is measured.
    memory_steps: int = 20_000
    # npz file of D4RL's ant, for the speed of collecting; null: none.
    behaviour: str | None = None
    # A folder for the results; null: they are printed.
    output: str | None = None


def register() -> None:
    """Make the schemas known to Hydra, under the names that the files in ``configs`` start from."""
    schema.register()
    for command in COMMANDS.values():
        if command.config != "config":
            store_schema("", f"{command.config}_schema", command.load_schema())
    store_schema("grid", "schema", GridConfig)
