"""What an evaluation says of a policy: a mean for each seed, and how sure it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from jsrl.rollout.evaluator import Evaluation
from jsrl.statistics import episodes_interval

Scores = dict[str, list[float]]
"""For each measure the value of every seed."""

Intervals = dict[str, list[list[float] | None]]
"""For each measure ``[low, high]`` of every seed."""


@dataclass(frozen=True)
class PolicyScores:
    """The result of an evaluation of one policy, for return, success, length, normalised score.

    Args:
        per_seed: for each measure a mean for every seed, NaN where it is undefined.
        intervals: for each measure ``[low, high]`` of every seed, the 95 % interval of its mean
            as far as it comes from the choice of the episodes; None where it is undefined. What
            training with another seed would change is not in it.
        episodes: of each seed.
    """

    per_seed: Scores
    intervals: Intervals
    episodes: int

    def without(self, failed: Sequence[bool]) -> Self:
        """Replace the scores of the seeds that failed by NaN."""
        if not any(failed):
            return self
        kept = {
            name: [math.nan if bad else v for v, bad in zip(values, failed, strict=True)]
            for name, values in self.per_seed.items()
        }
        intervals = {
            name: [None if bad else v for v, bad in zip(values, failed, strict=True)]
            for name, values in self.intervals.items()
        }
        return replace(self, per_seed=kept, intervals=intervals)

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {"intervals": self.intervals, "episodes": self.episodes}

    @classmethod
    def restored(cls, per_seed: Scores, state: Mapping[str, Any]) -> Self:
        """From a checkpoint; those of earlier versions know of no interval."""
        return cls(per_seed, dict(state.get("intervals", {})), state.get("episodes", 0))


def score(evaluation: Evaluation, metric: str, score_range: Sequence[float] | None) -> PolicyScores:
    """Means and intervals of an evaluation, with the normalised score.

    Args:
        evaluation: N episodes of each of S seeds.
        metric: which measure the normalised score places in ``score_range``.
        score_range: what counts as 0 and as 100; None where there is no normalised score.
    """
    means = evaluation.means()
    values = {
        "return": evaluation.returns,
        "success": evaluation.successes,
        "length": evaluation.lengths,
    }
    intervals = {
        name: [episodes_interval(episodes) for episodes in of_seeds]
        for name, of_seeds in values.items()
    }
    intervals["normalized_score"] = [
        None
        if ends is None or score_range is None
        else normalized_scores({metric: ends}, metric, score_range)
        for ends in intervals[metric]
    ]
    normalized = {"normalized_score": normalized_scores(means, metric, score_range)}
    return PolicyScores(means | normalized, intervals, evaluation.returns.shape[1])


def normalized_scores(
    means: Mapping[str, Sequence[float]], metric: str, score_range: Sequence[float] | None
) -> list[float]:
    """100·(value - low)/(high - low) of each seed; NaN where there is no range (Fu et al. 2020)."""
    values = means[metric]
    if score_range is None:
        return [float("nan")] * len(values)
    low, high = score_range
    return [100 * (value - low) / (high - low) for value in values]
