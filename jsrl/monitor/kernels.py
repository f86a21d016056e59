"""Gaussian kernels between samples, summed over blocks, and the MMD² of many splits at once.

With a zero diagonal and 0/1 sides Z, the sums within and between both sides of all splits are three
products of matrices: no sample is gathered for any split.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def squared_distances(samples: Float[Tensor, "*T N D"]) -> Float[Tensor, "*T N N"]:
    """Between all pairs of samples; what rounding alone makes different counts as equal."""
    # Relative to one of them: far from the origin the products would lose the differences.
    z = samples - samples.mean(-2, keepdim=True)
    norms = (z * z).sum(-1)
    both = norms.unsqueeze(-1) + norms.unsqueeze(-2)
    distances = both - 2 * (z @ z.mT)
    rounding = 16 * torch.finfo(samples.dtype).eps * both
    return torch.where(distances > rounding, distances, 0.0)


def median_distance(squared: Float[Tensor, "*T N N"]) -> Float[Tensor, "*T"]:
    """The lower median of the distances between different samples."""
    return _distances(squared).median(-1).values.sqrt()


def median_of_positive_distances(squared: Float[Tensor, "N N"]) -> Float[Tensor, ""]:
    """The same without those that are 0; 0 where there is no other."""
    distances = _distances(squared)
    positive = distances[distances > 0]
    return positive.median().sqrt() if len(positive) else squared.new_zeros(())


def _distances(squared: Float[Tensor, "*T N N"]) -> Float[Tensor, "*T P"]:
    n = squared.shape[-1]
    above = torch.triu_indices(n, n, offset=1, device=squared.device)
    return squared[..., above[0], above[1]]


def gaussian_kernel(
    samples: Float[Tensor, "*T N D"],
) -> tuple[Float[Tensor, "*T N N"], Float[Tensor, "*T"]]:
    """k = exp(-d²/(2·bandwidth²)) with the median distance as bandwidth, and 0 on the diagonal.

    Returns:
        The kernels, and the bandwidths; where a bandwidth is 0, the kernel is 0 everywhere.
    """
    squared = squared_distances(samples)
    return _kernel(squared, median_distance(squared))


def gaussian_kernel_of_sparse(
    samples: Float[Tensor, "N D"],
) -> tuple[Float[Tensor, "N N"], Float[Tensor, ""]]:
    """The same for a layer that may say the same most of the time.

    Where more than half of all pairs are equal, the bandwidth is the median of the other
    distances: a layer that was dead and comes alive has a kernel that shows it.
    """
    squared = squared_distances(samples)
    bandwidth = median_distance(squared)
    if bandwidth == 0:
        bandwidth = median_of_positive_distances(squared)
    return _kernel(squared, bandwidth)


def _kernel(
    squared: Float[Tensor, "*T N N"], bandwidths: Float[Tensor, "*T"]
) -> tuple[Float[Tensor, "*T N N"], Float[Tensor, "*T"]]:
    scale = torch.where(bandwidths > 0, -0.5 / bandwidths.square(), 0.0)
    kernel = squared.mul_(scale[..., None, None]).exp_()
    kernel.mul_((bandwidths > 0)[..., None, None])
    kernel.diagonal(dim1=-2, dim2=-1).zero_()
    return kernel, bandwidths


def sum_over_blocks(
    kernel: Float[Tensor, "N N"], blocks: Int[Tensor, " N"], count: int
) -> tuple[Float[Tensor, "B B"], Float[Tensor, " B"]]:
    """A kernel summed over pairs of ``count`` blocks, in float64, and the sizes of the blocks."""
    kernel, blocks = kernel.double(), blocks.to(kernel.device)
    rows = kernel.new_zeros(count, kernel.shape[1]).index_add_(0, blocks, kernel)
    sums = kernel.new_zeros(count, count).index_add_(1, blocks, rows)
    sizes = torch.bincount(blocks, minlength=count).double()
    return sums, sizes


def mmd_of_splits(
    sums: Float[Tensor, "L B B"], sizes: Float[Tensor, "L B"], first_side: Float[Tensor, "B R"]
) -> Float[Tensor, "L R"]:
    """The unbiased MMD² (Gretton et al. 2012, equation 3) of every layer under every split.

    Blocks may be of unequal length, so that the sides have other sizes under every split. Where a
    side has fewer than two samples MMD² is undefined; it counts as 0, its mean where nothing is
    different.
    """
    z = first_side.to(sums)
    within_first = (z * (sums @ z)).sum(-2)
    from_first = sums.sum(-1) @ z
    total = sums.sum((-2, -1)).unsqueeze(-1)
    between = from_first - within_first
    within_second = total - 2 * from_first + within_first
    m = sizes.to(sums) @ z
    n = sizes.to(sums).sum(-1, keepdim=True) - m
    statistics = within_first / (m * (m - 1)) + within_second / (n * (n - 1))
    statistics -= 2 * between / (m * n)
    return torch.where(torch.minimum(m, n) >= 2, statistics, 0.0)
