"""Wide layers as few numbers: a fixed random projection, or the statistics of a map's channels.

What a test costs then does not depend on how wide a layer is. A Gaussian projection to 64 numbers
keeps distances between samples within about a tenth (Johnson and Lindenstrauss 1984; Dasgupta and
Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss", 2003), and a Gaussian kernel
depends on these distances alone.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.streams import seed_sequence

WIDE = 512
"""A layer of more columns is reduced; one of fewer is compared as it is."""

NUMBERS = 64
"""How many numbers a wide layer is reduced to."""

AT_A_TIME = 1024
"""How many columns are projected at a time, so that no copy of a wide layer is made."""


def reduced(
    sides: Sequence[Tensor], name: str, seed: int, *, standardise: bool = False
) -> Float[Tensor, "N _"]:
    """The samples of all sides as one, in at most ``WIDE`` columns, or ``NUMBERS`` if reduced.

    Args:
        sides: samples ``[n, D]``, or maps ``[n, C, H, W]``, of which each channel gives its mean
            and its standard deviation over places.
        name: of the layer: with the seed it decides the projection.
        seed: of the projections, which stay the same as long as it does.
        standardise: whether columns are first put in units of their standard deviation over all
            samples, since they have units of their own.
    """
    flat = [_statistics_of_channels(side) if side.ndim > 2 else side for side in sides]
    if flat[0].shape[1] <= WIDE and (flat[0].shape[1] <= NUMBERS or sides[0].ndim == 2):
        both = torch.cat(flat)
        return standardised(both) if standardise else both
    return _projected(flat, name, seed, standardise)


def _projected(
    sides: Sequence[Float[Tensor, "_ D"]], name: str, seed: int, standardise: bool
) -> Float[Tensor, "N K"]:
    width = sides[0].shape[1]
    state = int(seed_sequence(seed, "projection", name, width).generate_state(1)[0])
    generator = torch.Generator().manual_seed(state)
    found = sides[0].new_zeros(sum(len(side) for side in sides), NUMBERS)
    for start in range(0, width, AT_A_TIME):
        some = torch.cat([side[:, start : start + AT_A_TIME] for side in sides])
        some = standardised(some) if standardise else some
        weights = torch.randn(some.shape[1], NUMBERS, generator=generator) / NUMBERS**0.5
        found += some @ weights.to(some)
    return found


def _statistics_of_channels(maps: Float[Tensor, "N C *places"]) -> Float[Tensor, "N K"]:
    values = maps.flatten(2)
    return torch.cat([values.mean(-1), values.std(-1, correction=0)], 1)


def averaged_in_runs(sides: Sequence[Float[Tensor, "_ D"]], most: int) -> Float[Tensor, "N _"]:
    """Standardised columns, averaged over runs of neighbours so that at most ``most`` are left."""
    width = sides[0].shape[1]
    run = -(-width // most)
    parts = []
    step = max(1, AT_A_TIME // run) * run
    for start in range(0, width, step):
        some = standardised(torch.cat([side[:, start : start + step] for side in sides]))
        parts += [part.mean(1) for part in some.split(run, 1)]
    return torch.stack(parts, 1)


def standardised(samples: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Every column in units of its standard deviation, since inputs come in units of their own."""
    # In float64 squares do not overflow, and the mean of equal numbers is not rounded.
    values = samples.double()
    spread = values.std(0) if len(values) > 1 else torch.zeros_like(values[0])
    z = (values - values.mean(0)) / torch.where(spread > 0, spread, 1.0)
    return z.to(samples.dtype)
