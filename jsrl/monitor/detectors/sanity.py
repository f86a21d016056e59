"""Plain checks beside the tests: actions, saturation, twin critics, units that do nothing."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.monitor.detectors.mmd import tolerance
from jsrl.monitor.detectors.splits import Splits

SATURATED = 0.99
"""An action in [-1, 1] beyond ± this is at its bound; so is the output of a tanh."""


@dataclass(frozen=True)
class UnitCounts:
    """The shares of a layer's units that are dead and that are saturated.

    A dead unit is the same for all samples. A saturated unit never leaves [-1, 1], and is at one of
    these bounds in 99 % of the samples.
    """

    dead: float
    saturated: float


def chi_square(
    counts: Float[Tensor, "B A K"], first_side: Float[Tensor, "B R"]
) -> Float[Tensor, "A R"]:
    """Pearson's χ² of both sides' action bins, for every action dimension and split.

    Its own distribution assumes independent draws, which the steps of an episode are not. So it is
    compared under the same splits of episodes as the layers are.
    """
    z = first_side.to(counts)
    first = torch.einsum("bak,br->akr", counts, z)
    total = counts.sum(0).unsqueeze(-1)
    all_first, all_of_both = first.sum(1, keepdim=True), total.sum(1, keepdim=True)
    found = torch.zeros(counts.shape[1], z.shape[1], dtype=counts.dtype, device=counts.device)
    for side, on_side in ((first, all_first), (total - first, all_of_both - all_first)):
        expected = total * on_side / all_of_both
        terms = torch.where(expected > 0, (side - expected).square() / expected, 0.0)
        found += terms.sum(1)
    return found


def action_p_value(counts: Float[Tensor, "B A K"], splits: Splits) -> float:
    """The p-value of the largest χ² over the action dimensions."""
    largest = chi_square(counts, splits.first_side).amax(0)
    return float((largest >= largest[0] * (1 - 1e-9) - tolerance(largest[None])).double().mean())


def saturation_share(actions: Float[Tensor, "N A"]) -> float:
    """The share of action components at the bounds."""
    return float((actions.abs() > SATURATED).double().mean())


def twin_disagreement(first: Float[Tensor, " N"], second: Float[Tensor, " N"]) -> float:
    """The mean |Q₁ - Q₂| of two critics."""
    return float((first - second).abs().double().mean())


def count_units(activations: Float[Tensor, "N D"]) -> UnitCounts:
    """The dead and saturated units of a layer over N samples; NaN without any sample."""
    if len(activations) == 0:
        return UnitCounts(math.nan, math.nan)
    low, high = activations.amin(0), activations.amax(0)
    dead = high == low
    bounded = (low >= -1) & (high <= 1)
    at_bound = (activations.abs() > SATURATED).double().mean(0) >= SATURATED
    saturated = bounded & at_bound & ~dead
    return UnitCounts(float(dead.double().mean()), float(saturated.double().mean()))
