"""Where a run's numbers go: ``metrics.jsonl``, TensorBoard, and the terminal.

Names are ``<group>/<name>``, for instance ``loss/critic`` or ``evaluation/guide_success``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jsrl.loggers.jsonl import JsonLinesLogger
from jsrl.loggers.progress import Progress
from jsrl.loggers.records import Record, Values, flatten, read_records
from jsrl.loggers.tensorboard import TensorBoardLogger

__all__ = [
    "JsonLinesLogger",
    "Loggers",
    "Progress",
    "Record",
    "TensorBoardLogger",
    "Values",
    "flatten",
    "read_records",
]


class Loggers:
    """Passes everything on to ``metrics.jsonl`` and, where there is one, to TensorBoard.

    Args:
        metrics: the file that is cut back to a checkpoint when a run resumes.
        tensorboard: None for none.

    Raises:
        UserError: from any method, if something cannot be written.
    """

    def __init__(
        self, metrics: JsonLinesLogger, tensorboard: TensorBoardLogger | None = None
    ) -> None:
        self.metrics = metrics
        self.tensorboard = tensorboard

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write the values of one step: ``[S]``, one for each seed, or a number without a seed.

        Args:
            step: updates in phase ``offline``, environment steps of each seed in ``online``.
            phase: ``offline`` or ``online``.
            values: by name, ``<group>/<name>``.
        """
        self.metrics.log(step, phase, values)
        if self.tensorboard is not None:
            self.tensorboard.log(step, phase, values)

    def histogram(self, name: str, values: np.ndarray, step: int, phase: str = "online") -> None:
        """The distribution of ``values``, of any shape; only TensorBoard shows it."""
        if self.tensorboard is not None:
            self.tensorboard.histogram(name, values, step, phase)

    def embedding(self, name: str, points: np.ndarray, labels: Sequence[str], step: int) -> None:
        """Points ``[N, D]`` with a label each, for TensorBoard's projector."""
        if self.tensorboard is not None:
            self.tensorboard.embedding(name, points, labels, step)

    def image(self, name: str, png: bytes, step: int) -> None:
        """A PNG; only TensorBoard shows it."""
        if self.tensorboard is not None:
            self.tensorboard.image(name, png, step)

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """The resolved configuration, as YAML and nested; only TensorBoard shows it."""
        if self.tensorboard is not None:
            self.tensorboard.configuration(text, settings)

    def flush(self) -> None:
        """Put everything on the disk."""
        self.metrics.offset()
        if self.tensorboard is not None:
            self.tensorboard.flush()

    def offset(self) -> int:
        """The size of ``metrics.jsonl`` in bytes, for a checkpoint to remember."""
        return self.metrics.offset()

    def close(self, finished: bool = False) -> None:
        """Close all files; ``finished`` says that the run came to its end."""
        self.metrics.close()
        if self.tensorboard is not None:
            self.tensorboard.close(finished)
