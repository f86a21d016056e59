"""Learning curves as PNG files, drawn without a display and without matplotlib's global state."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.loggers.metrics import Record
from jsrl.report.curves import (
    EXPLORER_SHARE,
    GUIDE_STEPS,
    curve,
    has_guide_steps,
    is_shared,
)
from jsrl.report.who_acts import name_counts, name_share
from jsrl.report.who_acts import panels as panels_of_who_acts
from jsrl.statistics import bootstrap_interval, mean_intervals

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
TITLE_LETTERS = 62  # of a line
LEGEND_LETTERS = 90  # of a row, the samples of the lines included
RESAMPLES = 2_000  # of the bands; enough for a line's width, and quick at every point
MOST_MARKERS = 30
AXIS_NAMES = {
    "success": "success rate",
    "return": "return",
    "length": "episode length (steps)",
    "normalized_score": "normalised score",
}
Arrays = tuple[np.ndarray, np.ndarray]
"""A curve among several: steps ``[T]`` and a value for each of its seeds ``[S, T]``."""


def learning_curve(
    path: Path,
    records: Sequence[Record],
    title: str,
    guide_interval: Mapping[str, Sequence[float] | None] | None = None,
) -> None:
    """Draw a run: success (else return) of the three policies, and below it who acts.

    The guide does not learn: its evaluation is a horizontal line. Lines are means over
    seeds, bands the bootstrap 95 % interval of the mean. Below, for each seed, are guide steps h
    and the curriculum's stage; of a rule without h the explorer's share in what is done; nothing
    where the explorer alone acts.

    Args:
        path: the PNG to write, 900 x 600 pixels.
        records: those of the run's ``metrics.jsonl``.
        title: what stands above, the experiment's name.
        guide_interval: by measure, of the guide over its episodes: the band of a single seed.

    Raises:
        UserError: if the file cannot be written.
    """
    measure = _measure([records])
    lower = panels_of_who_acts(records)
    figure, panels = _panels([3.0 if lower else 1.0, *(panel.height for panel in lower)])
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
    for axis, panel in zip(panels[1:], lower, strict=True):
        panel.draw(axis)
    several = f" ({seeds} seeds)" if seeds > 1 else ""
    _finish(figure, panels, title + several, seeds, path)


def comparison(
    path: Path, runs: Mapping[str, Sequence[Sequence[Record]]], title: str = "Exploration-policy"
) -> None:
    """Draw the exploration-policy's success (else return) of several experiments.

    Below it is the explorer's share of those in which the guide acts too, if any has a rule of
    who acts other than h.

    Args:
        path: the PNG to write, 900 pixels wide and 600 high, more for a long legend.
        runs: for each experiment the records of its runs; their seeds are pooled.
        title: what stands above.

    Raises:
        UserError: if the file cannot be written.
    """
    measure = _measure([records for metrics in runs.values() for records in metrics])
    name = f"evaluation/exploration_{measure}"
    curves, shares, guide_steps = {}, {}, {}
    for experiment, metrics in runs.items():
        steps, values = curve(metrics, name)
        seeds = f"{len(values)} seed{'s' if len(values) > 1 else ''}"
        label = f"{experiment} ({seeds if len(steps) else 'not evaluated'})"
        curves[label] = steps, values
        shares[label], guide_steps[label] = (
            curve(metrics, name) for name in (EXPLORER_SHARE, GUIDE_STEPS)
        )
    several_curves(path, curves, measure, title, shares=shares_to_draw(shares, guide_steps))


def several_curves(
    path: Path,
    curves: Mapping[str, Arrays],
    measure: str,
    title: str,
    guide: Sequence[float] = (),
    guide_steps: Mapping[str, Arrays] | None = None,
    shares: Mapping[str, Arrays] | None = None,
) -> None:
    """Draw one measure of several experiments, and below it, if given, who acts in them.

    Args:
        path: the PNG to write, 900 pixels wide and 600 high, more for a long legend.
        curves: for each line of the legend steps ``[T]`` and the values of its seeds ``[S, T]``.
        measure: which of ``AXIS_NAMES`` they are.
        title: what stands above.
        guide: the guide's value, one a seed, for a dashed line.
        guide_steps: h of those that have any, under the names that ``curves`` has.
        shares: the explorer's share of those of ``shares_to_draw``, under these names.

    Raises:
        UserError: if the file cannot be written.
    """
    lower = [given for given in (guide_steps, shares) if given]
    figure, panels = _panels([3.0 if lower else 1.0, *(1.0 for _ in lower)])
    for index, (label, (steps, values)) in enumerate(curves.items()):
        style = _style(index)
        _mean_and_band(panels[0], steps, values, label, marker="os^Dv<>"[index % 7], **style)
        for axis, given in zip(panels[1:], lower, strict=True):
            if label in given:
                at, of_seeds = given[label]
                mean = np.nanmean(of_seeds, axis=0)
                stairs = given is guide_steps
                axis.plot(
                    at, mean, drawstyle="steps-post" if stairs else None, linewidth=1.8, **style
                )
    if len(guide):
        _guide_line(panels[0], np.array(guide, dtype=float)[:, None])
    _name_axis(panels[0], measure)
    if guide_steps:
        every = np.concatenate([h.reshape(-1) for _, h in guide_steps.values()])
        name_counts(panels[1], "guide\nsteps h", every)
    if shares:
        name_share(panels[-1])
    _finish(figure, panels, title, max((len(v) for _, v in curves.values()), default=0), path)


def shares_to_draw(
    shares: Mapping[str, Arrays], guide_steps: Mapping[str, Arrays]
) -> dict[str, Arrays]:
    """The explorer's share where the guide acts too; nothing where h says it all.

    Args:
        shares: of each experiment, as far as it is known.
        guide_steps: h of each experiment, as far as it is known.
    """
    shared = {label: share for label, share in shares.items() if is_shared(share)}
    by_h = {label for label, steps in guide_steps.items() if has_guide_steps(steps)}
    return shared if set(shared) - by_h else {}


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
    low_high = mean_intervals(values[:, kept], resamples=RESAMPLES)
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


def _name_axis(axis: "Axes", measure: str) -> None:
    axis.set_ylabel(AXIS_NAMES[measure], fontsize=9)
    if measure == "success":
        axis.set_ylim(-0.03, 1.03)


def _finish(figure: "Figure", panels: "list[Axes]", title: str, seeds: int, path: Path) -> None:
    """Title, what the lines are, axis of steps, legend beside the data, and the file."""
    from matplotlib.ticker import EngFormatter

    lines = (textwrap.fill(line, TITLE_LETTERS) for line in title.splitlines())
    figure.suptitle("\n".join(lines), fontsize=11, fontweight="bold")
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
