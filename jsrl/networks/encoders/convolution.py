"""Convolutions with a leading seed axis, and how their weights begin."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.streams import Streams
from jsrl.networks.layers import INITIALISATIONS, Initialiser, orthogonal

SCHEMES = ("delta_orthogonal", "orthogonal", "pytorch")
"""How the weights of an encoder may begin."""


class SeedConv2d(nn.Module):
    """Two-dimensional convolutions, one for each seed: weight ``[S, out, in, kernel, kernel]``.

    The seeds are convolved one after another. A grouped convolution would serve them all in one
    call, but it rounds differently for another number of seeds. For five seeds it saves at most a
    quarter of the time on single images, and takes up to 1.6 times as long on batches of 256:
    ``results/benchmark/encoders.md`` has the measurements.

    Args:
        num_seeds: S.
        in_channels: of the input.
        out_channels: of the output.
        kernel: height and width of the kernel.
        stride: in both directions.
        padding: rows and columns of zeros at each edge.
    """

    def __init__(
        self,
        num_seeds: int,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.zeros(num_seeds, out_channels, in_channels, kernel, kernel)
        )
        self.bias = nn.Parameter(torch.zeros(num_seeds, out_channels))
        self.stride = stride
        self.padding = padding

    def initialise(self, scheme: str, streams: Streams, name: str) -> None:
        """Fill the parameters from named draws; biases are 0 unless the scheme is ``pytorch``.

        Args:
            scheme: one of ``SCHEMES``. ``delta_orthogonal`` has an orthogonal matrix times √2 at
                the centre of the kernel and zeros around it (Xiao et al. 2018, arXiv 1806.05393,
                section 3). ``orthogonal`` and ``pytorch`` treat the kernel as a matrix of
                in·kernel² rows, as ``torch.nn.init`` does.
            streams: of the S seeds.
            name: what the streams of this layer begin with.
        """
        with torch.no_grad():
            draw = _delta_orthogonal if scheme == "delta_orthogonal" else _of_matrix(scheme)
            self.weight.copy_(draw(streams, f"{name}.weight", self.weight.shape[1:]))
            self.bias.zero_()
            if scheme == "pytorch":
                bound = 1 / math.sqrt(self.weight[0, 0].numel())
                draws = streams.uniform(f"{name}.bias", self.bias.shape[1:])
                self.bias.copy_(bound * (2 * draws - 1))

    def forward(self, x: Float[Tensor, "S B in H W"]) -> Float[Tensor, "S B out H2 W2"]:
        # ``unbind`` has one backward for all seeds; indexing would fill a whole gradient for each.
        seeds = zip(x.unbind(0), self.weight.unbind(0), self.bias.unbind(0), strict=True)
        outputs = [
            nn.functional.conv2d(images, weight, bias, self.stride, self.padding)
            for images, weight, bias in seeds
        ]
        return outputs[0].unsqueeze(0) if len(outputs) == 1 else torch.stack(outputs)

    def extra_repr(self) -> str:
        seeds, out_channels, in_channels, kernel, _ = self.weight.shape
        return (
            f"{seeds} seeds, {in_channels} to {out_channels} channels, kernel={kernel}, "
            f"stride={self.stride}, padding={self.padding}"
        )


def _delta_orthogonal(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
    out_channels, in_channels, kernel, _ = shape
    weight = torch.zeros(len(streams), *shape)
    centre = orthogonal(math.sqrt(2))(streams, name, (in_channels, out_channels))
    weight[..., kernel // 2, kernel // 2] = centre.mT
    return weight


def _of_matrix(scheme: str) -> Initialiser:
    def initialise(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
        out_channels, *patch = shape
        flat = INITIALISATIONS[scheme].hidden(streams, name, (math.prod(patch), out_channels))
        return flat.mT.unflatten(-1, patch)

    return initialise
