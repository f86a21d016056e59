"""Is one arm better than another: probability of improvement, difference, where the order turns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from jsrl.grid.config import ComparisonConfig
from jsrl.grid.names import MEASURED_ON_THE_WAY
from jsrl.grid.plan import GUIDE
from jsrl.grid.results import Result
from jsrl.statistics import improvement_interval, probability_of_improvement

ROUNDING = 1e-9
"""Means that differ by less are equal."""


@dataclass(frozen=True)
class Comparison:
    """What the records say of two arms in a cell.

    Args:
        first: the arm that is asked about.
        second: the arm that it is compared with.
        primary: whether it is the one that was fixed beforehand.
        step: the environment step at which they are compared, the last one of the shorter runs.
        seeds: how many of each are compared: those that are there and did not fail.
        probability: of improvement, first over second; None without seeds.
        interval: its 95 % interval; None with a single seed.
        difference: of the means at this step, first less second.
        turn: from which environment step on the first is ahead; see ``order_turns``.
        implied: the probability that the published means and deviations imply, taken as normal.
    """

    first: Result
    second: Result
    primary: bool
    step: int
    seeds: tuple[int, int]
    probability: float | None
    interval: list[float] | None
    difference: float | None
    turn: int | None
    implied: float | None


def compare(
    results: Sequence[Result], comparisons: Sequence[ComparisonConfig], measure: str
) -> list[Comparison]:
    """Every comparison of a grid, over the seeds that are there and did not fail."""
    found = []
    for wanted, first, second in _pairs(results, comparisons):
        step = _last_common_step(first, second)
        one, other = first.finite_at(measure, step), second.finite_at(measure, step)
        both = bool(one and other)
        found.append(
            Comparison(
                first,
                second,
                wanted.primary,
                step,
                (len(one), len(other)),
                probability_of_improvement(one, other) if both else None,
                improvement_interval(one, other) if both else None,
                float(np.mean(one) - np.mean(other)) if both else None,
                order_turns(*means(first, measure), *means(second, measure)) if both else None,
                _implied(first, second),
            )
        )
    return found


def _pairs(
    results: Sequence[Result], comparisons: Sequence[ComparisonConfig]
) -> Iterator[tuple[ComparisonConfig, Result, Result]]:
    """The two arms of each comparison, in its cell or in every one that has both, once."""
    cells = list(dict.fromkeys(result.cell for result in results))
    arms = {(result.cell, result.arm): result for result in results}
    seen: set[tuple[str, str, str]] = set()
    for wanted in comparisons:
        for cell in cells if wanted.cell is None else [wanted.cell]:
            first, second = arms.get((cell, wanted.first)), arms.get((cell, wanted.second))
            key = (cell, wanted.first, wanted.second)
            if first is not None and second is not None and key not in seen:
                seen.add(key)
                yield wanted, first, second


def means(result: Result, measure: str) -> tuple[list[int], list[float]]:
    """Steps and means over seeds of the evaluations; at the end, of the final evaluation."""
    if result.policy == GUIDE or measure not in MEASURED_ON_THE_WAY:
        return [], []
    steps, values = result.curves(f"{result.policy}_{measure}")
    kept = [i for i in range(len(steps)) if np.isfinite(values[:, i]).any()]
    curve = {int(steps[i]): float(np.nanmean(values[:, i])) for i in kept}
    final = result.finite(measure)
    if curve and final:
        curve[result.steps] = float(np.mean(final))
    return list(curve), list(curve.values())


def order_turns(
    first_steps: Sequence[int],
    first: Sequence[float],
    second_steps: Sequence[int],
    second: Sequence[float],
) -> int | None:
    """The first evaluation from which the first mean stays above the second's to the end.

    Args:
        first_steps: environment steps ``[T]`` of the first's evaluations.
        first: means over seeds ``[T]``.
        second_steps: those of the second ``[U]``.
        second: means over seeds ``[U]``.

    Returns:
        A step at which both were evaluated; None if the first is behind or level at the last of
        these, or there are none.
    """
    one = dict(zip(first_steps, first, strict=True))
    other = dict(zip(second_steps, second, strict=True))
    steps = sorted(set(one) & set(other))
    ahead = {step: one[step] - other[step] for step in steps}
    turn = None
    for step in reversed(steps):
        if ahead[step] <= ROUNDING:
            break
        turn = step
    return turn


def _last_common_step(first: Result, second: Result) -> int:
    """The end of the shorter runs; what learnt offline alone stays as it is to the other's end."""
    lengths = [result.steps for result in (first, second) if result.steps > 0]
    return min(lengths, default=0)


def _implied(first: Result, second: Result) -> float | None:
    """P(X > Y) of two normal variables with the published means and standard deviations."""
    one, other = first.published, second.published
    if one is None or other is None or one.std is None or other.std is None:
        return None
    spread = float(np.hypot(one.std, other.std))
    if spread == 0:
        return None
    return float(scipy.stats.norm.cdf((one.mean - other.mean) / spread))
