"""Intervals for what is measured between runs, by resampling the runs.

Pairs of runs are not independent, runs are: M of them are drawn with replacement, and a pair of a
run with itself, whose difference is 0 by construction, is left out. Activations that were trained
with the same seeds are compared under the same resamples.
"""

import numpy as np
from jaxtyping import Float, Int

from jsrl.core.streams import seed_sequence
from jsrl.statistics.differences import Pairs

RESAMPLES = 10_000


def resampled_runs(runs: int, resamples: int = RESAMPLES) -> Int[np.ndarray, "R M"]:
    """How often each of M runs is in each of R resamples: the same for the same M, every time.

    Those that hold a single run over and over have no pair, and are drawn again.

    Raises:
        ValueError: if there are fewer than two runs.
    """
    if runs < 2:
        raise ValueError(f"expected at least two runs, got {runs}")
    draws = np.random.default_rng(seed_sequence(0, "bootstrap over runs", runs))
    counts = np.zeros((resamples, runs), np.int64)
    empty = np.ones(resamples, bool)
    while empty.any():
        chosen = draws.integers(runs, size=(int(empty.sum()), runs))
        counts[empty] = (chosen[:, :, None] == np.arange(runs)).sum(1)
        empty = (counts > 0).sum(1) < 2
    return counts


def pair_means(pairs: Pairs, counts: Int[np.ndarray, "R M"]) -> Float[np.ndarray, " R"]:
    """The mean over pairs of different runs, in each resample.

    Args:
        pairs: symmetric, with zeros on the diagonal.
        counts: of ``resampled_runs``.
    """
    weights = counts.astype(np.float64)
    total = np.einsum("ri,ij,rj->r", weights, pairs, weights)
    number = weights.sum(1) ** 2 - (weights**2).sum(1)
    means: np.ndarray = total / number
    return means


def mean_centred_means(
    predictions: Float[np.ndarray, "M N"], counts: Int[np.ndarray, "R M"]
) -> Float[np.ndarray, " R"]:
    """The mean-centred relative prediction difference, in each resample.

    Args:
        predictions: one row a run.
        counts: of ``resampled_runs``.
    """
    p = np.asarray(predictions, np.float64)
    means = np.empty(len(counts))
    for index, count in enumerate(counts):
        share = count / count.sum()
        centre = p[0] + share @ (p - p[0])
        distance = share @ np.abs(p - centre)
        with np.errstate(divide="ignore", invalid="ignore"):
            means[index] = np.where(distance == 0, 0.0, distance / np.abs(centre)).mean()
    return means


def interval_of(resampled: Float[np.ndarray, " R"], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a statistic, from its values in the resamples.

    Its ends are values themselves: a ratio may be infinite in some resamples.
    """
    levels = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(resampled, levels, method="inverted_cdf")
    return float(low), float(high)


def ratio_interval(
    numerator: Float[np.ndarray, " R"], denominator: Float[np.ndarray, " T"], level: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of the ratio of two statistics under the same resamples.

    Raises:
        ValueError: if the two have different numbers of resamples.
    """
    if numerator.shape != denominator.shape:
        raise ValueError(
            f"expected the same resamples of both, got {len(numerator)} and {len(denominator)}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(numerator == denominator, 1.0, numerator / denominator)
    return interval_of(ratio, level)
