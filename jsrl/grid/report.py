"""The report of a grid, from its records alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsrl.core.files import csv_text, read_findings, write_whole
from jsrl.grid.compare import Comparison, compare
from jsrl.grid.config import GridConfig
from jsrl.grid.costs import costs
from jsrl.grid.csv_rows import curve_rows, seed_rows, summary_rows
from jsrl.grid.figures import draw_cell, draw_improvement
from jsrl.grid.never_behind_report import never_behind_content
from jsrl.grid.plan import GUIDE
from jsrl.grid.protocol import protocol
from jsrl.grid.report_tables import (
    Table,
    arms_table,
    comparisons_table,
    costs_table,
    readable,
    seeds_table,
)
from jsrl.grid.results import Result, cell_results, load_results, other_guides
from jsrl.report.tables import version_lines
from jsrl.report.templates import render_markdown

RANGES = {"success": ", in [0, 1]", "length": ", in environment steps"}


def write_report(grid: GridConfig, output: Path, command: str) -> str:
    """Write ``README.md``, ``table.csv``, ``per_seed.csv``, ``curves.csv`` and the figures.

    Args:
        grid: what was asked for.
        output: the folder that holds ``raw``.
        command: what to type to repeat the grid.

    Returns:
        The cells' tables, for the terminal.

    Raises:
        UserError: if there are no records, they do not fit together, or the output cannot be
            written.
    """
    results = load_results(grid, output)
    comparisons = compare(results, grid.comparisons, grid.measure)
    _write_numbers(output, results, grid.measure)
    begun = [r for r in results if any(o.records for o in cell_results(results, r.cell))]
    content = {
        "title": grid.title,
        "findings": read_findings(output),
        "measure": readable(grid.measure),
        "range": RANGES.get(grid.measure, ""),
        "notes": grid.notes,
        "cells": [
            _cell(grid, cell, results, output)
            for cell in dict.fromkeys(result.cell for result in begun)
        ],
        "seeds": seeds_table(begun, grid.measure),
        "command": command,
        **_missing(results),
        **_comparisons(comparisons, grid.measure, output),
        "costs": _costs(begun, grid.measure),
        "bar": never_behind_content(grid, results, output),
        **_published(results, comparisons),
        **protocol(results),
        **_making(results),
    }
    write_whole(
        output / "README.md", render_markdown("jsrl.grid", "report.md.j2", content).encode()
    )
    return render_markdown("jsrl.grid", "terminal.md.j2", content).rstrip()


def _write_numbers(output: Path, results: Sequence[Result], measure: str) -> None:
    for name, rows in (
        ("table.csv", summary_rows(results, measure)),
        ("per_seed.csv", seed_rows(results)),
        ("curves.csv", curve_rows(results)),
    ):
        write_whole(output / name, csv_text(rows).encode())


def _missing(results: Sequence[Result]) -> dict[str, Any]:
    """The runs that are not finished, those that failed, and those with a guide of their own."""
    own = [result for result in results if not result.borrowed]
    begun = {r.cell for r in own if r.records}
    return {
        "unfinished": sum(len(r.missing) for r in own),
        "wanted": sum(len(r.seeds) for r in own),
        "missing": {r.name: r.missing for r in own if r.missing and r.cell in begun},
        "not_begun": list(dict.fromkeys(r.cell for r in own if r.cell not in begun)),
        "failed": {r.name: r.failed for r in own if r.failed},
        "guided_otherwise": other_guides(results),
    }


def _comparisons(comparisons: Sequence[Comparison], measure: str, output: Path) -> dict[str, Any]:
    """The table of the comparisons, and whether there is a figure of them."""
    return {
        "comparisons": comparisons_table(comparisons, measure),
        "improvement_is_drawn": bool(comparisons)
        and draw_improvement(output / "improvement.png", comparisons),
    }


def _cell(grid: GridConfig, cell: str, results: Sequence[Result], output: Path) -> dict[str, Any]:
    """Table and learning curves of one cell."""
    own = cell_results(results, cell)
    figure = f"learning_curve_{cell}.png"
    drawn = draw_cell(output / figure, own, grid.measure, f"{grid.title}\n{cell}")
    return {
        "name": cell,
        "arms": arms_table(own, grid.measure),
        "figure": figure if drawn else None,
    }


def _costs(results: Sequence[Result], measure: str) -> Table:
    """The table of what evaluations cost, cell by cell; empty where no run has counted."""
    cells = dict.fromkeys(result.cell for result in results)
    found = [cost for cell in cells for cost in costs(cell_results(results, cell), measure)]
    return costs_table(found, measure)


def _published(results: Sequence[Result], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Where published figures come from, and whether the comparisons use them."""
    return {
        "sources": list(dict.fromkeys(r.published.source for r in results if r.published)),
        "published_is_compared": any(c.implied is not None for c in comparisons),
    }


def _making(results: Sequence[Result]) -> dict[str, Any]:
    """How long it took, and with what."""
    records = [r for result in results if not result.borrowed for r in result.records.values()]
    hours = sum(r["wall_seconds"] / len(r["run_seeds"]) for r in records) / 3600
    return {
        "runs": len(records),
        "pretrainings": sum(r["arm"] == GUIDE for r in records),
        "hours": f"{hours:.1f}",
        "versions": version_lines(record["versions"] for record in records),
    }
