"""The convolutional network of the Atari DQN (Mnih et al. 2015, Nature 518, Methods)."""

import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from jsrl.networks.encoders.encoder import (
    ImageEncoder,
    ImageEncoderOptions,
    ImageShape,
    chain,
    chain_size,
    encoders,
    require_size,
)
from jsrl.networks.layers import SeedLinear

LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Output channels, kernel and stride of each convolution."""

SMALLEST = 36
"""Pixels a side, of which the convolutions leave one."""


@dataclass
class NatureOptions(ImageEncoderOptions):
    """Three convolutions and a layer of 512 units, all with ReLU; pixels are divided by 255."""

    features: int = 512


@encoders.register("nature", NatureOptions)
class NatureEncoder(ImageEncoder):
    """See ``NatureOptions``. Raises UserError for images below 36×36."""

    def __init__(self, options: NatureOptions, num_seeds: int, shape: ImageShape) -> None:
        require_size("nature", shape, SMALLEST)
        channels, height, width = shape
        flat = LAYERS[-1][0] * chain_size(height, LAYERS) * chain_size(width, LAYERS)
        trunk: OrderedDict[str, nn.Module] = OrderedDict()
        trunk["linear"] = SeedLinear((num_seeds,), flat, options.features)
        trunk["activation"] = nn.ReLU()
        super().__init__(
            "nature",
            shape,
            chain(num_seeds, channels, LAYERS),
            nn.Sequential(trunk),
            features=options.features,
            initialisation=options.initialisation,
            trunk_gain=math.sqrt(2),
        )
