"""The encoder of DrQ (Kostrikov, Yarats and Fergus 2020, arXiv 2004.13649, appendix B)."""

from dataclasses import dataclass

from torch import nn

from jsrl.core.errors import UserError
from jsrl.networks.encoders.encoder import (
    ChainEncoder,
    ImageEncoderOptions,
    ImageShape,
    encoders,
)
from jsrl.networks.layers import SeedLayerNorm


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
class DrqEncoder(ChainEncoder):
    """See ``DrqOptions``. Raises UserError for images below 15×15."""

    def __init__(self, options: DrqOptions, num_seeds: int, shape: ImageShape) -> None:
        layers = [(options.channels, 3, stride) for stride in (2, 1, 1, 1)]
        norm = SeedLayerNorm((num_seeds,), options.features)
        super().__init__(
            *("drq", options, num_seeds, shape, layers, {"norm": norm, "activation": nn.Tanh()}),
            trunk_gain=1.0,
            centre=0.5 if options.centred else 0.0,
        )
