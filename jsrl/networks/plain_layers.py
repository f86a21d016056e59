"""Layers without a seed axis, as exported files hold them."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.networks.layers import SeedLayerNorm, SeedLinear


class Normalise(nn.Module):
    """Observations in the units that the network was trained in."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, " O"], std: Float[Tensor, " O"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, obs: Float[Tensor, "*n O"]) -> Float[Tensor, "*n O"]:
        return (obs - self.mean) / self.std


class Clip(nn.Module):
    """Actions or normalised observations clipped to ± ``bound``."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, numbers: Float[Tensor, "*n A"]) -> Float[Tensor, "*n A"]:
        return numbers.clamp(-self.bound, self.bound)


class Append(nn.Module):
    """Numbers behind every observation, always the same."""

    numbers: Tensor

    def __init__(self, numbers: Float[Tensor, " P"]) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers.clone())

    def forward(self, obs: Float[Tensor, "*n O"]) -> Float[Tensor, "*n columns"]:
        return torch.cat([obs, self.numbers.expand(*obs.shape[:-1], -1)], -1)


class First(nn.Module):
    """The first numbers of several: of a distribution's parameters, its mean."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, numbers: Float[Tensor, "*n outputs"]) -> Float[Tensor, "*n A"]:
        return numbers[..., : self.count]


@torch.no_grad()
def without_seeds(layer: nn.Module) -> nn.Module:
    """A layer of one seed as PyTorch's own, or a copy of one that has no axis of seeds."""
    if isinstance(layer, SeedLinear):
        weight = layer.weight[0]
        linear = nn.Linear(weight.shape[0], weight.shape[1])
        linear.weight.copy_(weight.T)
        linear.bias.copy_(layer.bias[0, 0])
        return linear
    if isinstance(layer, SeedLayerNorm):
        norm = nn.LayerNorm(layer.weight.shape[-1])
        norm.weight.copy_(layer.weight[0, 0])
        norm.bias.copy_(layer.bias[0, 0])
        return norm
    copied: Any = copy.deepcopy(layer)
    return copied
