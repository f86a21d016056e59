"""One decision over many layers: the smallest p-value, compared under the same permutations.

Westfall and Young, "Resampling-Based Multiple Testing", 1993, single-step minP. Layers see the
same inputs, so that their tests depend on each other: what is corrected for is what the
permutations show.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.mmd import tolerance


@dataclass(frozen=True)
class JointResult:
    """One p-value for all layers, and each layer's own, uncorrected."""

    p_value: float
    layer_p_values: Float[Tensor, " L"]
    smallest_p: float


def joint_min_p(statistics: Tensor) -> JointResult:
    """The joint test of L statistics under R shared splits, of which the first is the observed one.

    Statistics ``[L, R]`` are of the size of an MMD² or of standard deviations: what differs by less
    than 1e-10 (in float32 2e-6) counts as equal.

    A layer whose statistic is the same under every split (a dead one) has p-value 1 throughout, and
    no say. Splits that share the smallest p-value are told apart by how far out of all splits the
    statistic lies that has it, in standard deviations: without that, a p-value below L/R could not
    come out.

    Raises:
        UserError: if there is no layer or a single split, or a statistic is not finite.
    """
    if statistics.ndim != 2:
        raise UserError(f"statistics have shape {tuple(statistics.shape)}; expected [L, R]")
    if not statistics.is_floating_point():
        statistics = statistics.double()
    layers, splits = statistics.shape
    if layers < 1 or splits < 2:
        raise UserError(f"expected at least 1 layer and 2 splits, got {layers} and {splits}")
    if not bool(statistics.isfinite().all()):
        raise UserError("a statistic is not finite: look at the samples that it is of")
    lowered = statistics - tolerance(statistics)
    as_large = (statistics >= lowered[:, :1]).sum(1)
    rank = int(as_large.min())
    # A split's rank in a layer is how many statistics are as large as its own. Sorting would give
    # all ranks; which are below that of the observed split, or equal to it, takes two selections.
    smaller = lowered > _largest(statistics, rank)
    as_small = (
        lowered > _largest(statistics, rank + 1) if rank < splits else torch.ones_like(smaller)
    )
    # Over all layers that share the smallest p-value, the one that lies furthest out.
    excess = torch.where(as_small, _standardised(statistics), -torch.inf).amax(0)
    tied = as_small.any(0) & (excess >= excess[0] - 1e-9)
    p = float((smaller.any(0) | tied).double().mean())
    return JointResult(p, as_large.double() / splits, 1 / splits)


def _largest(statistics: Float[Tensor, "L R"], number: int) -> Float[Tensor, "L 1"]:
    """Each layer's largest statistic, the second largest, and so on, by its number from 1."""
    splits = statistics.shape[1]
    return statistics.kthvalue(splits - number + 1, 1, keepdim=True).values


def _standardised(statistics: Float[Tensor, "L R"]) -> Float[Tensor, "L R"]:
    values = statistics.double()
    variance, mean = torch.var_mean(values, 1, keepdim=True)
    return (values - mean) / torch.where(variance > 0, variance.sqrt(), 1.0)
