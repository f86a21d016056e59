"""What all loggers share: what they offer, their options, their registry, and what they get."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.registry import KindOptions, Registry
from jsrl.loggers.metrics import Values


class Logger(Protocol):
    """Where a run's numbers go besides ``metrics.jsonl``.

    A resumed run writes again what came after its checkpoint. Each kind says in its docstring
    what becomes of what it had already written there.
    """

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write the values of one step: ``[S]``, one for each seed, or a number without a seed."""
        ...

    def histogram(self, name: str, values: np.ndarray, step: int, phase: str = "online") -> None:
        """Write the distribution of ``values``, of any shape."""
        ...

    def embedding(self, name: str, points: np.ndarray, labels: Sequence[str], step: int) -> None:
        """Write points ``[N, D]`` with a label each."""
        ...

    def image(self, name: str, png: bytes, step: int) -> None:
        """Write a picture, the contents of a PNG file."""
        ...

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """Write the resolved configuration, as YAML and nested; called at every start of a run."""
        ...

    def flush(self) -> None:
        """Put everything on the disk, or hand it to whoever sends it."""
        ...

    def close(self, finished: bool = False) -> None:
        """Close all files; ``finished`` says that the run came to its end."""
        ...


class PartialLogger:
    """A logger that writes nothing: the base of those that cannot write all that there is."""

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write nothing."""

    def histogram(self, name: str, values: np.ndarray, step: int, phase: str = "online") -> None:
        """Write nothing."""

    def embedding(self, name: str, points: np.ndarray, labels: Sequence[str], step: int) -> None:
        """Write nothing."""

    def image(self, name: str, png: bytes, step: int) -> None:
        """Write nothing."""

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """Write nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self, finished: bool = False) -> None:
        """Do nothing."""


@dataclass
class LoggerOptions(KindOptions):
    """What every logger has."""

    # Whether a line shows progress.
    progress: bool = True
    # Updates (offline) or steps (online) between two records of the losses.
    interval: int = 500

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""
        if self.interval < 1:
            raise UserError(f"logger.interval={self.interval} must be at least 1")


@dataclass(frozen=True)
class LoggerInputs:
    """What every logger is made from, besides its options.

    Args:
        directory: the run directory. Its ``metrics.jsonl`` has been cut back to the checkpoint.
        seeds: the seeds ``[S]``, in the order of the values to come.
        offline_updates: how many updates of pre-training come before step 0.
        resume_from: step and phase of the checkpoint that a resumed run goes on from; None in a
            run that begins.
    """

    directory: Path
    seeds: Sequence[int]
    offline_updates: int = 0
    resume_from: tuple[int, str] | None = None


class MakeLogger(Protocol):
    """Makes a logger."""

    def __call__(self, options: Any, inputs: LoggerInputs) -> Logger: ...


loggers: Registry[MakeLogger] = Registry("logger", LoggerOptions)
"""The kinds of ``logger=…``."""


def package_of(kind: str) -> Any:
    """The package that a kind of logger needs, which has the kind's name, as has its extra.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return importlib.import_module(kind)
    except ImportError as error:
        raise UserError(
            f"logger={kind} needs the package {kind}, which cannot be imported ({error}); install "
            f"it by pip install 'jsrl-torch[{kind}]', or choose another logger"
        ) from error
