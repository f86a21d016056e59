"""The encoder of DrQ (Kostrikov, Yarats and Fergus 2020, arXiv 2004.13649, appendix B)."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

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
from jsrl.networks.layers import SeedLayerNorm, SeedLinear

SMALLEST = 15
"""Pixels a side, of which the convolutions leave one."""


@dataclass
class DrqOptions(ImageEncoderOptions):
    """Four 3×3 convolutions with ReLU, the first of stride 2; linear, LayerNorm, tanh.

    DrQ divides pixels by 255. DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645) subtracts 0.5 then,
    and its weights begin ``orthogonal``.
    """

    initialisation: str = "delta_orthogonal"
    shift: int = 4
    # Channels of each convolution.
    channels: int = 32
    # Whether 0.5 is subtracted from pixels in [0, 1], as DrQ-v2 does.
    centred: bool = False

    def check(self) -> None:
        super().check()
        if self.channels < 1:
            raise UserError(f"learner.encoder.channels={self.channels} must be at least 1")


@encoders.register("drq", DrqOptions)
class DrqEncoder(ImageEncoder):
    """See ``DrqOptions``. Raises UserError for images below 15×15."""

    def __init__(self, options: DrqOptions, num_seeds: int, shape: ImageShape) -> None:
        require_size("drq", shape, SMALLEST)
        channels, height, width = shape
        layers = [(options.channels, 3, stride) for stride in (2, 1, 1, 1)]
        flat = options.channels * chain_size(height, layers) * chain_size(width, layers)
        trunk: OrderedDict[str, nn.Module] = OrderedDict()
        trunk["linear"] = SeedLinear((num_seeds,), flat, options.features)
        trunk["norm"] = SeedLayerNorm((num_seeds,), options.features)
        trunk["activation"] = nn.Tanh()
        super().__init__(
            "drq",
            shape,
            chain(num_seeds, channels, layers),
            nn.Sequential(trunk),
            features=options.features,
            initialisation=options.initialisation,
            trunk_gain=1.0,
            centre=0.5 if options.centred else 0.0,
        )
