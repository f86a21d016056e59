"""The residual network of IMPALA (Espeholt et al. 2018, arXiv 1802.01561, figure 3, right)."""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.networks.encoders.convolution import SeedConv2d
from jsrl.networks.encoders.encoder import (
    ImageEncoder,
    ImageEncoderOptions,
    ImageShape,
    encoders,
    require_size,
)
from jsrl.networks.layers import SeedLinear


@dataclass
class ImpalaOptions(ImageEncoderOptions):
    """Fifteen 3×3 convolutions in three sections, and a layer of 256 units with ReLU.

    A section is a convolution, max pooling that halves the image, and two residual blocks of two
    convolutions each. Pixels are divided by 255. The LSTM of the paper is left out.
    """

    features: int = 256
    # Channels of the sections.
    channels: list[int] = field(default_factory=lambda: [16, 32, 32])

    def check(self) -> None:
        super().check()
        if not self.channels or min(self.channels) < 1:
            raise UserError(
                f"learner.encoder.channels={self.channels} must be one number of channels, at "
                "least 1, for each section"
            )


class SeedMaxPool(nn.Module):
    """The maximum over 3×3 pixels at every second one, as TensorFlow's padding ``SAME`` has it.

    n pixels become ⌈n/2⌉. The windows of an even n begin at the first pixel, and the last window
    is cut short; those of an odd n begin one pixel before it.
    """

    def forward(self, x: Float[Tensor, "S B C H W"]) -> Float[Tensor, "S B C H2 W2"]:
        padding = (x.shape[-2] % 2, x.shape[-1] % 2)
        pooled = nn.functional.max_pool2d(x.flatten(0, 1), 3, 2, padding, ceil_mode=True)
        return pooled.unflatten(0, x.shape[:2])


class ResidualBlock(nn.Module):
    """The input plus two convolutions of it, each after ReLU."""

    def __init__(self, num_seeds: int, channels: int) -> None:
        super().__init__()
        self.activation_0 = nn.ReLU()
        self.convolution_0 = SeedConv2d(num_seeds, channels, channels, 3, padding=1)
        self.activation_1 = nn.ReLU()
        self.convolution_1 = SeedConv2d(num_seeds, channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "S B C H W"]) -> Float[Tensor, "S B C H W"]:
        inner = self.convolution_0(self.activation_0(x))
        added: Tensor = x + self.convolution_1(self.activation_1(inner))
        return added


@encoders.register("impala", ImpalaOptions)
class ImpalaEncoder(ImageEncoder):
    """See ``ImpalaOptions``. It takes images of any size."""

    def __init__(self, options: ImpalaOptions, num_seeds: int, shape: ImageShape) -> None:
        require_size("impala", shape, 1)
        channels, height, width = shape
        sections: OrderedDict[str, nn.Module] = OrderedDict()
        for i, out in enumerate(options.channels):
            sections[f"convolution_{i}"] = SeedConv2d(num_seeds, channels, out, 3, padding=1)
            sections[f"pooling_{i}"] = SeedMaxPool()
            sections[f"block_{i}_0"] = ResidualBlock(num_seeds, out)
            sections[f"block_{i}_1"] = ResidualBlock(num_seeds, out)
            channels, height, width = out, (height + 1) // 2, (width + 1) // 2
        sections["activation"] = nn.ReLU()
        trunk: OrderedDict[str, nn.Module] = OrderedDict()
        trunk["linear"] = SeedLinear((num_seeds,), channels * height * width, options.features)
        trunk["activation"] = nn.ReLU()
        super().__init__(
            "impala",
            shape,
            nn.Sequential(sections),
            nn.Sequential(trunk),
            features=options.features,
            initialisation=options.initialisation,
            trunk_gain=math.sqrt(2),
        )
