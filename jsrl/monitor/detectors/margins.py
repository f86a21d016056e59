"""What single columns of the observation do within an episode.

One sensor among thirty hardly moves a kernel of all columns, and a sensor that contradicts the
others may move none of their distributions. So every column has four numbers in every episode,
which are compared like a layer is.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

KINDS = ("mean", "spread", "change", "relation")
"""``mean`` and ``spread`` are the mean and standard deviation of the column; ``change`` is the mean
size of its change from one watched step to the next; ``relation`` is the root mean square of what
the other columns do not explain of it."""

RIDGE = 1e-4
"""The share of a column's variance that is added to it, so that columns may equal each other."""


def margins_of_episodes(
    observations: Float[Tensor, "N D"], blocks: Int[Tensor, " N"], count: int
) -> dict[str, Float[Tensor, "D B"]]:
    """The margins of every column in each of B episodes.

    Args:
        observations: N steps, those of an episode in their order.
        blocks: the episode of each step.
        count: the number of episodes, B.

    Returns:
        For each kind its values. An episode without a step, or for ``change`` without two steps,
        gets the mean of the others.
    """
    values = observations.double()
    spread = values.std(0) if len(values) > 1 and values.numel() else torch.zeros_like(values[0])
    z = (values - values.mean(0)) / torch.where(spread > 0, spread, 1.0)
    mean, counts = _mean(z, blocks, count)
    square, _ = _mean((z - mean[blocks]).square(), blocks, count)
    same = blocks[1:] == blocks[:-1]
    change, changes = _mean((z[1:] - z[:-1]).abs()[same], blocks[1:][same], count)
    unexplained, _ = _mean(residuals(z).square(), blocks, count)
    return {
        "mean": _filled(mean, counts).T,
        "spread": _filled(square.sqrt(), counts).T,
        "change": _filled(change, changes).T,
        "relation": _filled(unexplained.sqrt(), counts).T,
    }


def residuals(z: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """What a linear regression on the other columns leaves of each column, over all steps together.

    With the precision matrix Ω of the columns it is (Ω z)ⱼ/Ωⱼⱼ (Lauritzen, "Graphical Models",
    1996, section 5.1).
    """
    covariance = z.T @ z / len(z)
    precision = torch.linalg.inv(covariance + RIDGE * torch.eye(z.shape[1], dtype=z.dtype))
    return (z @ precision) / precision.diagonal()


def _mean(
    values: Float[Tensor, "N D"], blocks: Int[Tensor, " N"], count: int
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 1"]]:
    """The mean over the steps of each episode, 0 without any, and how many steps there are."""
    counts = torch.bincount(blocks, minlength=count).double()[:, None]
    sums = torch.zeros(count, values.shape[1], dtype=values.dtype)
    return sums.index_add_(0, blocks, values) / counts.clamp_min(1), counts


def _filled(values: Float[Tensor, "B D"], counts: Float[Tensor, "B 1"]) -> Float[Tensor, "B D"]:
    """The values, with the mean of the others where an episode has no step."""
    there = counts > 0
    average = (values * there).sum(0) / there.sum().clamp_min(1)
    return torch.where(there, values, average)
