"""The report of a sweep, from its records: tables, CSV, figures, and a page for TensorBoard."""

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from jsrl.errors import UserError
from jsrl.files import read_findings, write_whole
from jsrl.report import UNDEFINED, markdown_table
from jsrl.reproducibility.compare import (
    BASELINE,
    Estimate,
    Row,
    load_cells,
    measures_of,
    rows_of,
)
from jsrl.reproducibility.figures import draw_activations, draw_plane, draw_slices
from jsrl.reproducibility.records import RECORD

Rows = list[list[str]]


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
        folder: with a folder for each cell.
        output: where to; if it is another folder, the records are copied to ``raw``.
        command: what was typed.

    Returns:
        The table of the primary difference.

    Raises:
        UserError: likewise.
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
    captions = {
        "plane.png": "Difference between replicas against the score",
        "activations.png": "Activations and their derivatives",
        "slices.png": "Loss along a line through the weights",
    }
    sections = [
        f"# {title}",
        *read_findings(output),
        f"## {primary}",
        table,
        *(f"![{captions[name]}]({name})" for name, drawn in figures if drawn),
        "## Every difference, as a ratio to ReLU's",
        _ratios(rows),
        _reading(cells),
        *_failed(cells),
        *_making(cells),
        f"## Repeat\n\n```\n{command}\n```",
    ]
    write_whole(output / "README.md", ("\n\n".join(sections) + "\n").encode())
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


def _ratios(rows: Mapping[str, Sequence[Row]]) -> str:
    """A column for each difference, a line for each cell but ReLU's own."""
    found: dict[str, dict[str, str]] = {}
    places: dict[str, list[str]] = {}
    for measure, own in rows.items():
        for row in own:
            if row.ratio is not None:
                cell = row.record["cell"]
                places[cell] = [row.level, "yes" if row.norm else "no", row.label]
                found.setdefault(cell, {})[measure] = _text(row.ratio, ".2f")
    body = [[*places[c], *(values.get(m, UNDEFINED) for m in rows)] for c, values in found.items()]
    return markdown_table(["level", "LayerNorm", "activation", *rows], body)


def _reading(cells: Sequence[Mapping[str, Any]]) -> str:
    between = sorted({str(cell["updates_between"]) for cell in cells})
    lines = [
        f"{cells[0]['replicas']} replicas of each activation; those of one number have the same "
        "raw draws under every activation.",
        "Level: what differs between replicas; all else is held equal (`jsrl/nondeterminism.py`).",
        "Difference: mean over pairs of replicas. In brackets: 95 % percentile-bootstrap "
        "intervals over replicas, pairs of one with itself left out; ratios are taken within a "
        "resample, of the same replicas of both.",
        "`prediction`: |p₁ - p₂| / |(p₁ + p₂)/2|; `action`: |a₁ - a₂| / (high - low); `value`, "
        "`critic`: |Q₁ - Q₂| / interquartile range of the mean Q; `rank`: share of pairs of "
        "examples in opposite order; `choice`: share of examples with another class; `success`, "
        "`return`: by the range of scores.",
        "`held_out`: states or examples that nobody learnt from; `visited`: equally many states "
        "from episodes of each replica, all from the same start states.",
        f"Churn: the same difference between a replica and itself, {' or '.join(between)} updates "
        "before the end: a floor, not a part.",
        "P(better than ReLU): the share of pairs of replicas in which this activation's score is "
        "better, ties counting half. A collapsed policy differs in nothing: read the difference "
        "and the score together.",
    ]
    return "## How to read it\n\n" + "\n".join(f"- {line}" for line in lines)


def _failed(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    failed = [f"`{c['cell']}` replicas {c['failed']}" for c in cells if c["failed"]]
    if not failed:
        return []
    return [f"Left out, since their numbers were no longer finite: {'; '.join(failed)}."]


def _making(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    hours = sum(cell["wall_seconds"] for cell in cells) / 3600
    seen: dict[str, dict[str, None]] = {}
    for cell in cells:
        for name, version in cell["versions"].items():
            seen.setdefault(name, {})[str(version)] = None
    return [
        "## Cost",
        f"{len(cells)} cells: {hours:.2f} hours in all, added up over processes.",
        "## Versions",
        markdown_table(["package", "version"], [[n, ", ".join(v)] for n, v in seen.items()]),
    ]


def _csv(rows: Mapping[str, Sequence[Row]]) -> str:
    """One line for each cell and difference; nothing where a number is undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("difference", "ratio", "score", "improvement")
    columns = [f"{n}{end}" for n in numbers for end in ("", "_low", "_high")]
    writer.writerow(
        ["task", "level", "layer_norm", "activation", "measure", "churn", "scored_by", *columns]
    )
    for measure, own in rows.items():
        for row in own:
            estimates = (row.difference, row.ratio, row.scores, row.improvement)
            values = [v for e in estimates for v in _numbers(e)]
            churn = "" if row.churn is None else f"{row.churn:.6g}"
            place = [row.record["task"], row.level, str(row.norm).lower(), row.label, measure]
            writer.writerow([*place, churn, row.score or "", *values])
    return text.getvalue()


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
