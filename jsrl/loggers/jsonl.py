"""Metrics as one JSON object a line, in a file that can be cut back to a checkpoint."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jsrl.loggers.appended import AppendedFile
from jsrl.loggers.metrics import Record, Values


class JsonLinesLogger:
    """Appends records to ``metrics.jsonl``; every one is written when ``log`` returns.

    Args:
        path: the file; it is created if need be, and appended to.
        seeds: the seeds ``[S]``, in the order of the values to come.

    Raises:
        UserError: if the file cannot be opened, here, or written, in any method.
    """

    def __init__(self, path: Path, seeds: Sequence[int]) -> None:
        self.path = path
        self.seeds = tuple(seeds)
        self._file = AppendedFile(path)

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write one record for each seed of a sequence ``[S]``, and one for a plain number."""
        lines = []
        for name, value in values.items():
            for record in records_of(step, phase, name, value, self.seeds):
                lines.append(json.dumps(record._asdict(), allow_nan=False) + "\n")
        self._file.append("".join(lines))

    def offset(self) -> int:
        """The size of the file in bytes, all of it on the disk: for a checkpoint to remember."""
        return self._file.offset()

    def truncate(self, offset: int) -> None:
        """Drop what was written after ``offset``: the resumed run writes it again.

        Raises:
            UserError: if the file is shorter, so that records before the checkpoint are missing.
        """
        self._file.truncate(offset)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()


def records_of(
    step: int,
    phase: str,
    name: str,
    value: Sequence[float] | np.ndarray | float,
    seeds: Sequence[int],
) -> list[Record]:
    """The records of one named value.

    Raises:
        ValueError: if a sequence has not one entry a seed.
    """
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        return [Record(step, phase, None, name, _finite(float(array)))]
    if array.shape != (len(seeds),):
        raise ValueError(f"{name}: shape {array.shape}, expected one entry for each of {seeds}")
    return [
        Record(step, phase, seed, name, _finite(entry))
        for seed, entry in zip(seeds, array.tolist(), strict=True)
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
