"""Learning curves as PNG files, drawn without a display and without matplotlib's global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.loggers.metrics import Record
from jsrl.statistics import bootstrap_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers (Okabe and Ito, Color Universal Design)."""

STYLES = {
    "exploration": {"color": COLOURS[0], "marker": "o", "zorder": 4},
    "combined": {"color": COLOURS[1], "marker": "s", "zorder": 3},
}
GUIDE_COLOUR = "0.25"  # dark grey and dashed, as it does not learn: no experiment is drawn so
LINE_STYLES = ("-", "--", "-.", ":")
INCHES = (6.0, 4.0)
LEGEND_ROW_INCHES = 0.17
LEGEND_LETTERS = 90  # of a row, the samples of the lines included
RESAMPLES = 2_000  # of the bands; enough for a line's width, and quick at every point
MOST_MARKERS = 30
AXIS_NAMES = {
    "success": "success rate",
    "return": "return",
    "length": "episode length (steps)",
    "normalized_score": "normalised score",
}

Curve = tuple[Int[np.ndarray, " T"], Float[np.ndarray, "S T"]]
"""Environment steps ``[T]``, and a value for each seed ``[S, T]``, NaN where there is none."""


def curve(metrics: Sequence[Sequence[Record]], name: str, phase: str | None = "online") -> Curve:
    """The values of ``name`` over steps, the seeds of several runs one below the other.

    Args:
        metrics: the records of each run; equal seeds of different runs stay apart.
        name: ``<group>/<name>``.
        phase: only the records of this phase; None for all.
    """
    found: dict[tuple[int, int | None], dict[int, float]] = {}
    for run, records in enumerate(metrics):
        for record in records:
            if record.name == name and phase in (None, record.phase):
                value = np.nan if record.value is None else record.value
                found.setdefault((run, record.seed), {})[record.step] = value
    steps = np.array(sorted({step for values in found.values() for step in values}), dtype=int)
    rows = [[values.get(int(step), np.nan) for step in steps] for values in found.values()]
    return steps, np.array(rows, dtype=float).reshape(len(found), len(steps))


def learning_curve(
    path: Path,
    records: Sequence[Record],
    title: str,
    guide_interval: Mapping[str, Sequence[float] | None] | None = None,
) -> None:
    """Draw a run: success (else return) of the three policies, guide steps h, curriculum stage.

    The guide does not learn: its evaluation is a horizontal line. Lines are means over
    seeds, bands the bootstrap 95 % interval of the mean; h and stage are drawn for each seed.

    Args:
        path: the PNG to write, 900 x 600 pixels.
        records: those of the run's ``metrics.jsonl``.
        title: what stands above, the experiment's name.
        guide_interval: by measure, of the guide over its episodes: the band of a single seed.

    Raises:
        UserError: if the file cannot be written.
    """
    measure = _measure([records])
    guide_steps, stages = (
        curve([records], name) for name in ("curriculum/guide_steps", "curriculum/stage")
    )
    has_curriculum = len(guide_steps[0]) > 0
    figure, panels = _panels([3.0, 1.0, 0.8] if has_curriculum else [1.0])
    upper = panels[0]
    seeds = 0
    for policy in ("exploration", "combined"):
        steps, values = curve([records], f"evaluation/{policy}_{measure}")
        seeds = max(seeds, len(values))
        _mean_and_band(upper, steps, values, f"{policy}-policy", **STYLES[policy])
    _guide_line(
        upper,
        curve([records], f"evaluation/guide_{measure}", None)[1],
        (guide_interval or {}).get(measure),
    )
    _name_axis(upper, measure)
    if has_curriculum:
        _each_seed(panels[1], *guide_steps, "guide\nsteps h")
        _each_seed(panels[2], *stages, "curriculum\nstage")
    several = f" ({seeds} seeds)" if seeds > 1 else ""
    _finish(figure, panels, title + several, seeds, path)


def comparison(
    path: Path, runs: Mapping[str, Sequence[Sequence[Record]]], title: str = "Exploration-policy"
) -> None:
    """Draw the exploration-policy's success (else return) of several experiments.

    Args:
        path: the PNG to write, 900 pixels wide and 600 high, more for a long legend.
        runs: for each experiment the records of its runs; their seeds are pooled.
        title: what stands above.

    Raises:
        UserError: if the file cannot be written.
    """
    measure = _measure([records for metrics in runs.values() for records in metrics])
    name = f"evaluation/exploration_{measure}"
    curves = {}
    for label, metrics in runs.items():
        steps, values = curve(metrics, name)
        seeds = f"{len(values)} seed{'s' if len(values) > 1 else ''}"
        curves[f"{label} ({seeds if len(steps) else 'not evaluated'})"] = steps, values
    several_curves(path, curves, measure, title)


def several_curves(
    path: Path,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    measure: str,
    title: str,
    guide: Sequence[float] = (),
    guide_steps: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> None:
    """Draw one measure of several experiments, and below it, if given, their guide steps h.

    Args:
        path: the PNG to write, 900 pixels wide and 600 high, more for a long legend.
        curves: for each line of the legend steps ``[T]`` and the values of its seeds ``[S, T]``.
        measure: which of ``AXIS_NAMES`` they are.
        title: what stands above.
        guide: the guide's value, one a seed, for a dashed line.
        guide_steps: h of those that have any, under the names that ``curves`` has.

    Raises:
        UserError: if the file cannot be written.
    """
    figure, panels = _panels([3.0, 1.0] if guide_steps else [1.0])
    for index, (label, (steps, values)) in enumerate(curves.items()):
        style = _style(index)
        _mean_and_band(panels[0], steps, values, label, marker="os^Dv<>"[index % 7], **style)
        if guide_steps and label in guide_steps:
            at, h = guide_steps[label]
            panels[1].step(at, np.nanmean(h, axis=0), where="post", linewidth=1.8, **style)
    if len(guide):
        _guide_line(panels[0], np.array(guide, dtype=float)[:, None])
    _name_axis(panels[0], measure)
    if guide_steps:
        highest = max(float(np.nanmax(h)) for _, h in guide_steps.values())
        panels[1].set_ylim(-0.06 * highest, 1.15 * highest)
        panels[1].set_ylabel("guide\nsteps h", fontsize=8)
        _few_whole_ticks(panels[1])
    _finish(figure, panels, title, max((len(v) for _, v in curves.values()), default=0), path)


def _style(index: int) -> dict[str, Any]:
    """Colour and line of the experiment at a place in the legend."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)],
    }


def _measure(metrics: Sequence[Sequence[Record]]) -> str:
    """``success`` where any run has one, else ``return``."""
    _, success = curve(metrics, "evaluation/exploration_success", None)
    return "success" if np.isfinite(success).any() else "return"


def _panels(heights: Sequence[float]) -> "tuple[Figure, list[Axes]]":
    figure = new_figure(*INCHES)
    panels = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights)
    )
    axes = list(panels[:, 0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
    return figure, axes


def _mean_and_band(
    axis: "Axes", steps: np.ndarray, values: np.ndarray, label: str, **style: object
) -> None:
    """A line for the mean over seeds and, for several seeds, a band for its 95 % interval."""
    columns = [column[np.isfinite(column)].tolist() for column in values.T]
    kept = [index for index, column in enumerate(columns) if column]
    if len(kept) > MOST_MARKERS:
        style.pop("marker", None)
    mean = [float(np.mean(columns[index])) for index in kept]
    axis.plot(steps[kept], mean, label=label, linewidth=1.8, markersize=3.5, **style)  # type: ignore[arg-type]
    bands = [bootstrap_interval(columns[index], resamples=RESAMPLES) for index in kept]
    low_high = np.array([band or [np.nan, np.nan] for band in bands]).reshape(-1, 2)
    if np.isfinite(low_high).any():
        axis.fill_between(
            steps[kept], low_high[:, 0], low_high[:, 1], color=style["color"], alpha=0.18, lw=0
        )


def _guide_line(axis: "Axes", values: np.ndarray, interval: Sequence[float] | None = None) -> None:
    """A dashed line at the guide's last evaluation, its mean over seeds; a band around it.

    The band is over the seeds, if there are several, else the interval that is given.
    """
    last = [row[np.isfinite(row)][-1] for row in values if np.isfinite(row).any()]
    if last:
        mean = float(np.mean(last))
        axis.axhline(mean, color=GUIDE_COLOUR, linestyle="--", linewidth=1.4, label="guide-policy")
        band = bootstrap_interval(last, resamples=RESAMPLES) or interval
        if band is not None:
            axis.axhspan(band[0], band[1], color=GUIDE_COLOUR, alpha=0.1, linewidth=0)


def _each_seed(axis: "Axes", steps: np.ndarray, values: np.ndarray, name: str) -> None:
    """A stair line for each seed, and where there are several, a bold one for their mean."""
    several = len(values) > 1
    for row in values:
        kept = np.isfinite(row)
        axis.step(
            steps[kept],
            row[kept],
            where="post",
            color=COLOURS[2],
            linewidth=1.0 if several else 1.8,
            alpha=0.45 if several else 1.0,
        )
    if several:
        kept = np.isfinite(values).any(axis=0)
        mean = np.nanmean(values[:, kept], axis=0)
        axis.step(steps[kept], mean, where="post", color=COLOURS[2], linewidth=1.8)
    axis.set_ylabel(name, fontsize=8)
    _few_whole_ticks(axis)
    highest = np.nanmax(values) if np.isfinite(values).any() else 0.0
    axis.set_ylim(-0.06 * max(highest, 1.0), 1.15 * max(highest, 1.0))  # a line at 0 is seen


def _few_whole_ticks(axis: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _name_axis(axis: "Axes", measure: str) -> None:
    axis.set_ylabel(AXIS_NAMES[measure], fontsize=9)
    if measure == "success":
        axis.set_ylim(-0.03, 1.03)


def _finish(figure: "Figure", panels: "list[Axes]", title: str, seeds: int, path: Path) -> None:
    """Title, what the lines are, axis of steps, legend beside the data, and the file."""
    from matplotlib.ticker import EngFormatter

    figure.suptitle(title, fontsize=11, fontweight="bold")
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        columns = next(n for n in (3, 2, 1) if n == 1 or _legend_width(labels, n) <= LEGEND_LETTERS)
        rows = -(-len(labels) // columns)
        figure.set_figheight(INCHES[1] + LEGEND_ROW_INCHES * (rows - 1))
        panels[0].legend(
            handles,
            labels,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=columns,
            fontsize=8,
            frameon=False,
        )
    panels[-1].set_xlabel(
        "environment steps"
        + (" of each seed; lines: mean over seeds, bands: its 95 % interval" if seeds > 1 else ""),
        fontsize=9,
    )
    panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[-1].margins(x=0.02)
    figure.align_ylabels()
    write_whole(path, png(figure))


def _legend_width(labels: Sequence[str], columns: int) -> int:
    """In letters, the samples of the lines included; a column is as wide as its longest label."""
    parts = np.array_split(np.array([len(label) + 8 for label in labels]), columns)
    return int(sum(part.max(initial=0) for part in parts))
