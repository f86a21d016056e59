"""Where a run's numbers go: ``metrics.jsonl``, one logger by choice, and the terminal.

Names are ``<group>/<name>``, for instance ``loss/critic`` or ``evaluation/guide_success``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jsrl.core.discovery import import_all
from jsrl.loggers.jsonl import JsonLinesLogger
from jsrl.loggers.metrics import Record, Values, flatten, read_records
from jsrl.loggers.options import Logger, LoggerInputs, LoggerOptions, PartialLogger, loggers
from jsrl.loggers.progress import Progress
from jsrl.loggers.tensorboard import TensorBoardLogger

__all__ = [
    "JsonLinesLogger",
    "Logger",
    "LoggerInputs",
    "LoggerOptions",
    "Loggers",
    "Progress",
    "Record",
    "TensorBoardLogger",
    "Values",
    "flatten",
    "loggers",
    "read_records",
]

# Importing a kind registers it.
import_all(__name__, __path__)


class Loggers:
    """Passes everything on to ``metrics.jsonl`` and to the logger that was chosen.

    Args:
        metrics: the file that is cut back to a checkpoint when a run resumes.
        chosen: None for none.

    Raises:
        UserError: from any method, if something cannot be written.
    """

    def __init__(self, metrics: JsonLinesLogger, chosen: Logger | None = None) -> None:
        self.metrics = metrics
        self.chosen: Logger = PartialLogger() if chosen is None else chosen

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write the values of one step: ``[S]``, one for each seed, or a number without a seed.

        Args:
            step: updates in phase ``offline``, environment steps of each seed in ``online``.
            phase: ``offline`` or ``online``.
            values: by name, ``<group>/<name>``.
        """
        self.metrics.log(step, phase, values)
        self.chosen.log(step, phase, values)

    def histogram(self, name: str, values: np.ndarray, step: int, phase: str = "online") -> None:
        """The distribution of ``values``, of any shape, where the chosen logger shows any."""
        self.chosen.histogram(name, values, step, phase)

    def embedding(self, name: str, points: np.ndarray, labels: Sequence[str], step: int) -> None:
        """Points ``[N, D]`` with a label each, for TensorBoard's projector."""
        self.chosen.embedding(name, points, labels, step)

    def image(self, name: str, png: bytes, step: int) -> None:
        """A PNG, where the chosen logger shows pictures."""
        self.chosen.image(name, png, step)

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """The resolved configuration, as YAML and nested."""
        self.chosen.configuration(text, settings)

    def flush(self) -> None:
        """Put everything on the disk."""
        self.metrics.offset()
        self.chosen.flush()

    def offset(self) -> int:
        """The size of ``metrics.jsonl`` in bytes, for a checkpoint to remember."""
        return self.metrics.offset()

    def close(self, finished: bool = False) -> None:
        """Close all files; ``finished`` says that the run came to its end."""
        self.metrics.close()
        self.chosen.close(finished)
