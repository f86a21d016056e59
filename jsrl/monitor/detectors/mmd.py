"""Two-sample tests by the maximum mean discrepancy, with permutations of samples or of episodes.

Gretton et al., "A Kernel Two-Sample Test", JMLR 2012. The p-value is (1 + b)/(1 + P) (Phipson and
Smyth 2010), never 0.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.kernels import gaussian_kernel, mmd_of_splits, sum_over_blocks
from jsrl.monitor.detectors.sample_checks import checked_layers, checked_samples
from jsrl.monitor.detectors.splits import (
    Splits,
    all_splits,
    count_splits,
    drawn_splits,
    number_blocks,
)

CLEAR_AUTOCORRELATION = 0.25
"""The mean correlation of a sample with the next one above which a warning is given."""

AT_A_TIME = 1 << 25
"""How many numbers a product of kernels and splits may hold at a time."""


class AutocorrelationWarning(UserWarning):
    """Samples that follow each other are alike, but were permuted one by one."""


@dataclass(frozen=True)
class MMDResult:
    """What a test found.

    Args:
        statistic: the unbiased MMD² of the observed split, which can be below 0.
        p_value: (1 + b)/(1 + P), where b of the P other splits are as extreme or more.
        bandwidth: the median distance between pooled samples; k = exp(-d²/(2·bandwidth²)).
        smallest_p: the smallest p-value that these splits could have given.
        degenerate: whether the median distance is 0, as in a dead layer; then nothing was tested,
            and the p-value is 1.
    """

    statistic: float
    p_value: float
    bandwidth: float
    smallest_p: float
    degenerate: bool


@dataclass(frozen=True)
class MMDResults:
    """What T tests in each of L layers found; see ``MMDResult`` for the names."""

    statistics: Float[Tensor, "T L"]
    p_values: Float[Tensor, "T L"]
    bandwidths: Float[Tensor, "T L"]
    smallest_p: float
    degenerate: Bool[Tensor, "T L"]


def mmd_permutation_test(
    x: Tensor,
    y: Tensor,
    groups_x: Tensor | None = None,
    groups_y: Tensor | None = None,
    permutations: int = 1000,
    *,
    generator: torch.Generator | None = None,
    exhaustive: bool = False,
) -> MMDResult:
    """Test whether x and y come from the same distribution.

    The test is computed in float64 and does not depend on the unit of the samples.

    Args:
        x: samples of the reference ``[N, D]``, of any real type.
        y: samples in question ``[M, D]``.
        groups_x: whole numbers ``[N]``, which samples of x belong together, as the steps of an
            episode do: they are permuted as a block. Steps of an episode that are permuted one by
            one give false alarms nearly always.
        groups_y: whole numbers ``[M]``, which samples of y belong together. Equal numbers on both
            sides are different groups.
        permutations: P, how many other splits are drawn, no two of them the same; all of them
            where there are no more.
        generator: to draw them from; not needed with ``exhaustive``.
        exhaustive: whether every split there is is compared; then ``permutations`` is not used.

    Raises:
        UserError: if shapes or devices do not fit, there are too few samples or groups, numbers
            are not finite, or there is no generator.
    """
    x, y = checked_samples(x, y)
    if groups_x is None and groups_y is None:
        _warn_if_autocorrelated(x, y)
    blocks, first, second = _blocks(x, y, groups_x, groups_y)
    splits = _splits(first, second, permutations, generator, exhaustive)
    kernel, bandwidth = gaussian_kernel(torch.cat([x, y]).double())
    sums, sizes = sum_over_blocks(kernel, blocks, first + second)
    statistics = mmd_of_splits(sums[None], sizes[None], splits.first_side)
    degenerate = bool(bandwidth == 0)
    return MMDResult(
        statistic=float(statistics[0, 0]),
        p_value=1.0 if degenerate else float(p_values(statistics)[0]),
        bandwidth=float(bandwidth),
        smallest_p=splits.smallest_p,
        degenerate=degenerate,
    )


def mmd_permutation_tests(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    permutations: int = 1000,
    *,
    generator: torch.Generator,
) -> MMDResults:
    """T tests in each of L layers, all under the same permutations of single samples.

    Args:
        x: for each layer, T sets of N reference samples; layers may differ in size.
        y: for each layer, T sets of M samples in question. What is longer than float32 is
            computed in float64.
        permutations: P, how many other splits are drawn, no two of them the same; all of them
            where there are no more.
        generator: to draw them from, once for all.

    Raises:
        UserError: if shapes or devices do not fit, there are too few samples, or numbers are not
            finite.
    """
    x, y = checked_layers(x, y)
    splits = _splits(x[0].shape[1], y[0].shape[1], permutations, generator, exhaustive=False)
    found = [_tests_of_layer(*layer, splits) for layer in zip(x, y, strict=True)]
    statistics, p, bandwidths = (torch.stack(part, 1) for part in zip(*found, strict=True))
    return MMDResults(statistics, p, bandwidths, splits.smallest_p, bandwidths == 0)


def p_values(statistics: Float[Tensor, "L R"]) -> Float[Tensor, " L"]:
    """The p-value (1 + b)/R of the first of R splits; ties count, up to rounding."""
    observed = statistics[:, :1]
    as_extreme = statistics >= observed - tolerance(statistics)
    # The observed split is one of them: it is the 1 in (1 + b).
    return as_extreme.double().mean(-1)


def tolerance(statistics: Float[Tensor, "L R"]) -> float:
    """How far equal MMD² may differ by rounding: they are means of terms of size up to 1."""
    return 1e-10 if statistics.dtype == torch.float64 else 2e-6


def _tests_of_layer(
    x: Float[Tensor, "T N D"], y: Float[Tensor, "T M D"], splits: Splits
) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"], Float[Tensor, " T"]]:
    """Statistics, p-values and bandwidths of T tests, a few at a time."""
    pooled = torch.cat([x, y], 1)
    sides = splits.first_side.to(pooled)
    sizes = pooled.new_ones(1, pooled.shape[1])
    step = max(1, AT_A_TIME // (pooled.shape[1] * sides.shape[1]))
    parts = []
    for some in pooled.split(step):
        kernel, bandwidths = gaussian_kernel(some)
        statistics = mmd_of_splits(kernel, sizes.expand(len(some), -1), sides)
        p = torch.where(bandwidths > 0, p_values(statistics), 1.0)
        parts.append((statistics[:, 0], p, bandwidths))
    statistic, p, bandwidth = (torch.cat(part) for part in zip(*parts, strict=True))
    return statistic, p, bandwidth


def _blocks(
    x: Tensor, y: Tensor, groups_x: Tensor | None, groups_y: Tensor | None
) -> tuple[Tensor, int, int]:
    if (groups_x is None) != (groups_y is None):
        missing = "groups_x" if groups_x is None else "groups_y"
        raise UserError(f"{missing} is missing: give the groups of both sides, or of none")
    if groups_x is None or groups_y is None:
        return torch.arange(len(x) + len(y)), len(x), len(y)
    for name, groups, samples in (("groups_x", groups_x, x), ("groups_y", groups_y, y)):
        if groups.is_floating_point() or groups.is_complex():
            raise UserError(f"{name} is of {groups.dtype}; expected whole numbers: use .long()")
        if groups.shape != samples.shape[:1]:
            raise UserError(
                f"{name} has shape {tuple(groups.shape)}; expected a number for each of the "
                f"{len(samples)} samples"
            )
    return number_blocks(groups_x.long().cpu(), groups_y.long().cpu())


def _splits(
    first: int,
    second: int,
    permutations: int,
    generator: torch.Generator | None,
    exhaustive: bool,
) -> Splits:
    if count_splits(first, second) < 2:
        raise UserError(f"{first} and {second} groups leave nothing to permute")
    if exhaustive:
        return all_splits(first, second)
    if permutations < 1:
        raise UserError(f"permutations={permutations} must be at least 1")
    if generator is None:
        raise UserError("generator is missing: permutations are drawn from one that you choose")
    if generator.device.type != "cpu":
        raise UserError(
            f"generator is on {generator.device}; permutations are drawn on the CPU, so that they "
            "are the same everywhere: use torch.Generator()"
        )
    return drawn_splits(first, second, permutations, generator)


def _warn_if_autocorrelated(x: Tensor, y: Tensor) -> None:
    found = max(autocorrelation(x), autocorrelation(y))
    if found > max(CLEAR_AUTOCORRELATION, 4 / min(len(x), len(y)) ** 0.5):
        warnings.warn(
            f"neighbouring samples are correlated by {found:.2f}, as steps of an episode are: "
            "permuted one by one they give false alarms; pass the episodes as groups_x and "
            "groups_y",
            AutocorrelationWarning,
            stacklevel=3,
        )


def autocorrelation(samples: Float[Tensor, "N D"]) -> float:
    """Mean correlation of a sample with the next, over the dimensions that vary."""
    largest = samples.double().abs().amax(0)
    # Within [-1, 1], whatever the unit; the mean of equal numbers is rounded.
    z = samples.double() / torch.where(largest > 0, largest, 1.0)
    z = z - z.mean(0)
    variance = (z * z).sum(0)
    varies = variance > len(samples) * (4 * torch.finfo(samples.dtype).eps) ** 2
    if len(samples) < 3 or not varies.any():
        return 0.0
    return float(((z[1:] * z[:-1]).sum(0)[varies] / variance[varies]).mean())
