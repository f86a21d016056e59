"""Is an arm ever behind the best of its baselines, and is it better than fine-tuning?

The bar of ``grid.never_behind``: in each cell and at each of some points of training the arm may
fall behind the baseline with the highest mean there by no more than a margin, at the lower end of
the 95 % interval of the difference; and in enough of the cells its probability of improvement over
fine-tuning has to be high enough. The exploration-policy alone is compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jsrl.grid.compare import ROUNDING
from jsrl.grid.config import NeverBehindConfig
from jsrl.grid.plan import GUIDE
from jsrl.grid.results import Result, cell_results
from jsrl.statistics import expanded_interval, improvement_interval, probability_of_improvement


@dataclass(frozen=True)
class Field:
    """The arms of one cell that are compared.

    Args:
        cell: its name.
        arm: the one that is held to the bar.
        baselines: those of the cell.
        over: fine-tuning.
        arms: all arms of the cell that learn online, these among them.
    """

    cell: str
    arm: Result
    baselines: tuple[Result, ...]
    over: Result
    arms: tuple[Result, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every seed of the arms that the bar is about is there."""
        return not any(result.missing for result in (self.arm, *self.baselines, self.over))


@dataclass(frozen=True)
class Standing:
    """How the arm stands beside the best baseline at a point of a cell.

    Args:
        cell: its name.
        share: the point, as a share of the online steps.
        step: the last evaluation up to there that all have, in environment steps; None without.
        best: the baseline with the highest mean there; None if none has a value.
        seeds: how many of both are compared: those that are there and did not fail.
        means: of both.
        interval: the 95 % interval of the difference; None with a single seed.
        holds: whether its lower end is within the margin; None while that cannot be told.
    """

    cell: str
    share: float
    step: int | None
    best: Result | None = None
    seeds: tuple[int, int] = (0, 0)
    means: tuple[float, float] | None = None
    interval: list[float] | None = None
    holds: bool | None = None

    @property
    def difference(self) -> float | None:
        return None if self.means is None else self.means[0] - self.means[1]


@dataclass(frozen=True)
class Improvement:
    """The probability that the arm does better than fine-tuning, in a cell.

    Args:
        cell: its name.
        step: at which they are compared; None without a common evaluation.
        probability: of improvement; None without seeds.
        interval: its 95 % interval; None with a single seed.
        reached: whether it is as high as asked for; None while that cannot be told.
    """

    cell: str
    step: int | None
    probability: float | None = None
    interval: list[float] | None = None
    reached: bool | None = None


@dataclass(frozen=True)
class Bar:
    """What has come out of the bar, in all cells.

    Args:
        standings: cell by cell, point by point.
        improvements: cell by cell.
        is_never_behind: whether every standing holds; None while that cannot be told.
        improves: whether enough cells improve; None while that cannot be told.
    """

    standings: list[Standing]
    improvements: list[Improvement]
    is_never_behind: bool | None
    improves: bool | None


def hold_to_bar(results: Sequence[Result], bar: NeverBehindConfig, measure: str) -> Bar:
    """Hold an arm to the bar in every cell that has what it needs."""
    compared = list(fields(results, bar))
    standings = [_standing(field, share, bar, measure) for field in compared for share in bar.at]
    improvements = [_improvement(field, bar, measure) for field in compared]
    return Bar(
        standings,
        improvements,
        _all(standing.holds for standing in standings),
        _enough([found.reached for found in improvements], bar.improvement_cells),
    )


def fields(results: Sequence[Result], bar: NeverBehindConfig) -> Iterator[Field]:
    """The cells with the arm, fine-tuning and a baseline, in the order of the grid."""
    for cell in dict.fromkeys(result.cell for result in results):
        arms = {r.arm: r for r in cell_results(results, cell) if r.arm != GUIDE}
        baselines = tuple(arms[name] for name in bar.baselines if name in arms)
        if bar.arm in arms and bar.over in arms and baselines:
            learning = tuple(r for r in arms.values() if r.steps > 0 and r.policy == "exploration")
            yield Field(cell, arms[bar.arm], baselines, arms[bar.over], learning)


def step_at(results: Sequence[Result], share: float, measure: str) -> int | None:
    """The last step up to a share of the online steps at which all of these were evaluated.

    Args:
        results: arms of one cell; those without records or online steps are not asked, and neither
            are those all of whose seeds failed.
        share: of the steps of the shortest run.
        measure: ``success`` or ``return``.
    """
    learning = [r for r in results if r.steps > 0 and len(r.failed) < len(r.records)]
    if not learning:
        return None
    end = min(result.steps for result in learning)
    common = set.intersection(*(_evaluated(result, measure) for result in learning))
    return max((step for step in common if 0 < step <= share * end + ROUNDING), default=None)


def area_under_curve(result: Result, measure: str, end: int) -> list[float]:
    """The mean of the measure over training up to a step, of every seed that did not fail.

    By the trapezoidal rule over the evaluations; at the end of a run the final one counts.
    """
    found = []
    for record in (r for r in result.records.values() if not r["failed"]):
        table = record["curve"]
        curve = dict(zip(table["step"], table[f"{result.policy}_{measure}"], strict=True))
        curve[result.steps] = record["final"][result.policy][measure]
        kept = {step: value for step, value in curve.items() if value is not None and step <= end}
        steps = np.array(sorted(kept), dtype=float)
        if len(steps) > 1:
            values = np.array([kept[step] for step in steps])
            area = np.sum((values[1:] + values[:-1]) / 2 * np.diff(steps))
            found.append(float(area / (steps[-1] - steps[0])))
    return found


def _standing(field: Field, share: float, bar: NeverBehindConfig, measure: str) -> Standing:
    step = step_at((field.arm, *field.baselines, field.over), share, measure)
    if step is None:
        return Standing(field.cell, share, None)
    own = field.arm.finite_at(measure, step)
    others = [(b, b.finite_at(measure, step)) for b in field.baselines]
    best, values = max(
        ((b, found) for b, found in others if found),
        key=lambda pair: float(np.mean(pair[1])),
        default=(None, []),
    )
    if not own or best is None:
        return Standing(field.cell, share, step, best, holds=False if field.arm.failed else None)
    interval = expanded_interval(own, values)
    holds = None
    if field.arm.failed:
        holds = False
    elif field.is_complete and interval is not None:
        holds = interval[0] >= -bar.margin - ROUNDING
    means = float(np.mean(own)), float(np.mean(values))
    seeds = len(own), len(values)
    return Standing(field.cell, share, step, best, seeds, means, interval, holds)


def _improvement(field: Field, bar: NeverBehindConfig, measure: str) -> Improvement:
    step = step_at((field.arm, *field.baselines, field.over), bar.improvement_at, measure)
    if step is None:
        return Improvement(field.cell, None)
    own, other = (r.finite_at(measure, step) for r in (field.arm, field.over))
    if not own or not other:
        return Improvement(field.cell, step, reached=False if field.arm.failed else None)
    probability = probability_of_improvement(own, other)
    reached = None
    if field.arm.failed:
        reached = False
    elif field.is_complete:
        reached = probability >= bar.improvement - ROUNDING
    return Improvement(field.cell, step, probability, improvement_interval(own, other), reached)


def _evaluated(result: Result, measure: str) -> set[int]:
    """Steps at which a seed was evaluated; at the end of the run by the final evaluation."""
    steps, values = result.curves(f"{result.policy}_{measure}")
    kept = {int(s) for s, column in zip(steps, values.T, strict=True) if np.isfinite(column).any()}
    return kept | {result.steps}


def _all(answers: Iterator[bool | None]) -> bool | None:
    """Whether all are yes; None if that depends on those that are not known, or there are none."""
    found = list(answers)
    if False in found:
        return False
    return None if None in found or not found else True


def _enough(answers: Sequence[bool | None], share: float) -> bool | None:
    """Whether at least a share is yes; None if that depends on those that are not known."""
    wanted = share * len(answers) - ROUNDING
    yes, open_ = answers.count(True), answers.count(None)
    if not answers or yes < wanted <= yes + open_:
        return None
    return yes >= wanted
