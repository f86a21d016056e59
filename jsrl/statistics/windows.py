"""Stretches of observations, and how far they are from all that was seen in trusted episodes.

Shapes: w steps of a stretch, O columns, F = 2·O.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

DEPTH = 1e-6
"""Added to a standard deviation, since what never moves has no logarithm of it."""


def described(stretches: Float[Tensor, "*N w O"]) -> Float[Tensor, "*N F"]:
    """The mean of every column, and then the logarithm of its standard deviation."""
    deviation, mean = torch.std_mean(stretches, -2, correction=0)
    return torch.cat([mean, (deviation + DEPTH).log()], -1)


def all_stretches(episode: Float[Tensor, "T O"], steps: int) -> Float[Tensor, "N F"]:
    """Every stretch of so many steps of an episode, described; none if it is shorter."""
    if len(episode) < steps:
        return episode.new_zeros(0, 2 * episode.shape[1])
    return described(episode.unfold(0, steps, 1).transpose(1, 2))


def excess(
    features: Float[Tensor, "*N F"],
    low: Float[Tensor, "*#N F"],
    high: Float[Tensor, "*#N F"],
    width: Float[Tensor, "*#N F"],
) -> Float[Tensor, "*N"]:
    """How far the worst feature lies outside its range, in units of its width; 0 within all.

    Infinity where a feature is not finite. Where the width is 0 the unit is 1.
    """
    unit = torch.where(width > 0, width, 1.0)
    outside = torch.maximum(low - features, features - high) / unit
    return outside.nan_to_num(nan=torch.inf, posinf=torch.inf).amax(-1).clamp(min=0)


def allowed_exceedances(level: float, count: int) -> int:
    """The largest m with m/(count + 1) ≤ level.

    What is exchangeable with ``count`` others is above their m-th largest with at most that
    probability (Vovk, Gammerman and Shafer 2005, section 2.2).
    """
    return math.floor(level * (count + 1) * (1 + 1e-12))


def fewest_for(level: float) -> int:
    """The smallest count for which ``allowed_exceedances`` is at least 1."""
    return math.ceil(1 / level * (1 - 1e-12)) - 1
