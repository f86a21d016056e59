"""What the files of a run directory are made of: metric records, flat settings, whole files."""

import itertools
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jsrl.core.errors import UserError

Values = Mapping[str, Sequence[float] | np.ndarray | float]
"""Named values of one step: ``[S]``, one for each seed, or a plain number without a seed."""


class Record(NamedTuple):
    """One line of ``metrics.jsonl``.

    ``step`` counts updates in phase ``offline`` and environment steps of a seed in ``online``.
    ``seed`` is None for what belongs to no seed (throughput, memory), ``value`` is None where the
    value was NaN or infinite.
    """

    step: int
    phase: str
    seed: int | None
    name: str
    value: float | None


def read_records(path: Path) -> list[Record]:
    """The records of a ``metrics.jsonl``. A last line that a killed run left unfinished is skipped.

    Raises:
        UserError: if the file cannot be read, or a line is not a record.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UserError(
            f"{path}: cannot be read ({reason}), expected the metrics of a run; restore the file"
        ) from error
    try:
        return list(itertools.chain.from_iterable(_parsed_together(lines[:-1])))
    except (ValueError, KeyError, TypeError):
        # One by one, to name the line that is wrong.
        return _parsed_one_by_one(path, lines[:-1])


LINES_AT_A_TIME = 4096
"""One call of the parser for so many is several times as fast as one for each of them."""


def _parsed_together(lines: Sequence[str]) -> Iterator[Iterator[Record]]:
    fields = operator.itemgetter(*Record._fields)
    for start in range(0, len(lines), LINES_AT_A_TIME):
        some = lines[start : start + LINES_AT_A_TIME]
        entries = json.loads(f"[{','.join(some)}]")
        if len(entries) != len(some):
            raise ValueError("a line is not one object")
        yield map(Record._make, map(fields, entries))


def _parsed_one_by_one(path: Path, lines: Sequence[str]) -> list[Record]:
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            records.append(Record(*(entry[field] for field in Record._fields)))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: line {number} is {line[:60]!r}, expected an object with "
                f"{', '.join(Record._fields)}; restore the file or repeat the run"
            ) from error
    return records


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | None]:
    """Nested settings as one level with dotted keys; lists and booleans become text."""
    flat: dict[str, str | int | float | None] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, bool | list | tuple):
            flat[f"{prefix}{key}"] = json.dumps(value, default=str)
        else:
            flat[f"{prefix}{key}"] = value
    return flat
