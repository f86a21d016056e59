"""The convolutional network of the Atari DQN (Mnih et al. 2015, Nature 518, Methods)."""

import math
from dataclasses import dataclass

from torch import nn

from jsrl.networks.encoders.encoder import (
    ChainEncoder,
    ImageEncoderOptions,
    ImageShape,
    encoders,
)

LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Output channels, kernel and stride of each convolution."""


@dataclass
class NatureOptions(ImageEncoderOptions):
    """Three convolutions and a layer of 512 units, all with ReLU; pixels are divided by 255."""

    features: int = 512


@encoders.register("nature", NatureOptions)
class NatureEncoder(ChainEncoder):
    """See ``NatureOptions``. Raises UserError for images below 36×36."""

    def __init__(self, options: NatureOptions, num_seeds: int, shape: ImageShape) -> None:
        super().__init__(
            *("nature", options, num_seeds, shape, LAYERS, {"activation": nn.ReLU()}),
            trunk_gain=math.sqrt(2),
        )
