"""What the jobs of ``jsrl dataset`` share: checks before data are collected, and what is said."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from jsrl.commands.dataset_schemas import (
    AdroitDataConfig,
    AntMazeDataConfig,
    PointMazeDataConfig,
    RolloutDataConfig,
)
from jsrl.core.errors import UserError
from jsrl.core.protocols import Guide
from jsrl.datasets import DatasetWarning, load_hdf5
from jsrl.datasets.report import report_dataset
from jsrl.guides import guide_lines
from jsrl.loggers import Progress


def checked_path(
    config: PointMazeDataConfig | RolloutDataConfig | AntMazeDataConfig | AdroitDataConfig,
) -> Path:
    """The file to write; what all families have is in range.

    Raises:
        UserError: if it is not, or the file is there: data that were collected are never replaced.
    """
    if config.transitions < 1:
        raise UserError(f"transitions={config.transitions} must be at least 1")
    if config.seed < 0:
        raise UserError(f"seed={config.seed} must be 0 or more")
    limit = config.env.max_episode_steps
    if limit is not None and limit < 1:
        raise UserError(f"env.max_episode_steps={limit} must be at least 1, or null")
    if Path(config.path).exists():
        raise UserError(
            f"path={config.path} exists already; remove it, or choose another path (jsrl dataset "
            f"report path={config.path} says what is in it)"
        )
    return Path(config.path)


@contextlib.contextmanager
def collecting(path: Path, transitions: int, already: int = 0) -> Iterator[Callable[[int], None]]:
    """Show progress, then print what was collected, and write its report beside it.

    Args:
        path: the file that the block writes.
        transitions: how many it will hold.
        already: how many of these need not be collected.

    Returns:
        A function to call with the number of transitions so far.
    """
    progress = Progress(transitions, "collecting", initial=already)
    yield progress.update
    progress.close()
    with doubts_printed():
        dataset = load_hdf5(path)
    for line in (dataset.summary(), *dataset.notices()):
        print(line)
    print(report_dataset(dataset, path.with_name(f"{path.stem}_report")))


def print_conversion_of_actions(guide: Guide) -> None:
    """Print how the guide's actions are converted, if they are."""
    for line in guide_lines(guide):
        print(line, flush=True)


@contextlib.contextmanager
def doubts_printed() -> Iterator[None]:
    """What is doubtful about data is printed here, and need not be warned of besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        yield
