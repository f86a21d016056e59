"""All arms of the cells in which a bar is held: how far they come, and by how much more than
fine-tuning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.grid.config import NeverBehindConfig
from jsrl.grid.never_behind import Field, area_under_curve, fields, step_at
from jsrl.grid.plan import GUIDE
from jsrl.grid.results import Result
from jsrl.report.figures import COLOURS, INCHES
from jsrl.statistics import expanded_interval

Interval = list[float] | None
MARKERS = "os^Dv<>P"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval; both None without seeds."""

    mean: float | None
    interval: Interval

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        return cls(float(np.mean(values)), expanded_interval(values)) if values else cls(None, None)


@dataclass(frozen=True)
class Arm:
    """An arm in a cell beside fine-tuning.

    Args:
        result: the arm.
        steps: the environment steps of ``at``; None without a common evaluation.
        guide: what its runs' guide reaches alone.
        at: what it reaches at each point of the bar.
        area: under its learning curve, up to the last of these points.
        advantage: over fine-tuning at the last point; None for fine-tuning itself.
    """

    result: Result
    steps: list[int | None]
    guide: Estimate
    at: list[Estimate]
    area: Estimate
    advantage: Estimate | None


def all_arms(results: Sequence[Result], bar: NeverBehindConfig, measure: str) -> list[Arm]:
    """Every arm that learns online, in every cell in which the bar is held."""
    return [
        _arm(arm, field, bar, measure)
        for field in fields(results, bar)
        for arm in field.arms
        if arm.records
    ]


def draw_advantage(path: Path, arms: Sequence[Arm], bar: NeverBehindConfig, measure: str) -> bool:
    """Draw each arm's advantage over fine-tuning against what the guide reaches alone.

    Args:
        path: the PNG to write.
        arms: of all cells.
        bar: whose margin is drawn.
        measure: what it is an advantage in.

    Returns:
        False if there is nothing to draw yet, and no file.
    """
    points = list(_points(arms))
    if not points:
        return False
    figure = new_figure(INCHES[0], INCHES[1])
    axis = figure.subplots()
    axis.axhline(0, color="0.25", linestyle="--", linewidth=1.2)
    axis.axhline(-bar.margin, color="0.5", linestyle=":", linewidth=1.2)
    labels = list(dict.fromkeys(label for label, *_ in points))
    for label, guide, mean, (low, high) in points:
        index = labels.index(label)
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        axis.plot([guide, guide], [low, high], color=colour, linewidth=3, alpha=0.35)
        axis.plot([guide], [mean], marker, color=colour, markersize=5)
    for index, label in enumerate(labels):
        marker = MARKERS[index % len(MARKERS)]
        axis.plot([], [], marker, color=COLOURS[index % len(COLOURS)], label=label)
    axis.set_xlabel(f"the guide's {measure} alone", fontsize=9)
    axis.set_ylabel(f"{measure} less fine-tuning's; bars: 95 % interval", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", fontsize=8, ncols=2, frameon=False)
    write_whole(path, png(figure))
    return True


def _points(arms: Sequence[Arm]) -> Iterator[tuple[str, float, float, tuple[float, float]]]:
    """Label, place and bar of each point; the bar has no length where there is no interval."""
    for arm in arms:
        advantage, guide = arm.advantage, arm.guide.mean
        if advantage is not None and advantage.mean is not None and guide is not None:
            low, high = advantage.interval or (advantage.mean, advantage.mean)
            yield arm.result.label, guide, advantage.mean, (low, high)


def _arm(arm: Result, field: Field, bar: NeverBehindConfig, measure: str) -> Arm:
    asked = (field.arm, *field.baselines, field.over)
    steps = [step_at(asked, share, measure) for share in bar.at]
    last = steps[-1]
    guides = (r["final"][GUIDE][measure] for r in arm.records.values() if not r["failed"])
    advantage = None
    if arm.arm != field.over.arm:
        own, other = _values(arm, measure, last), _values(field.over, measure, last)
        advantage = Estimate(None, None)
        if own and other:
            difference = float(np.mean(own) - np.mean(other))
            advantage = Estimate(difference, expanded_interval(own, other))
    return Arm(
        arm,
        steps,
        Estimate.of([value for value in guides if value is not None]),
        [Estimate.of(_values(arm, measure, step)) for step in steps],
        Estimate.of([] if _is_shorter(arm, last) else area_under_curve(arm, measure, last or 0)),
        advantage,
    )


def _values(result: Result, measure: str, step: int | None) -> list[float]:
    """Of the seeds at a step; nothing if the runs are shorter."""
    if step is None or _is_shorter(result, step):
        return []
    return result.finite_at(measure, step)


def _is_shorter(result: Result, step: int | None) -> bool:
    """Whether its runs end before a step; what learnt offline alone stays as it is."""
    return step is not None and 0 < result.steps < step
