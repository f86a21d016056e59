"""The panels below a learning curve that tell who acts: guide steps h, or the explorer's share.

Where h is the number of steps after which the guide hands over, it says all. Other rules have no
h: of these the explorer's share is drawn, over training and over the time in an episode.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jsrl.core.pictures import new_figure, png
from jsrl.loggers.metrics import Record
from jsrl.report.curves import (
    EXPLORER_SHARE,
    GUIDE_STEPS,
    Curve,
    curve,
    has_guide_steps,
    is_shared,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREEN = "#009E73"
GUIDE_TO_EXPLORER = ("0.85", "#0072B2")
"""From light grey to the blue of the exploration-policy; white where there was no step."""

TENTHS = 10
SHARE_RANGE = (-0.06, 1.06)
INCHES = (6.0, 2.6)


class Panel(NamedTuple):
    """How high it is, beside the other panels of a figure, and what draws it."""

    height: float
    draw: Callable[["Axes"], None]


def panels(records: Sequence[Record]) -> list[Panel]:
    """The panels of one run; none where the explorer alone acted."""
    guide_steps, share = (curve([records], name) for name in (GUIDE_STEPS, EXPLORER_SHARE))
    stages = curve([records], "curriculum/stage")
    if has_guide_steps(guide_steps):
        found = [Panel(1.0, lambda axis: _draw_counts(axis, guide_steps, "guide\nsteps h"))]
        # A curriculum whose h moves without its stage, as one that draws h, has no stages.
        if _moves(stages) or not _moves(guide_steps):
            found.append(Panel(0.8, lambda axis: _draw_counts(axis, stages, "curriculum\nstage")))
        return found
    if not is_shared(share):
        return []
    found = [Panel(1.0, lambda axis: draw_share(axis, share))]
    over_episode = share_over_episode(records)
    if len(over_episode[0]):
        found.append(Panel(0.8, lambda axis: _draw_over_episode(axis, over_episode)))
    return found


def share_over_episode(records: Sequence[Record]) -> Curve:
    """Steps of training, and the explorer's mean share in each tenth of an episode ``[10, T]``.

    The mean is over seeds. NaN where no step was made in a tenth.
    """
    tenths = [curve([records], f"explorer_share/tenth_{k + 1}") for k in range(TENTHS)]
    steps = tenths[0][0]
    if not len(steps):
        return steps, np.zeros((TENTHS, 0))
    return steps, np.stack([_mean(values) for _, values in tenths])


def picture_over_episode(records: Sequence[Record]) -> bytes | None:
    """A PNG of the explorer's share over the time in an episode and over training.

    Args:
        records: those of the run's ``metrics.jsonl``.

    Returns:
        900 x 390 pixels; None if the explorer alone acted, or it is not known.
    """
    over_episode = share_over_episode(records)
    if not is_shared(over_episode):
        return None
    from matplotlib.ticker import EngFormatter

    figure = new_figure(*INCHES)
    axis = figure.subplots()
    _draw_over_episode(axis, over_episode)
    axis.margins(x=0)
    axis.set_xlabel("environment steps", fontsize=9)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.tick_params(labelsize=8)
    return png(figure)


def draw_share(axis: "Axes", share: Curve) -> None:
    """A line for each seed and, where there are several, a bold one for their mean."""
    steps, values = share
    several = len(values) > 1
    for row in values:
        kept = np.isfinite(row)
        width, alpha = (1.0, 0.45) if several else (1.8, 1.0)
        axis.plot(steps[kept], row[kept], color=GREEN, linewidth=width, alpha=alpha)
    if several:
        axis.plot(steps, _mean(values), color=GREEN, linewidth=1.8)
    name_share(axis)


def name_share(axis: "Axes") -> None:
    """The name and the range of an axis of the explorer's share."""
    axis.set_ylabel("explorer's\nshare", fontsize=8)
    axis.set_yticks([0, 0.5, 1])
    axis.set_ylim(*SHARE_RANGE)


def name_counts(axis: "Axes", name: str, values: np.ndarray) -> None:
    """The name and the range of an axis of whole numbers, on which a line at 0 is seen."""
    from matplotlib.ticker import MaxNLocator

    axis.set_ylabel(name, fontsize=8)
    axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    highest = max(float(np.nanmax(values, initial=0)), 1.0)
    axis.set_ylim(-0.06 * highest, 1.15 * highest)


def _draw_counts(axis: "Axes", counts: Curve, name: str) -> None:
    """A stair line for each seed and, where there are several, a bold one for their mean."""
    steps, values = counts
    several = len(values) > 1
    for row in values:
        kept = np.isfinite(row)
        width, alpha = (1.0, 0.45) if several else (1.8, 1.0)
        axis.step(steps[kept], row[kept], where="post", color=GREEN, linewidth=width, alpha=alpha)
    if several:
        axis.step(steps, _mean(values), where="post", color=GREEN, linewidth=1.8)
    name_counts(axis, name, values)


def _draw_over_episode(axis: "Axes", over_episode: Curve) -> None:
    """A field for each tenth of an episode and each record, the beginning of episodes below."""
    from matplotlib.colors import LinearSegmentedColormap

    steps, shares = over_episode
    colours = LinearSegmentedColormap.from_list("who acts", GUIDE_TO_EXPLORER)
    edges = np.concatenate([[0], steps])
    heights = np.linspace(0, 1, TENTHS + 1)
    fields = axis.pcolormesh(
        edges, heights, np.ma.masked_invalid(shares), cmap=colours, vmin=0, vmax=1
    )
    fields.sticky_edges.x.clear()  # the panels above share the axis, and need its margins
    axis.grid(visible=False)
    axis.set_yticks([0, 1], ["0", "limit"])
    axis.set_ylabel("time in\nepisode", fontsize=8)
    axis.set_title(
        "grey: the guide acts, blue: the explorer, white: no steps", fontsize=7, loc="right", pad=2
    )


def _moves(counts: Curve) -> bool:
    """Whether a count of any seed ever changes."""
    lowest, highest = np.fmin.reduce(counts[1], 1), np.fmax.reduce(counts[1], 1)
    return bool((lowest < highest).any())


def _mean(values: np.ndarray) -> np.ndarray:
    """Over seeds, of those that are finite; NaN where none is."""
    finite = np.isfinite(values)
    sums, counts = np.where(finite, values, 0).sum(0), finite.sum(0)
    mean: np.ndarray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean
