"""The detection rate of a layer: the share of many small tests that reject, as a size of effect.

The source post tests 100 times on 100 random samples of each side, and reads the share of
rejections as a decision. Those samples overlap, and steps of an episode are alike: under the null
hypothesis the share is far above 5 % now and then. So it stands beside its own null quantile, from
the same procedure with episodes of the reference on both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.mmd import mmd_permutation_tests
from jsrl.monitor.detectors.splits import drawn_splits


@dataclass(frozen=True)
class RateSettings:
    """How detection rates are computed.

    Args:
        tests: how many small tests are made.
        samples: how many samples of each side a small test has.
        level: the level at which it rejects.
        permutations: how many splits it draws.
        null_splits: over how many splits of the reference the null distribution of the rate is
            taken. Each sets as many episodes against the rest as are in question, at most half.
        quantile: which quantile of the null distribution is given.
    """

    tests: int = 100
    samples: int = 100
    level: float = 0.05
    permutations: int = 199
    null_splits: int = 40
    quantile: float = 0.95


@dataclass(frozen=True)
class DetectionRates:
    """The rate of each of L layers, and the null quantile that it would have to exceed."""

    rates: Float[Tensor, " L"]
    null_quantiles: Float[Tensor, " L"]


def detection_rates(
    layers: Sequence[Float[Tensor, "N _"]],
    blocks: Int[Tensor, " N"],
    first: int,
    settings: RateSettings,
    generator: torch.Generator,
) -> DetectionRates:
    """The rates of all layers, and the quantiles that they have where both sides are reference.

    Args:
        layers: for each layer the samples of both sides.
        blocks: the episode of each sample, numbered from 0.
        first: how many episodes, the first ones, are the reference; the rest is in question.
        settings: how the rates are computed.
        generator: splits, samples and permutations are drawn from it.

    Raises:
        UserError: if fewer than two episodes are the reference, or none is in question.
    """
    count = int(blocks.max()) + 1
    if not 1 < first < count:
        raise UserError(
            f"{first} of {count} episodes are the reference; rates need at least 2, and 1 beside"
        )
    rates = _rates(layers, blocks < first, settings, generator)
    trusted = blocks < first
    own = [layer[trusted.to(layer.device)] for layer in layers]
    against = min(count - first, first // 2)
    splits = drawn_splits(first - against, against, settings.null_splits, generator).first_side
    null = torch.stack(
        [_rates(own, side.bool()[blocks[trusted]], settings, generator) for side in splits.T[1:]]
    )
    return DetectionRates(rates, null.quantile(settings.quantile, 0, interpolation="higher"))


def _rates(
    layers: Sequence[Float[Tensor, "N _"]],
    on_first: Tensor,
    settings: RateSettings,
    generator: torch.Generator,
) -> Float[Tensor, " L"]:
    sides = [on_first.nonzero()[:, 0], (~on_first).nonzero()[:, 0]]
    size = min(settings.samples, *(len(side) for side in sides))
    if size < 2:
        return torch.zeros(len(layers), dtype=torch.float64)
    drawn = [
        side[torch.rand(settings.tests, len(side), generator=generator).argsort(1)[:, :size]]
        for side in sides
    ]
    x, y = ([layer[places.to(layer.device)] for layer in layers] for places in drawn)
    found = mmd_permutation_tests(x, y, settings.permutations, generator=generator)
    return (found.p_values <= settings.level).double().mean(0).cpu()
