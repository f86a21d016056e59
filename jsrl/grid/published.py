"""What the paper reports, to stand beside what a grid finds."""

import csv
import io
from dataclasses import dataclass
from importlib.resources import files

SOURCES = {
    "table1": "Uchendu et al., ICML 2023 (arXiv 2204.02372), Table 1",
    "warm_against_cold": "Uchendu et al., ICML 2023 (arXiv 2204.02372), Tables 3 to 10",
}
"""The files in ``tables``, and where their numbers come from."""

ROW = ("environment", "offline_transitions")
SCALE = 100.0
"""The paper prints scores in 0 to 100; ``Published`` holds shares of 1."""


@dataclass(frozen=True)
class Published:
    """A published figure: mean and standard deviation over seeds, in [0, 1].

    ``std`` is None where a single seed was run.
    """

    mean: float
    std: float | None
    source: str


def columns() -> list[str]:
    """The methods that figures are published of."""
    found = []
    for table in SOURCES:
        for name in _rows(table)[0]:
            if name not in ROW and not name.endswith("_std"):
                found.append(name.removesuffix("_mean"))
    return found


def environments() -> list[str]:
    """The environments that figures are published of."""
    rows = (row for table in SOURCES for row in _rows(table))
    return list(dict.fromkeys(row["environment"] for row in rows))


def published(environment: str, transitions: int, column: str) -> Published | None:
    """The published figure of a method; None where there is none.

    Args:
        environment: as the paper calls it, ``antmaze-umaze-v0`` say.
        transitions: of offline data.
        column: one of ``columns()``.
    """
    for table, source in SOURCES.items():
        for row in _rows(table):
            mean = row.get(f"{column}_mean", row.get(column))
            if mean is None or (environment, str(transitions)) != tuple(row[k] for k in ROW):
                continue
            std = row.get(f"{column}_std")
            return Published(
                float(mean) / SCALE, None if std is None else float(std) / SCALE, source
            )
    return None


def _rows(table: str) -> list[dict[str, str]]:
    text = files("jsrl.grid").joinpath("tables", f"{table}.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(io.StringIO("\n".join(lines))))
