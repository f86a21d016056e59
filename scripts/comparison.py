"""What the scripts that compare jsrl with other libraries share: tables of seeds, and intervals."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats


@contextmanager
def open_table(path: Path, row: type, versions: dict[str, Any]) -> Iterator[Callable[[Any], None]]:
    """Write dataclasses as lines of a CSV file, and ``versions.json`` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(row)], lineterminator="\n")
        writer.writeheader()

        def write(one: Any) -> None:
            writer.writerow(asdict(one))
            file.flush()

        yield write


def read_table(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file that ``open_table`` has written."""
    if not path.exists():
        raise SystemExit(f"{path} is not there; run the commands that write it first")
    with path.open() as lines:
        return list(csv.DictReader(lines))


def processor() -> str:
    """The name that Linux gives the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def interval(values: list[float]) -> tuple[float, float]:
    """The 95 % t-interval of the mean."""
    error = stats.sem(values)
    if error == 0:
        return values[0], values[0]
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    return float(low), float(high)
