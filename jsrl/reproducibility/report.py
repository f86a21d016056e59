"""The report of a sweep, from its records: tables, CSV, figures, and a page for TensorBoard."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from jsrl.core.errors import UserError
from jsrl.core.files import csv_text, read_findings, write_whole
from jsrl.report.tables import UNDEFINED, Lines, markdown_table, version_lines
from jsrl.report.templates import render_markdown
from jsrl.reproducibility.cell_file import RECORD
from jsrl.reproducibility.compare import (
    BASELINE,
    Estimate,
    Row,
    load_cells,
    measures_of,
    rows_of,
)
from jsrl.reproducibility.figures import draw_activations, draw_plane, draw_slices

CAPTIONS = {
    "plane.png": "Difference between replicas against the score",
    "activations.png": "Activations and their derivatives",
    "slices.png": "Loss along a line through the weights",
}


def write_reports(
    base: Path, output: Path | None, command: str, task: str | None = None
) -> list[str]:
    """Write the report of a task's sweep, or of every one below a folder.

    Args:
        base: the folder of ``run_dir``, with a folder for each task.
        output: where to, each task in a folder of its own; None is beside the cells.
        command: what was typed, as the reports state it.
        task: whose report; None for all.

    Returns:
        Lines for the terminal: the tables, and where the reports are.

    Raises:
        UserError: if records do not fit together, or the output cannot be written.
    """
    found = sorted({path.parents[1] for path in base.glob(f"*/*/{RECORD}")})
    folders = [folder for folder in found if task is None or folder.name == task]
    lines = []
    for folder in folders:
        target = folder if output is None else output / folder.name
        lines += [write_report(folder, target, command), f"\nthe report: {target / 'README.md'}"]
    return lines


def write_report(folder: Path, output: Path, command: str) -> str:
    """Write ``README.md``, ``table.csv`` and the figures, and ``tensorboard/`` beside the cells.

    Args:
        folder: the folder of the sweep, with a folder for each cell.
        output: where the report is written; in another folder, the records are copied to ``raw``.
        command: what was typed, as the report states it.

    Returns:
        The table of the primary difference.

    Raises:
        UserError: if records do not fit together, or the output cannot be written.
    """
    cells = load_cells(folder)
    if output != folder:
        for cell in cells:
            content = (folder / cell["cell"] / RECORD).read_bytes()
            write_whole(output / "raw" / f"{cell['cell']}.json", content)
    measures = measures_of(cells)
    rows = {measure: rows_of(cells, measure) for measure in measures}
    primary = measures[0]
    write_whole(output / "table.csv", _csv(rows).encode())
    title = f"Reproducibility: {cells[0]['task']}"
    figures = [("plane.png", draw_plane(output / "plane.png", rows[primary], title))]
    draw_activations(output / "activations.png", cells)
    figures += [("activations.png", True)]
    figures += [("slices.png", draw_slices(output / "slices.png", cells))]
    _write_tensorboard(folder / "tensorboard", rows[primary])
    table = _table(rows[primary])
    content = {
        "title": title,
        "findings": read_findings(output),
        "primary": primary,
        "table": table,
        "figures": [{"file": name, "caption": CAPTIONS[name]} for name, drawn in figures if drawn],
        "measures": list(rows),
        "ratios": _ratios(rows),
        "replicas": cells[0]["replicas"],
        "updates_between": sorted({str(cell["updates_between"]) for cell in cells}),
        "failed": [{"cell": c["cell"], "replicas": c["failed"]} for c in cells if c["failed"]],
        "cells": len(cells),
        "hours": f"{sum(cell['wall_seconds'] for cell in cells) / 3600:.2f}",
        "versions": version_lines(cell["versions"] for cell in cells),
        "command": command,
    }
    report = render_markdown("jsrl.reproducibility", "report.md.j2", content)
    write_whole(output / "README.md", report.encode())
    return f"{cells[0]['task']}: {primary}\n{table}"


def _table(rows: Sequence[Row]) -> str:
    score = next((row.score for row in rows if row.score), "score")
    header = [
        *("level", "LayerNorm", "activation", "difference", "ratio to ReLU"),
        *("churn", score, "P(better than ReLU)"),
    ]
    body = [
        [
            *(row.level, "yes" if row.norm else "no", row.label),
            *(_text(row.difference, ".3g"), _text(row.ratio, ".2f")),
            UNDEFINED if row.churn is None else f"{row.churn:.3g}",
            *(_text(row.scores, ".3g"), _text(row.improvement, ".2f")),
        ]
        for row in rows
    ]
    return markdown_table(header, body)


def _ratios(rows: Mapping[str, Sequence[Row]]) -> Lines:
    """A line for each cell but ReLU's own, with a ratio for each difference."""
    found: dict[str, dict[str, str]] = {}
    places: dict[str, list[str]] = {}
    for measure, own in rows.items():
        for row in own:
            if row.ratio is not None:
                cell = row.record["cell"]
                places[cell] = [row.level, "yes" if row.norm else "no", row.label]
                found.setdefault(cell, {})[measure] = _text(row.ratio, ".2f")
    return [[*places[c], *(values.get(m, UNDEFINED) for m in rows)] for c, values in found.items()]


def _csv(rows: Mapping[str, Sequence[Row]]) -> str:
    """One line for each cell and difference; nothing where a number is undefined."""
    numbers = ("difference", "ratio", "score", "improvement")
    columns = [f"{n}{end}" for n in numbers for end in ("", "_low", "_high")]
    place = ["task", "level", "layer_norm", "activation", "measure"]
    lines = [[*place, "churn", "scored_by", *columns]]
    for measure, own in rows.items():
        for row in own:
            estimates = (row.difference, row.ratio, row.scores, row.improvement)
            values = [v for e in estimates for v in _numbers(e)]
            churn = "" if row.churn is None else f"{row.churn:.6g}"
            place = [row.record["task"], row.level, str(row.norm).lower(), row.label, measure]
            lines.append([*place, churn, row.score or "", *values])
    return csv_text(lines)


def _numbers(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["", "", ""]
    low, high = estimate.interval or (None, None)
    return ["" if v is None else f"{v:.6g}" for v in (estimate.value, low, high)]


def _text(estimate: Estimate | None, style: str) -> str:
    if estimate is None:
        return UNDEFINED
    if estimate.interval is None:
        return f"{estimate.value:{style}}"
    low, high = estimate.interval
    return f"{estimate.value:{style}} [{low:{style}}, {high:{style}}]"


def _write_tensorboard(folder: Path, rows: Sequence[Row]) -> None:
    """A run for each cell, whose settings and results the hyper-parameters tab compares."""
    try:
        # Event files are named by the clock: those of an earlier report would stay beside.
        shutil.rmtree(folder, ignore_errors=True)
        for row in rows:
            settings = {"activation": row.label, "layer_norm": row.norm, "level": row.level}
            results = {f"difference/{row.measure}": row.difference.value}
            if row.ratio is not None:
                results[f"ratio to {BASELINE}/{row.measure}"] = row.ratio.value
            if row.scores is not None:
                results[f"score/{row.score}"] = row.scores.value
            with SummaryWriter(str(folder / row.record["cell"])) as writer:
                for summary in hparams(settings, results):
                    writer._get_file_writer().add_summary(summary)
                for name, value in results.items():
                    writer.add_scalar(name, value)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
