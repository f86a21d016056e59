"""Gaussian kernels between samples, summed over blocks, and the MMD² of many splits at once.

With a zero diagonal and 0/1 sides Z, the sums within and between both sides of all splits are three
products of matrices: no sample is gathered for any split.

A kernel does not depend on the unit of its samples: where squares would leave the range of their
type, or one sample is so far off that the others would lose their digits beside it, it is computed
in float64, relative to the middle of the samples and to how far they typically lie from it.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AT_A_TIME = 1 << 23
"""How many numbers a product of kernels and splits may hold at a time."""


def squared_distances(z: Float[Tensor, "*T N D"]) -> Float[Tensor, "*T N N"]:
    """Squared distances between all pairs of samples; samples that differ by rounding are equal.

    Far from the origin the products lose the differences: the samples are to lie around it.
    """
    norms = (z * z).sum(-1)
    both = norms.unsqueeze(-1) + norms.unsqueeze(-2)
    distances = both - 2 * (z @ z.mT)
    rounding = 16 * torch.finfo(z.dtype).eps * both
    return torch.where(distances > rounding, distances, 0.0)


def median_distance(squared: Float[Tensor, "*T N N"]) -> Float[Tensor, "*T"]:
    """The lower median of the distances between different samples."""
    return _distances(squared).median(-1).values.sqrt()


def median_of_positive_distances(squared: Float[Tensor, "N N"]) -> Float[Tensor, ""]:
    """The lower median of the distances that are above 0, or 0 if there are none."""
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
    return _in_range(samples, sparse=False)


def gaussian_kernel_of_sparse(
    samples: Float[Tensor, "N D"],
) -> tuple[Float[Tensor, "N N"], Float[Tensor, ""]]:
    """The kernel of ``gaussian_kernel``, for a layer that may be constant most of the time.

    Where more than half of all pairs are equal, the bandwidth is the median of the other
    distances: a layer that was dead and comes alive has a kernel that shows it.
    """
    return _in_range(samples, sparse=True)


def _in_range(
    samples: Float[Tensor, "*T N D"], sparse: bool
) -> tuple[Float[Tensor, "*T N N"], Float[Tensor, "*T"]]:
    """The kernels, in the samples' own type where that is good enough."""
    z = samples - samples.mean(-2, keepdim=True)
    squared = squared_distances(z)
    bandwidths = median_distance(squared)
    if bool(_is_exact(z, bandwidths).all()):
        return _kernel(squared, bandwidths, sparse)
    if samples.ndim == 2:
        scaled, scale = _relative(samples.double())
        squared = squared_distances(scaled)
        kernel, bandwidth = _kernel(squared, median_distance(squared), sparse)
        return kernel.to(samples.dtype), bandwidth * scale
    kernels, found = zip(*(_in_range(one, sparse) for one in samples), strict=True)
    # Bandwidths in float64: the unit may be one that the samples' type cannot hold the square of.
    return torch.stack(kernels), torch.stack([one.double() for one in found])


def _is_exact(z: Float[Tensor, "*T N D"], bandwidths: Float[Tensor, "*T"]) -> Bool[Tensor, "*T"]:
    """Whether squares neither overflow nor vanish, and no sample is far beyond the others.

    Relative to the mean, one that is takes away the digits of all others.
    """
    largest, typical = (z * z).sum(-1).amax(-1), bandwidths.square()
    limits = torch.finfo(z.dtype)
    inside = (largest < limits.max**0.8) & (typical > limits.tiny**0.75)
    return (inside & (typical > 64 * limits.eps * largest)) | (z == 0).flatten(-2).all(-1)


def _relative(
    samples: Float[Tensor, "N D"],
) -> tuple[Float[Tensor, "N D"], Float[Tensor, ""]]:
    """Samples relative to their median, in units of a power of two near their typical size."""
    # Halved, so that no difference overflows.
    z = samples / 2 - (samples / 2).median(0).values
    sizes = z.abs().amax(1)
    sizes = sizes[sizes > 0]
    if len(sizes) == 0:
        return z, z.new_tensor(1.0)
    exponent = torch.frexp(sizes.median()).exponent
    half = torch.ldexp(z.new_tensor(1.0), exponent - 1)
    # Beyond that everything is infinitely far from the rest, and squares would overflow.
    return (z / half).clamp(-1e150, 1e150), 2 * half


def _kernel(
    squared: Float[Tensor, "*T N N"], bandwidths: Float[Tensor, "*T"], sparse: bool
) -> tuple[Float[Tensor, "*T N N"], Float[Tensor, "*T"]]:
    if sparse and bandwidths == 0:
        bandwidths = median_of_positive_distances(squared)
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
    # A few splits at a time: the products are as large as all splits of all layers.
    step = max(1, AT_A_TIME // max(1, sums.shape[0] * sums.shape[1]))
    found = [_mmd_of_splits(sums, sizes, some) for some in first_side.split(step, 1)]
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def _mmd_of_splits(
    sums: Float[Tensor, "L B B"], sizes: Float[Tensor, "L B"], first_side: Float[Tensor, "B R"]
) -> Float[Tensor, "L R"]:
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
