"""The report of ``jsrl attack``: a table, its numbers as JSON, and curves against the size."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.monitor.studies.attack_records import CLEAN, NAMES, Row, pooled
from jsrl.report.figures import COLOURS
from jsrl.report.tables import UNDEFINED, markdown_table

MARKERS = "os^Dvx+"


def write_attack_report(
    folder: Path,
    rows: Sequence[Row],
    of: Mapping[str, Any],
    level: float,
    transfer: Mapping[str, Any] | None = None,
) -> str:
    """Write ``attack.json``, ``attack.md`` and ``attack.png``.

    Args:
        folder: where.
        rows: of all seeds.
        of: what was attacked, and how, for the JSON.
        level: of each test.
        transfer: ``seeds``, ``epsilon`` and the ``matrix`` of changes; None without.

    Returns:
        The table, to print.
    """
    means = pooled(rows)
    record = {**of, "level": level, "rows": [row.as_record() for row in rows], "transfer": transfer}
    text = attack_table(means)
    if transfer is not None:
        text += "\n\n" + transfer_table(transfer)
    write_whole(folder / "attack.json", (json.dumps(record, indent=1) + "\n").encode())
    write_whole(folder / "attack.md", (text + "\n").encode())
    write_whole(folder / "attack.png", _curves(means, level))
    return text


def attack_table(rows: Sequence[Row]) -> str:
    """A line for each attack at each size; behind the measures the share of windows rejected."""
    measures, families = _columns(rows)
    header = ["attack", "epsilon", *(NAMES[name] for name in measures)]
    header += [f"{name} rejects" for name in families]
    lines = []
    for row in rows:
        own = [row.measures.get(name) for name in measures]
        own += [row.rejected.get(name) for name in families]
        lines.append([row.attack, f"{row.epsilon:g}", *map(_number, own)])
    return markdown_table(header, lines)


def transfer_table(transfer: Mapping[str, Any]) -> str:
    """The change of each seed's answers by the attack that was made on each seed."""
    seeds = transfer["seeds"]
    lines = [
        [f"made on seed {seed}", *map(_number, changes)]
        for seed, changes in zip(seeds, transfer["matrix"], strict=True)
    ]
    head = f"Change of answers at epsilon {transfer['epsilon']:g}"
    return markdown_table([head, *(f"on seed {seed}" for seed in seeds)], lines)


def _columns(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The measures that are defined in any row, and the families."""
    measures = [name for name in NAMES if any(row.measures.get(name) is not None for row in rows)]
    return measures, list(dict.fromkeys(name for row in rows for name in row.rejected))


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3g}"


def _curves(rows: Sequence[Row], level: float) -> bytes:
    """A panel for each measure with a line for each attack; one for who notices each attack."""
    measures, families = _columns(rows)
    kinds = [kind for kind in dict.fromkeys(row.attack for row in rows) if kind != CLEAN]
    figure = new_figure(3.0 * (len(measures) + len(kinds)), 3.2)
    axes = figure.subplots(1, len(measures) + len(kinds), squeeze=False)[0]
    for axis, name in zip(axes, measures, strict=False):
        for number, kind in enumerate(kinds):
            sizes, values = _curve(rows, kind, lambda row, name=name: row.measures.get(name))
            _line(axis, sizes, values, number, kind)
        if name == "success":
            axis.set_ylim(-0.03, 1.03)
        axis.set_title(NAMES[name], fontsize=9)
    for axis, kind in zip(axes[len(measures) :], kinds, strict=True):
        for number, family in enumerate(families):
            sizes, values = _curve(rows, kind, lambda row, name=family: row.rejected.get(name))
            _line(axis, sizes, values, number, family)
        axis.axhline(level, color="#777777", lw=0.8, ls=":")
        axis.set_ylim(-0.03, 1.03)
        axis.set_title(f"windows rejected: {kind}", fontsize=9)
    for axis in axes:
        axis.set_xlabel("epsilon", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=7, frameon=False)
    return png(figure)


def _curve(rows: Sequence[Row], kind: str, value: Any) -> tuple[list[float], list[float]]:
    """Sizes in their order, from the row without an attack, and what each has."""
    own = sorted((r for r in rows if r.attack in (CLEAN, kind)), key=lambda row: row.epsilon)
    found = [value(row) for row in own]
    return [row.epsilon for row in own], [np.nan if v is None else v for v in found]


def _line(
    axis: Any, sizes: Sequence[float], values: Sequence[float], number: int, label: str
) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    axis.plot(sizes, values, color=colour, marker=marker, ms=4, lw=1.2, label=label)
