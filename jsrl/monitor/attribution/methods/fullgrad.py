"""FullGrad (Srinivas and Fleuret 2019, arXiv 1905.00780, section 3), for networks on vectors.

An output is its gradient by the input times the input, and for each layer its gradient by the
layer's biases times these. A nonlinearity σ of z has implicit biases c = σ(z) - σ'(z)·z: it is the
line σ'(z)·z + c, as far as the gradient sees it. For ReLU they are 0; for SmeLU they are
(β² - z²)/(4β) between -β and β.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.monitor.attribution.methods.base import Attribution, MethodOptions, chosen, methods
from jsrl.networks.activations import ACTIVATIONS
from jsrl.networks.plain_layers import Append, Clip, First, Normalise

AFFINE = (nn.Linear, nn.BatchNorm1d, nn.Identity, nn.Flatten, nn.Dropout, Normalise, Append, First)
"""Layers whose implicit biases are what they say to zeros, while they are not in training."""

ELEMENTWISE = (
    *(make for make in ACTIVATIONS.values() if isinstance(make, type)),
    *(Clip, nn.Sigmoid, nn.LogSigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign),
    *(nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish),
)
"""Functions of each number by itself."""

KEEP_COLUMNS = (Normalise, Clip, Append, nn.Identity)
"""Layers behind which a column is still in its place."""


@methods.register("fullgrad")
class FullGrad:
    """Gradient times input, together with the biases and implicit biases of every layer.

    Biases of layers before the first one that mixes columns, such as the mean that a normalisation
    subtracts, count to their columns: a column's contribution then is the gradient by the
    normalised column, times it. All others are the rest, by layer. Contributions add up to the
    output up to rounding.

    Args:
        options: it has none of its own.
    """

    complete: ClassVar[bool] = True

    def __init__(self, options: MethodOptions) -> None:
        self.options = options

    def attribute(
        self,
        network: nn.Module,
        rows: Float[Tensor, "N O"],
        targets: Int[Tensor, " N"],
        baseline: Float[Tensor, " O"],
    ) -> Attribution:
        layers = list(chain(network))
        with torch.inference_mode(False), torch.enable_grad():
            inputs = [rows.clone().requires_grad_(True)]
            for _, layer in layers:
                inputs.append(layer(inputs[-1]))
            output = chosen(inputs[-1], targets)
            slopes = torch.autograd.grad(output.sum(), inputs)
        columns = slopes[0] * rows
        biases: dict[str, Float[Tensor, " N"]] = {}
        mixed, size = False, rows.shape[1]
        for (name, layer), z, slope in zip(layers, inputs[:-1], slopes[1:], strict=True):
            shares = slope * implicit_biases(layer, z.detach())
            mixed = mixed or not isinstance(layer, KEEP_COLUMNS)
            if mixed:
                biases[name] = shares.flatten(1).sum(1)
            else:
                columns = columns + shares[:, :size]
                if shares.shape[1] > size:
                    biases[name] = shares[:, size:].sum(1)
        rest = sum(biases.values(), torch.zeros_like(output))
        return Attribution(columns, output.detach(), rest.detach(), biases)


def implicit_biases(layer: nn.Module, z: Float[Tensor, "N *in"]) -> Float[Tensor, "N *out"]:
    """What a layer says to z, less its derivative at z times z.

    Args:
        layer: one of those that ``chain`` passes on.
        z: what the layer is given.
    """
    if isinstance(layer, AFFINE):
        with torch.no_grad():
            return layer(torch.zeros_like(z))  # type: ignore[no-any-return]
    if isinstance(layer, nn.LayerNorm):
        value, along = torch.func.jvp(layer, (z,), (z,))
        return (value - along).detach()
    with torch.enable_grad():
        z = z.clone().requires_grad_(True)
        value = layer(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return (value - slope * z).detach()


def chain(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a network one after the other, each with its name.

    Args:
        network: a layer, or ``torch.nn.Sequential`` of layers and further ones.
        name: of the network within another.

    Raises:
        UserError: naming the first layer that cannot be decomposed.
    """
    if isinstance(network, nn.Sequential):
        for child, layer in network.named_children():
            yield from chain(layer, f"{name}.{child}" if name else child)
        return
    kind = type(network).__name__
    # Not by isinstance: a class that extends one of them may do anything in its forward.
    if type(network) not in (*AFFINE, *ELEMENTWISE, nn.LayerNorm):
        at = f"the layer {name!r}, a {kind}," if name else f"a {kind}"
        raise UserError(
            f"method=fullgrad cannot decompose {at} into layers that follow one another; it takes "
            "torch.nn.Sequential of linear layers, normalisations and elementwise activations: use "
            "method=integrated_gradients, which takes any differentiable network"
        )
    if network.training and isinstance(network, nn.BatchNorm1d | nn.Dropout):
        raise UserError(
            f"method=fullgrad: the layer {name or kind!r} is in training, where rows depend on one "
            "another or on chance; call network.eval() first"
        )
    yield name or kind, network
