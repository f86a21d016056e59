"""Measurements as a table to read and as files to keep."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from jsrl.core.errors import UserError
from jsrl.core.files import write_whole
from jsrl.run.summary import versions

NOTES = (
    "An update with S seeds counts S times: rates are updates of a seed per second.",
    "Everything ran on one CPU thread, the variants in turn within each round; rates are medians "
    "over the rounds and ratios are medians of the ratio within a round.",
    "Compare ratios within one run: rates of different runs also differ by what else the machine "
    "was doing.",
)


@dataclass(frozen=True)
class Measurement:
    """One measured number, and the bound that it should keep, if any."""

    section: str
    name: str
    value: float | None
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the bound is kept; None without a bound or a value."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


def collect_results(measurements: Sequence[Measurement], notes: Sequence[str]) -> dict[str, Any]:
    """Everything that a reader needs to repeat the measurements, as plain values."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": versions(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "notes": [*NOTES, *notes],
        "measurements": [asdict(m) | {"reached": m.reached} for m in measurements],
    }


def render(results: dict[str, Any]) -> str:
    """The results as Markdown, which reads as well on a terminal."""
    versions_used = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    lines = [
        f"`{results['command']}`",
        "",
        f"{results['cpu']}, {results['threads']} thread; {versions_used}",
    ]
    for section, rows in groupby(results["measurements"], key=lambda row: row["section"]):
        cells = [(row["name"], _number(row), _bound(row)) for row in rows]
        width = max(len(name) for name, _, _ in cells)
        lines += ["", f"| {section:<{width}} | {'measured':>16} | {'aim':<18} |"]
        lines += [f"|{'-' * (width + 2)}|{'-' * 17}:|{'-' * 20}|"]
        lines += [f"| {name:<{width}} | {value:>16} | {aim:<18} |" for name, value, aim in cells]
    return "\n".join([*lines, "", *(f"- {note}" for note in results["notes"])])


def prepare_folder(directory: Path) -> None:
    """Make the folder for the results. Raises UserError before time is spent on measuring."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"output={directory} cannot be made a folder: {error.strerror}; choose another"
        ) from error


def write(results: dict[str, Any], directory: Path) -> None:
    """``benchmark.json`` and ``benchmark.md``. Raises UserError if they cannot be written."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    write_whole(directory / "benchmark.json", f"{text}\n".encode())
    write_whole(directory / "benchmark.md", f"# Speed\n\n{render(results)}\n".encode())


def cpu_name() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({os.cpu_count()} cores)"
    return platform.processor() or platform.machine()


def _number(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "not measured"
    value = row["value"]
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{digits} {row['unit']}".strip()


def _bound(row: dict[str, Any]) -> str:
    if row["at_least"] is None and row["at_most"] is None:
        return ""
    sign, bound = ("≥", row["at_least"]) if row["at_least"] is not None else ("≤", row["at_most"])
    verdict = {True: "reached", False: "missed", None: "not measured"}[row["reached"]]
    return f"{sign} {bound:g}: {verdict}"
