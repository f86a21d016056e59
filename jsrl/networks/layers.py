"""Networks with a leading seed axis.

Every parameter is ``[S, ..., in, out]``: one batched product a layer serves all seeds, and no
operation mixes seeds, so that seed i's numbers do not depend on which seeds run beside it.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.streams import Streams
from jsrl.networks.activations import Activation, initialisation_gain, make_activation

Initialiser = Callable[[Streams, str, Sequence[int]], Tensor]
"""Weights ``[S, *shape]`` from named draws; the last two axes of ``shape`` are (in, out)."""


def orthogonal(gain: float) -> Initialiser:
    """Orthogonal matrices times ``gain`` (Saxe et al. 2014)."""

    def initialise(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
        draws = streams.normal(name, shape)
        tall = draws if shape[-2] >= shape[-1] else draws.mT
        q, r = torch.linalg.qr(tall)
        # Without the signs the decomposition would not be uniform over orthogonal matrices.
        q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1)).unsqueeze(-2)
        return gain * (q if shape[-2] >= shape[-1] else q.mT)

    return initialise


def fan_in_uniform(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
    """PyTorch's default for linear layers: uniform on ±1/√in."""
    return (2 * streams.uniform(name, shape) - 1) / math.sqrt(shape[-2])


def variance_scaling(scale: float) -> Initialiser:
    """Uniform with variance ``scale`` / mean of in and out (Glorot and Bengio 2010)."""

    def initialise(streams: Streams, name: str, shape: Sequence[int]) -> Tensor:
        bound = math.sqrt(6 * scale / (shape[-2] + shape[-1]))
        return bound * (2 * streams.uniform(name, shape) - 1)

    return initialise


class SeedLinear(nn.Module):
    """Linear layers, one for each seed and member: weight ``[S, *members, in, out]``."""

    def __init__(self, members: Sequence[int], in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*members, in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(*members, 1, out_features))

    def initialise(
        self,
        initialiser: Initialiser,
        streams: Streams,
        name: str,
        *,
        uniform_bias: bool,
        scale: float = 1.0,
    ) -> None:
        """Fill the parameters from named draws; biases are 0 unless ``uniform_bias``.

        Weights are multiplied by ``scale``.
        """
        with torch.no_grad():
            self.weight.copy_(initialiser(streams, f"{name}.weight", self.weight.shape[1:]))
            if scale != 1:
                self.weight.mul_(scale)
            self.bias.zero_()
            if uniform_bias:
                bound = 1 / math.sqrt(self.weight.shape[-2])
                draws = streams.uniform(f"{name}.bias", self.bias.shape[1:])
                self.bias.copy_(bound * (2 * draws - 1))

    def forward(
        self, x: Float[Tensor, "N B in"], member: int | None = None
    ) -> Float[Tensor, "N B out"]:
        """One product for each seed and member, or for each seed's member of this number."""
        weight, bias = _matrices(self.weight, member), _matrices(self.bias, member)
        # A batch of matrix-vector products takes another path in BLAS for one matrix than for
        # several, with other rounding; a sum over the last axis does not.
        if weight.shape[-1] == 1:
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        if weight.shape[-2] == 1:  # here it is the gradient of x that would be such a product
            return x * weight + bias
        # Faster than baddbmm; compiled, the bias is added together with the activation.
        return torch.bmm(x, weight).add_(bias)


class SeedLayerNorm(nn.Module):
    """Layer normalisation with a gain and an offset for each seed and member."""

    def __init__(self, members: Sequence[int], features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*members, 1, features))
        self.bias = nn.Parameter(torch.zeros(*members, 1, features))

    def forward(
        self, x: Float[Tensor, "N B F"], member: int | None = None
    ) -> Float[Tensor, "N B F"]:
        """Normalised by all seeds and members, or by each seed's member of this number."""
        normalised = nn.functional.layer_norm(x, x.shape[-1:])
        return torch.addcmul(
            _matrices(self.bias, member), normalised, _matrices(self.weight, member)
        )


class SeedMLP(nn.Module):
    """Multi-layer perceptrons, one for each seed and member.

    Args:
        members: (S,) or (S, K) for K networks a seed on the same input.
        in_features: input size.
        hidden: sizes of the hidden layers.
        out_features: output size.
        activation: what follows each hidden layer.
        layer_norm: normalise each hidden layer before its activation.
    """

    def __init__(
        self,
        members: Sequence[int],
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: Activation = "relu",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.members = tuple(members)
        self.depth = len(hidden)
        size = in_features
        for i, width in enumerate(hidden):
            self.add_module(f"hidden_{i}", SeedLinear(members, size, width))
            if layer_norm:
                self.add_module(f"norm_{i}", SeedLayerNorm(members, width))
            self.add_module(f"activation_{i}", make_activation(activation))
            size = width
        self.output = SeedLinear(members, size, out_features)

    def initialise(self, scheme: "Initialisation", streams: Streams, name: str) -> None:
        """Draw all parameters from streams named after ``name``.

        The schemes are made for ReLU. Layers that another activation feeds are scaled by its gain
        over ReLU's; the draws are the same for all.
        """
        fed = initialisation_gain(self.activation) / initialisation_gain("relu")
        first = next(child for child in self.children() if isinstance(child, SeedLinear))
        for child_name, child in self.named_children():
            if isinstance(child, SeedLinear):
                child.initialise(
                    scheme.output if child is self.output else scheme.hidden,
                    streams,
                    f"{name}.{child_name}",
                    uniform_bias=scheme.uniform_bias,
                    scale=1.0 if child is first else fed,
                )

    def forward(
        self,
        x: Float[Tensor, "S B in"],
        dropout: Sequence[Tensor] = (),
        member: int | None = None,
    ) -> Float[Tensor, "S *K B out"]:
        """Outputs for inputs ``[S, B, in]``.

        Args:
            x: the inputs, which every member gets.
            dropout: a mask for each hidden layer.
            member: of K networks a seed the one that answers, ``[S, B, out]``; None for all.
        """
        if member is None and len(self.members) > 1:
            copies = x.unsqueeze(1).expand(-1, self.members[1], -1, -1)
            x = copies.reshape(-1, *x.shape[-2:])
        for i in range(self.depth):
            x = getattr(self, f"hidden_{i}")(x, member)
            if hasattr(self, f"norm_{i}"):
                x = getattr(self, f"norm_{i}")(x, member)
            x = getattr(self, f"activation_{i}")(x)
            if dropout:
                x = x * dropout[i]
        out: Tensor = self.output(x, member)
        return out.unflatten(0, self.members) if member is None else out


def _matrices(
    parameter: Float[Tensor, "S *K rows columns"], member: int | None
) -> Float[Tensor, "N rows columns"]:
    """Of all seeds and members in a row, or of each seed's member of this number."""
    return parameter.flatten(0, -3) if member is None else parameter[:, member]


class Initialisation:
    """How the layers of a network begin: hidden weights, output weights, biases."""

    def __init__(self, hidden: Initialiser, output: Initialiser, *, uniform_bias: bool) -> None:
        self.hidden = hidden
        self.output = output
        self.uniform_bias = uniform_bias


INITIALISATIONS: dict[str, Initialisation] = {
    "orthogonal": Initialisation(
        orthogonal(math.sqrt(2)), orthogonal(math.sqrt(2)), uniform_bias=False
    ),
    "pytorch": Initialisation(fan_in_uniform, fan_in_uniform, uniform_bias=True),
    "glorot": Initialisation(variance_scaling(1.0), variance_scaling(1.0), uniform_bias=False),
    "variance_scaling": Initialisation(
        variance_scaling(1.0), variance_scaling(1e-2), uniform_bias=False
    ),
}
