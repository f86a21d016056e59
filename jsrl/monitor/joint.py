"""One decision over many layers: the smallest p-value, judged under the same permutations.

Westfall and Young, "Resampling-Based Multiple Testing", 1993, single-step minP. Layers see the
same inputs, so that their tests depend on each other: what is corrected for is what the
permutations show.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.errors import UserError
from jsrl.monitor.mmd import tolerance


@dataclass(frozen=True)
class JointResult:
    """One p-value for all layers, and each layer's own, uncorrected."""

    p_value: float
    layer_p_values: Float[Tensor, " L"]
    smallest_p: float


def joint_min_p(statistics: Float[Tensor, "L R"]) -> JointResult:
    """The joint test of L statistics under R shared splits, of which the first is the observed one.

    A layer whose statistic is the same under every split (a dead one) has p-value 1 throughout, and
    no say. Splits that share the smallest p-value are told apart by how far out of all splits the
    statistic lies that has it, in standard deviations: without that, a p-value below L/R could not
    come out.

    Raises:
        UserError: if there is no layer or a single split.
    """
    layers, splits = statistics.shape
    if layers < 1 or splits < 2:
        raise UserError(f"expected at least 1 layer and 2 splits, got {layers} and {splits}")
    ranks = _p_value_of_every_split(statistics)
    smallest = ranks.amin(0)
    # Over all layers that share the smallest p-value, the one that lies furthest out.
    excess = torch.where(ranks == smallest, _standardised(statistics), -torch.inf).amax(0)
    step = 0.5 / splits
    beyond = smallest < smallest[0] - step
    equal = (smallest <= smallest[0] + step) & (excess >= excess[0] - 1e-9)
    p = float((beyond | equal).double().mean())
    return JointResult(p, ranks[:, 0], 1 / splits)


def _p_value_of_every_split(statistics: Float[Tensor, "L R"]) -> Float[Tensor, "L R"]:
    """For each layer and split, the share of splits with a statistic as large, up to rounding."""
    splits = statistics.shape[1]
    ascending = statistics.sort(1).values
    below = torch.searchsorted(
        ascending.contiguous(), (statistics - tolerance(statistics)).contiguous()
    )
    return (splits - below).double() / splits


def _standardised(statistics: Float[Tensor, "L R"]) -> Float[Tensor, "L R"]:
    spread = statistics.double().std(1, keepdim=True)
    deviation = statistics.double() - statistics.double().mean(1, keepdim=True)
    return deviation / torch.where(spread > 0, spread, 1.0)
