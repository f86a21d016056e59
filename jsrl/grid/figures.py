"""The figures of a grid's report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.grid.compare import Comparison
from jsrl.grid.names import MEASURED_ON_THE_WAY
from jsrl.grid.plan import GUIDE
from jsrl.grid.results import Result
from jsrl.report.curves import has_guide_steps
from jsrl.report.figures import COLOURS, INCHES, several_curves, shares_to_draw

HEAD_INCHES = 1.2
ROW_INCHES = 0.55


def draw_cell(path: Path, results: Sequence[Result], measure: str, title: str) -> bool:
    """Draw the learning curves of a cell's arms, the guide dashed, and below them who acts.

    That is h, of the arms that have one, and where a rule has none the explorer's share of all in
    which the guide acts too.

    Args:
        path: the PNG to write.
        results: those of one cell.
        measure: ``success`` or ``return``; others have no learning curve.
        title: what stands above.

    Returns:
        False if there is nothing to draw, and no file.
    """
    if measure not in MEASURED_ON_THE_WAY:
        return False
    arms = [r for r in results if r.policy != GUIDE and r.records]
    curves = {_label(r): r.curves(f"{r.policy}_{measure}") for r in arms}
    # An arm without online steps has a result, but no curve.
    curves = {label: curve for label, curve in curves.items() if len(curve[0])}
    if not curves:
        return False
    steps = {_label(r): r.curves("guide_steps") for r in arms}
    guided = {label: h for label, h in steps.items() if label in curves and has_guide_steps(h)}
    shares = {_label(r): r.curves("explorer_share", "shares") for r in arms}
    shares = {label: share for label, share in shares.items() if label in curves}
    guide = [value for r in results if r.arm == GUIDE for value in r.finite(measure)]
    several_curves(path, curves, measure, title, guide, guided, shares_to_draw(shares, guided))
    return True


def draw_improvement(path: Path, comparisons: Sequence[Comparison]) -> bool:
    """Draw the probability of improvement of each comparison, with its interval.

    Returns:
        False if no comparison has one yet, and no file.
    """
    known = [c for c in comparisons if c.probability is not None]
    if not known:
        return False
    figure = new_figure(INCHES[0], HEAD_INCHES + ROW_INCHES * len(known))
    axis = figure.subplots()
    axis.axvline(0.5, color="0.25", linestyle="--", linewidth=1.2)
    for row, comparison in enumerate(known):
        colour = COLOURS[1] if comparison.primary else COLOURS[0]
        low, high = comparison.interval or [np.nan, np.nan]
        axis.plot(
            [low, high], [row, row], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt"
        )
        share = [comparison.probability or 0.0]
        axis.plot(share, [row], "D" if comparison.primary else "o", color=colour)
    axis.set_yticks(range(len(known)), [_named(c) for c in known], fontsize=7.5)
    axis.set_ylim(len(known) - 0.5, -0.5)
    axis.set_xlim(-0.03, 1.03)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("probability of improvement; bars: 95 % interval", fontsize=9)
    write_whole(path, png(figure))
    return True


def _named(comparison: Comparison) -> str:
    """Three lines beside a bar."""
    cell = comparison.first.cell + (" (primary)" if comparison.primary else "")
    return f"{cell}\n{comparison.first.label}\nagainst {comparison.second.label}"


def _label(result: Result) -> str:
    """The arm, and how many seeds the line is made of if that is not all of them."""
    there = len(result.records) - len(result.failed)
    if there == len(result.seeds):
        return result.label
    return f"{result.label} ({there} seed{'s' if there > 1 else ''})"
