"""How far the predictions of M models differ that were trained alike.

Each function takes what M models say of the same N examples and gives a matrix ``[M, M]``, one
number for each pair of models, symmetric, with zeros on its diagonal; ``mean_over_pairs`` makes one
number of it. Models may come along the seed axis of one run or from several runs: concatenate them.

The relative difference is that of Shamir, Lin and Coviello 2020 (arXiv 2010.09931), section 2. In
reinforcement learning predictions may be near 0 or negative, where it says nothing: actions are
measured in their range, values by their spread, returns by the range of scores.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Pairs = Float[np.ndarray, "M M"]


def relative_prediction_difference(
    predictions: Float[np.ndarray, "M N"],
    variant: Literal["pairwise", "mean_centred"] = "pairwise",
) -> float:
    """The relative prediction difference of M models on N examples.

    Args:
        predictions: one row a model.
        variant: ``pairwise`` is the mean over pairs of |p₁ - p₂| / |(p₁ + p₂)/2|;
            ``mean_centred`` the mean over models of |p - p̄| / |p̄|, p̄ being their mean for an
            example. Of two models the second is half of the first.

    Raises:
        ValueError: if there are fewer than two models or no example, a number is not finite, or
            there is no such variant.
    """
    if variant == "pairwise":
        return mean_over_pairs(relative_differences(predictions))
    if variant != "mean_centred":
        raise ValueError(f"variant={variant!r} is unknown; choose pairwise or mean_centred")
    p = _checked(predictions, 2)
    # From the first model on: the mean of equal numbers is then exactly theirs.
    centre = p[0] + (p - p[0]).mean(0)
    return float(_share(np.abs(p - centre), np.abs(centre)).mean())


def relative_differences(predictions: Float[np.ndarray, "M N"]) -> Pairs:
    """|pᵢ - pⱼ| / |(pᵢ + pⱼ)/2|, mean over examples.

    It is 0 where both predictions are 0, and infinite where they cancel.

    Raises:
        ValueError: if there are fewer than two models or no example, or a number is not finite.
    """
    p = _checked(predictions, 2)
    return _pairwise(p, lambda one, other: _share(np.abs(one - other), np.abs(one + other) / 2))


def action_differences(
    actions: Float[np.ndarray, "M N A"], low: float | np.ndarray, high: float | np.ndarray
) -> Pairs:
    """|aᵢ - aⱼ| / (high - low), mean over examples and dimensions of the action.

    Args:
        actions: continuous actions.
        low: lower bounds of the actions, a number or ``[A]``.
        high: upper bounds of the actions, a number or ``[A]``.

    Raises:
        ValueError: if there are fewer than two models or no example, a number is not finite, or an
            upper bound is not above its lower one.
    """
    a, span = _checked(actions, 3), np.asarray(high, float) - np.asarray(low, float)
    if not (span > 0).all():
        raise ValueError(f"expected high above low, got low={low} and high={high}")
    return _pairwise(a, lambda one, other: np.abs(one - other) / span)


def value_differences(values: Float[np.ndarray, "M N"]) -> Pairs:
    """|Qᵢ - Qⱼ| by the interquartile range of the models' mean, mean over examples.

    The scale is that of all M models, so that pairs can be compared; it is infinite where the mean
    is the same for all examples but the models differ.

    Raises:
        ValueError: if there are fewer than two models or no example, or a number is not finite.
    """
    q = _checked(values, 2)
    low, high = np.quantile(q.mean(0), [0.25, 0.75])
    return _pairwise(q, lambda one, other: _share(np.abs(one - other), np.asarray(high - low)))


def rank_flips(predictions: Float[np.ndarray, "M N"]) -> Pairs:
    """The share of pairs of examples that two models put in opposite order.

    A pair that is level for one of them counts half, for both not at all. Without level pairs it
    is (1 - Kendall's τ)/2.

    Raises:
        ValueError: if there are fewer than two models or than two examples, or a number is not
            finite.
    """
    p = _checked(predictions, 2)
    if p.shape[1] < 2:
        raise ValueError("expected at least two examples to rank, got 1")
    upper = np.triu_indices(p.shape[1], 1)
    order = np.sign(p[:, upper[0]] - p[:, upper[1]]).astype(np.float32)
    return _pairwise(order, lambda one, other: np.abs(one - other) / 2)


def choice_flips(choices: Int[np.ndarray, "M N"]) -> Pairs:
    """The share of examples for which two models choose differently: discrete actions, classes.

    Raises:
        ValueError: if there are fewer than two models or no example, or a number is not finite.
    """
    c = _checked(choices, 2)
    return _pairwise(c, lambda one, other: (one != other).astype(float))


def return_differences(
    returns: Float[np.ndarray, " M"], score_range: Sequence[float] = (0.0, 1.0)
) -> Pairs:
    """|Rᵢ - Rⱼ| / (high - low) of mean returns, or of shares of success.

    Args:
        returns: one number a model.
        score_range: low and high.

    Raises:
        ValueError: if there are fewer than two models, a number is not finite, or high is not above
            low.
    """
    low, high = score_range
    return action_differences(np.asarray(returns)[:, None, None], low, high)


def mean_over_pairs(pairs: Pairs) -> float:
    """The mean over all pairs of different models."""
    upper = np.triu_indices(len(pairs), 1)
    return float(pairs[upper].mean())


def _pairwise(
    rows: np.ndarray, difference: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Pairs:
    count = len(rows)
    pairs = np.zeros((count, count))
    for i in range(count):
        for j in range(i):
            pairs[i, j] = pairs[j, i] = np.mean(difference(rows[i], rows[j]))
    return pairs


def _share(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient in which 0 of 0 is 0, and something of 0 infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: np.ndarray = np.where(numerator == 0, 0.0, numerator / denominator)
    return quotient


def _checked(values: np.ndarray, rank: int) -> np.ndarray:
    shapes = [np.shape(row) for row in values]
    if len(set(shapes)) > 1:
        raise ValueError(f"expected predictions of one shape of all models, got {shapes}")
    array = np.asarray(values)
    names = ("models", "examples", "action dimensions")[:rank]
    if array.ndim != rank:
        raise ValueError(f"expected an array [{', '.join(names)}], got shape {array.shape}")
    if array.shape[0] < 2 or array.size == 0:
        raise ValueError(
            f"expected at least two models and one example, got shape {array.shape}: a single run "
            "differs from nothing"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        broken = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
        raise ValueError(f"expected finite predictions, those of models {broken.tolist()} are not")
    return array
