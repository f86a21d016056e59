"""What single columns of the observation do within an episode.

One sensor among thirty hardly moves a kernel of all columns, and a sensor that contradicts the
others may move none of their distributions. So every column has four numbers in every episode,
which are compared like a layer is.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

KINDS = ("mean", "spread", "change", "relation")
"""``mean`` and ``spread`` (standard deviation) of the column; ``change``, the mean size of its
steps from one row to the next; ``relation``, the root mean square of what the other columns do not
explain of it."""

RIDGE = 1e-4
"""Share of a column's variance that is added to it, so that columns may equal each other."""


def margins_of_episodes(
    observations: Float[Tensor, "N D"], blocks: Int[Tensor, " N"], count: int
) -> dict[str, Float[Tensor, "D B"]]:
    """The margins of every column in each of B episodes.

    Args:
        observations: rows, those of an episode in order.
        blocks: the episode of each row.
        count: B.

    Returns:
        For each kind its values; an episode without a row, or for ``change`` without two, stands
        at the mean of the others.
    """
    values = observations.double()
    spread = values.std(0)
    z = (values - values.mean(0)) / torch.where(spread > 0, spread, 1.0)
    mean, rows = _mean(z, blocks, count)
    square, _ = _mean((z - mean[blocks]).square(), blocks, count)
    same = blocks[1:] == blocks[:-1]
    change, steps = _mean((z[1:] - z[:-1]).abs()[same], blocks[1:][same], count)
    unexplained, _ = _mean(residuals(z).square(), blocks, count)
    return {
        "mean": _filled(mean, rows).T,
        "spread": _filled(square.sqrt(), rows).T,
        "change": _filled(change, steps).T,
        "relation": _filled(unexplained.sqrt(), rows).T,
    }


def residuals(z: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """What a linear regression on the other columns leaves of each column, of all rows together.

    With the precision matrix Ω of the columns it is (Ω z)ⱼ/Ωⱼⱼ (Lauritzen, "Graphical Models",
    1996, section 5.1).
    """
    covariance = z.T @ z / len(z)
    precision = torch.linalg.inv(covariance + RIDGE * torch.eye(z.shape[1], dtype=z.dtype))
    return (z @ precision) / precision.diagonal()


def _mean(
    values: Float[Tensor, "N D"], blocks: Int[Tensor, " N"], count: int
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 1"]]:
    """The mean over each episode's rows, 0 without any, and how many there are."""
    rows = torch.bincount(blocks, minlength=count).double()[:, None]
    sums = torch.zeros(count, values.shape[1], dtype=values.dtype)
    return sums.index_add_(0, blocks, values) / rows.clamp_min(1), rows


def _filled(values: Float[Tensor, "B D"], rows: Float[Tensor, "B 1"]) -> Float[Tensor, "B D"]:
    """With the mean of the others where there is no row."""
    there = rows > 0
    average = (values * there).sum(0) / there.sum().clamp_min(1)
    return torch.where(there, values, average)
