"""The margins that are compared by default: level, spread, change, and relation to the others."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.monitor.detectors.margins.margin import Columns, filled, register_margin

RIDGE = 1e-4
"""The share of a column's variance that is added to it, so that columns may equal each other."""


@register_margin("mean")
def mean(columns: Columns) -> Float[Tensor, "B D"]:
    """The mean of the column."""
    return columns.mean(columns.z)


@register_margin("spread")
def spread(columns: Columns) -> Float[Tensor, "B D"]:
    """The standard deviation of the column."""
    deviation = columns.z - columns.mean(columns.z)[columns.blocks]
    # Of an episode without steps, the mean of the others' roots, not the root of their mean.
    return filled(columns.mean(deviation.square()).sqrt(), columns.steps_of_episodes())


@register_margin("change")
def change(columns: Columns) -> Float[Tensor, "B D"]:
    """The mean size of the column's change from one watched step to the next."""
    same = columns.blocks[1:] == columns.blocks[:-1]
    sizes = (columns.z[1:] - columns.z[:-1]).abs()[same]
    pairs = replace(columns, z=sizes, blocks=columns.blocks[1:][same])
    return pairs.mean(pairs.z)


@register_margin("relation")
def relation(columns: Columns) -> Float[Tensor, "B D"]:
    """The root mean square of what the other columns do not explain of the column."""
    unexplained = columns.mean(residuals(columns.z).square()).sqrt()
    return filled(unexplained, columns.steps_of_episodes())


def residuals(z: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """What a linear regression on the other columns leaves of each column, over all steps together.

    With the precision matrix Ω of the columns it is (Ω z)ⱼ/Ωⱼⱼ (Lauritzen, "Graphical Models",
    1996, section 5.1).
    """
    covariance = z.T @ z / len(z)
    precision = torch.linalg.inv(covariance + RIDGE * torch.eye(z.shape[1], dtype=z.dtype))
    return (z @ precision) / precision.diagonal()
