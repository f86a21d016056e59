"""Feature points: where in an image each channel is active (Finn et al. 2016, arXiv 1509.06113)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.networks.encoders.encoder import (
    ImageEncoder,
    ImageEncoderOptions,
    ImageShape,
    chain,
    chain_size,
    encoders,
    require_size,
)

SMALLEST = 25
"""Pixels a side, of which the convolutions leave two: of one, all points would be the same."""


@dataclass
class SpatialSoftmaxOptions(ImageEncoderOptions):
    """Three convolutions with ReLU, of which every channel of the last one gives a point.

    They are 7×7 with stride 2, 5×5 and 5×5, of 64, 32 and ``features`` / 2 channels, after Finn et
    al. 2016. Pixels are divided by 255. The features are the points' coordinates in [-1, 1] and
    nothing else; activations are not normalised, and no weights of another network are taken.
    """

    features: int = 32

    def check(self) -> None:
        super().check()
        if self.features % 2:
            raise UserError(
                f"learner.encoder.features={self.features} must be even: a point has two "
                "coordinates"
            )


class SeedSpatialSoftmax(nn.Module):
    """The expected coordinates of each channel's softmax over the image.

    With the temperature α of the seed, which is learnt, sₕᵥ = exp(aₕᵥ/α) / Σ exp(a/α) over all
    pixels, and the point is Σ sₕᵥ·(x, y). Rows and columns go from -1 to 1.

    Args:
        num_seeds: S.
        height: of the image, at least 2.
        width: of the image, at least 2.
    """

    coordinates: Tensor

    def __init__(self, num_seeds: int, height: int, width: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(num_seeds))
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        self.register_buffer("coordinates", torch.stack([x, y]).flatten(1), persistent=False)

    def forward(self, maps: Float[Tensor, "S B C H W"]) -> Float[Tensor, "S B C 2"]:
        # Seed by seed: the gradient of α is a sum over everything else, whose order another number
        # of seeds would change.
        seeds = zip(maps.flatten(-2).unbind(0), self.temperature.unbind(0), strict=True)
        shares = torch.stack([torch.softmax(own / alpha, -1) for own, alpha in seeds])
        return (shares.unsqueeze(-2) * self.coordinates).sum(-1)


@encoders.register("spatial_softmax", SpatialSoftmaxOptions)
class SpatialSoftmaxEncoder(ImageEncoder):
    """See ``SpatialSoftmaxOptions``. Raises UserError for images below 25×25."""

    def __init__(self, options: SpatialSoftmaxOptions, num_seeds: int, shape: ImageShape) -> None:
        require_size("spatial_softmax", shape, SMALLEST)
        channels, height, width = shape
        layers = [(64, 7, 2), (32, 5, 1), (options.features // 2, 5, 1)]
        convolutions = chain(num_seeds, channels, layers)
        convolutions.add_module(
            "points",
            SeedSpatialSoftmax(num_seeds, chain_size(height, layers), chain_size(width, layers)),
        )
        super().__init__(
            "spatial_softmax",
            shape,
            convolutions,
            nn.Identity(),
            features=options.features,
            initialisation=options.initialisation,
            trunk_gain=1.0,
        )
