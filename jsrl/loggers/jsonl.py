"""Metrics as one JSON object a line, in a file that can be cut back to a checkpoint."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jsrl.errors import UserError
from jsrl.loggers.records import Record, Values


class JsonLinesLogger:
    """Appends records to ``metrics.jsonl``.

    The file is unbuffered: every record is with the operating system when ``log`` returns, and a
    write that failed leaves nothing behind to be tried again when the file is closed.

    Args:
        path: the file; it is created if need be, and appended to.
        seeds: the seeds ``[S]``, in the order of the values to come.

    Raises:
        UserError: if the file cannot be opened, here, or written, in any method.
    """

    def __init__(self, path: Path, seeds: Sequence[int]) -> None:
        self.path = path
        self.seeds = tuple(seeds)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._failure(error) from error

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write one record for each seed of a sequence ``[S]``, and one for a plain number."""
        lines = []
        for name, value in values.items():
            for record in records_of(step, phase, name, value, self.seeds):
                lines.append(json.dumps(record._asdict(), allow_nan=False) + "\n")
        rest = memoryview("".join(lines).encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._failure(error) from error

    def offset(self) -> int:
        """The size of the file in bytes, all of it on the disk: for a checkpoint to remember."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failure(error) from error
        return self._file.seek(0, os.SEEK_END)

    def truncate(self, offset: int) -> None:
        """Drop what was written after ``offset``: the resumed run writes it again.

        Raises:
            UserError: if the file is shorter, so that records before the checkpoint are missing.
        """
        size = self._file.seek(0, os.SEEK_END)
        if size < offset:
            raise UserError(
                f"{self.path}: has {size} bytes, expected at least the {offset} that the checkpoint"
                " recorded; restore the file or start in a new run_dir"
            )
        try:
            self._file.truncate(offset)
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()

    def _failure(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path}: cannot be written ({error.strerror}); free space or make the folder"
            " writable, then run the same command again to resume"
        )


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
