"""Statistics over seeds: mean, interquartile mean, bootstrap intervals, probability of improvement.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021, arXiv 2108.13264), computed by SciPy.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
import scipy
from jaxtyping import Float, Int

from jsrl.core.streams import seed_sequence

EPISODE_RESAMPLES = 2_000
"""Enough for two digits of an interval, and quick for thousands of episodes."""


class Summary(TypedDict):
    """What ``summary.json`` says of one measure; undefined values are None."""

    mean: float | None
    iqm: float | None
    ci95: list[float] | None
    per_seed: list[float | None]
    failed: int


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half: SciPy's 25 % trimmed mean.

    ``floor(n / 4)`` values are cut at each end, so that below four values it is the plain mean.

    Args:
        values: finite numbers ``[S]``, at least one, in any unit.

    Raises:
        ValueError: if there is no value or one is not finite.
    """
    return float(scipy.stats.trim_mean(_finite_array(values), 0.25))


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable[..., Any] = np.mean,
    level: float = 0.95,
    resamples: int = 10_000,
) -> list[float] | None:
    """``[low, high]`` of the percentile bootstrap interval of ``statistic``, over seeds.

    The percentile method rather than BCa (bias-corrected and accelerated): with the usual five
    seeds and success rates full of ties, BCa's acceleration, a third moment over leave-one-out
    values, is noise or undefined. Both are too narrow for very few seeds. The resampling has a
    fixed stream of its own, so that the same values always give the same interval.

    Args:
        values: finite numbers ``[S]``, at least one.
        statistic: a function of an array; one with an ``axis`` argument is vectorised by SciPy.
        level: the coverage, in (0, 1).
        resamples: the number of bootstrap samples.

    Returns:
        None for a single value, which says nothing of the spread; ``[v, v]`` where every value
        is v and ``statistic`` maps them to v.

    Raises:
        ValueError: if there is no value or one is not finite.
    """
    array = _finite_array(values)
    if len(array) == 1:
        return None
    if np.all(array == array[0]):
        # Every resample is the sample itself: SciPy would warn that the data are degenerate.
        value = float(statistic(array))
        return [value, value]
    interval = scipy.stats.bootstrap(
        (array,),
        statistic,
        confidence_level=level,
        n_resamples=resamples,
        method="percentile",
        random_state=np.random.default_rng(seed_sequence(0, "bootstrap")),
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


def mean_intervals(
    values: Float[np.ndarray, "S T"], resamples: int = 10_000
) -> Float[np.ndarray, "T 2"]:
    """``[low, high]`` of ``bootstrap_interval`` of the mean over seeds, at T points at once.

    The draws are the same at every point, so that points with equal values have equal intervals.

    Args:
        values: of each seed at each point, in any unit; one that is not finite is left out.
        resamples: the number of bootstrap samples.

    Returns:
        NaN where fewer than two seeds have a value.
    """
    found = np.full((values.shape[1], 2), np.nan)
    if not values.size:
        return found
    finite = np.isfinite(values)
    for pattern in np.unique(finite, axis=1).T:
        if pattern.sum() < 2:
            continue
        at = np.flatnonzero((finite == pattern[:, None]).all(axis=0))
        rows, inverse = np.unique(values[np.ix_(pattern, at)].T, axis=0, return_inverse=True)
        bounds = np.concatenate([_row_intervals(some, resamples) for some in _few(rows)])
        found[at] = bounds[inverse.reshape(-1)]
    return found


def _few(rows: np.ndarray) -> list[np.ndarray]:
    """Rows in pieces, since SciPy holds every resample of every row."""
    return np.array_split(rows, -(-len(rows) // 256))


def _row_intervals(rows: np.ndarray, resamples: int) -> np.ndarray:
    interval = scipy.stats.bootstrap(
        (rows,),
        np.mean,
        axis=-1,
        confidence_level=0.95,
        n_resamples=resamples,
        method="percentile",
        random_state=np.random.default_rng(seed_sequence(0, "bootstrap")),
    ).confidence_interval
    return np.stack([interval.low, interval.high], axis=-1)


def episodes_interval(
    values: Float[np.ndarray, " N"] | Int[np.ndarray, " N"],
) -> list[float] | None:
    """``[low, high]`` of the 95 % interval of the mean over the episodes of one seed.

    It says what other start states would change, and nothing of other seeds. Where every value is
    0 or 1 it is Wilson's interval of a share (Wilson 1927), which has a width even where all
    succeed; else the percentile bootstrap over the episodes.

    Args:
        values: of N episodes.

    Returns:
        None for a single episode, or where a value is not finite.
    """
    flat = np.asarray(values, dtype=np.float64)
    if len(flat) < 2 or not np.isfinite(flat).all():
        return None
    if np.isin(flat, (0, 1)).all():
        share = scipy.stats.binomtest(int(flat.sum()), len(flat)).proportion_ci(method="wilson")
        return [float(share.low), float(share.high)]
    return bootstrap_interval(flat.tolist(), resamples=EPISODE_RESAMPLES)


def interquartile_mean_interval(values: Sequence[float]) -> list[float] | None:
    """The 95 % bootstrap interval of the interquartile mean; see ``bootstrap_interval``."""

    def trimmed(array: np.ndarray, axis: int = -1) -> Any:
        return scipy.stats.trim_mean(array, 0.25, axis=axis)

    return bootstrap_interval(values, trimmed)


def probability_of_improvement(first: Sequence[float], second: Sequence[float]) -> float:
    """How often a seed of ``first`` does better than one of ``second``: P(X > Y) + P(X = Y)/2.

    The mean over all pairs of seeds of 1 where x > y, 1/2 where x = y, else 0 (Agarwal et al.
    2021, section 4.3; the Mann-Whitney statistic U divided by the number of pairs).

    Args:
        first: finite numbers ``[S]``, at least one, in any unit.
        second: finite numbers ``[T]``, at least one, in the same unit.

    Raises:
        ValueError: if there is no value or one is not finite.
    """
    return float(_share_of_pairs(_finite_array(first)[None], _finite_array(second)[None])[0])


def improvement_interval(
    first: Sequence[float], second: Sequence[float], level: float = 0.95, resamples: int = 10_000
) -> list[float] | None:
    """``[low, high]`` of the percentile bootstrap interval of ``probability_of_improvement``.

    The seeds of both are resampled, independently of each other, from a stream of their own, so
    that the same values always give the same interval. Where every pair is ordered alike it has
    no width, which says that the seeds at hand agree and not that there is no doubt.

    Args:
        first: finite numbers ``[S]``, at least one, in any unit.
        second: finite numbers ``[T]``, at least one, in the same unit.
        level: the coverage, in (0, 1).
        resamples: the number of bootstrap samples.

    Returns:
        None if either has a single value, which says nothing of its spread.

    Raises:
        ValueError: if there is no value or one is not finite.
    """
    one, other = _finite_array(first), _finite_array(second)
    if min(len(one), len(other)) == 1:
        return None
    generator = np.random.default_rng(seed_sequence(0, "improvement"))
    shares = _share_of_pairs(
        *(
            values[generator.integers(len(values), size=(resamples, len(values)))]
            for values in (one, other)
        )
    )
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def expanded_interval(
    first: Sequence[float],
    second: Sequence[float] | None = None,
    level: float = 0.95,
    resamples: int = 20_000,
) -> list[float] | None:
    """``[low, high]`` for the mean of ``first``, less that of ``second``, honest for few seeds.

    The expanded percentile bootstrap (Hesterberg 2015, "What Teachers Should Know About the
    Bootstrap", The American Statistician 69(4)): the seeds of each sample are resampled among
    themselves, and the ends are not the quantiles α/2 and 1 - α/2 but Φ(-√(n/(n - 1))·t) and one
    less that, where t is Student's 1 - α/2 quantile with n - 1 degrees of freedom and n the size
    of the smaller sample. For five seeds it is wider than the plain percentile interval, which
    holds the truth in clearly fewer than 95 of 100 cases; for many it is the same.

    Args:
        first: finite numbers ``[S]``, at least one, in any unit.
        second: finite numbers ``[T]``, at least one, in the same unit; None for none.
        level: the coverage, in (0, 1).
        resamples: the number of bootstrap samples.

    Returns:
        None if either has a single value, which says nothing of its spread. Where no value differs
        within a sample it has no width, which says that the seeds at hand agree.

    Raises:
        ValueError: if there is no value or one is not finite.
    """
    samples = [_finite_array(values) for values in (first, second) if values is not None]
    smallest = min(map(len, samples))
    if smallest == 1:
        return None
    generator = np.random.default_rng(seed_sequence(0, "expanded"))
    means = [
        values[generator.integers(len(values), size=(resamples, len(values)))].mean(1)
        for values in samples
    ]
    differences = means[0] if second is None else means[0] - means[1]
    t = scipy.stats.t.ppf((1 + level) / 2, smallest - 1)
    tail = float(scipy.stats.norm.cdf(-math.sqrt(smallest / (smallest - 1)) * t))
    low, high = np.quantile(differences, [tail, 1 - tail])
    return [float(low), float(high)]


def _share_of_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``[R, S]`` and ``[R, T]`` to ``[R]``: the share of pairs won, draws counting half."""
    signs = np.sign(first[:, :, None] - second[:, None, :])
    share: np.ndarray = 0.5 + 0.5 * signs.mean((1, 2))
    return share


def summarise(per_seed: Sequence[float | None]) -> Summary:
    """Summarise one measure over seeds.

    Mean, interquartile mean (``iqm``) and ``ci95``, the 95 % interval of the *mean*, are over
    the seeds that have a finite value. The others, failed seeds or a measure that the
    environment does not define, stay in ``per_seed`` as None and are counted in ``failed``.

    Args:
        per_seed: one value a seed ``[S]``; None, NaN or infinite where there is none.
    """
    kept = [None if v is None or not math.isfinite(v) else float(v) for v in per_seed]
    finite = [v for v in kept if v is not None]
    return {
        "mean": float(np.mean(finite)) if finite else None,
        "iqm": interquartile_mean(finite) if finite else None,
        "ci95": bootstrap_interval(finite) if finite else None,
        "per_seed": kept,
        "failed": len(kept) - len(finite),
    }


def _finite_array(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"expected a list of at least one value, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite values, got {array.tolist()}")
    return array
