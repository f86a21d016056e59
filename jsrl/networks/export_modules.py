"""A policy's mode as a module that exported files hold."""

from collections import OrderedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import ExportablePolicy, SeesImages
from jsrl.networks.deployment import ActionUnits, ChoiceUnits, Units


class InUnits(nn.Module):
    """Actions in [-1, 1] as the environment takes them, within its bounds."""

    low: Tensor
    high: Tensor

    def __init__(self, units: ActionUnits) -> None:
        super().__init__()
        low, high = units.bounds()
        self.register_buffer("low", torch.from_numpy(low))
        self.register_buffer("high", torch.from_numpy(high))

    def forward(self, actions: Float[Tensor, "*n A"]) -> Float[Tensor, "*n A"]:
        share = 0.5 * (actions + 1.0)
        own = (1.0 - share) * self.low + share * self.high
        return torch.minimum(torch.maximum(own, self.low), self.high)


class Numbered(nn.Module):
    """Choices as the environment numbers them."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def forward(self, choices: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        return choices + self.start


class Shaped(nn.Module):
    """Actions in the environment's shape, where that is not ``[A]``."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, actions: Float[Tensor, "*n A"]) -> Tensor:
        # Without axes, an action is one number.
        return actions.unflatten(-1, self.shape) if self.shape else actions.squeeze(-1)


class SeveralInputs(nn.Module):
    """A mode of several inputs, and what follows it."""

    def __init__(self, mode: nn.Module, following: nn.Sequential) -> None:
        super().__init__()
        self.mode = mode
        self.following = following

    def forward(self, *inputs: Tensor) -> Tensor:
        actions: Tensor = self.following(self.mode(*inputs))
        return actions


class AnyInput(nn.Module):
    """Takes observations of any real dtype, one ``[O]`` or a batch ``[*n, O]``; for TorchScript.

    Args:
        module: maps float32 rows ``[n, O]`` to actions ``[n, *A]``.
        observation_size: O.
    """

    def __init__(self, module: nn.Module, observation_size: int) -> None:
        super().__init__()
        self.module = module
        self.observation_size = observation_size

    def forward(self, observation: Tensor) -> Tensor:
        # Changes nothing, and fails for another size, which might be broadcast otherwise.
        sized = observation.unflatten(-1, [self.observation_size])
        actions = self.module(sized.float().reshape(-1, self.observation_size))
        # TorchScript knows no ``[*a, *b]``.
        reshaped: Tensor = actions.reshape(list(observation.shape[:-1]) + list(actions.shape[1:]))
        return reshaped


def mode_in_units(policy: object, index: int, units: Units | None = None) -> nn.Module:
    """The mode of seed ``index`` of ``policy``, without a seed axis.

    It maps observations ``[n, O]`` to actions.

    Args:
        policy: an ``ExportablePolicy`` of S seeds.
        index: which of them.
        units: of the actions, ``[n, *units.shape]``, or of choices ``[n]``; None for what policies
            give, ``[n, A]`` in [-1, 1] or choices from 0.

    Raises:
        UserError: if the policy has no ``mode_module``.
    """
    if not isinstance(policy, ExportablePolicy):
        raise UserError(
            f"a {type(policy).__name__} cannot be exported: it has no mode_module(index), which "
            "gives a torch.nn.Module; add one, or extend jsrl.networks.seed_policy.SeedPolicy"
        )
    mode = policy.mode_module(index)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    # A chain of layers is continued: their names stay what they are.
    if isinstance(mode, nn.Sequential):
        layers.update(mode.named_children())
    else:
        layers["mode"] = mode
    if isinstance(units, ChoiceUnits):
        layers["numbers"] = Numbered(units.start)
    if isinstance(units, ActionUnits):
        if any(low != -1 for low in units.low) or any(high != 1 for high in units.high):
            layers["units"] = InUnits(units)
        if len(units.shape) != 1:
            layers["shape"] = Shaped(list(units.shape))
    chain = nn.Sequential(layers)
    if isinstance(policy, SeesImages) and policy.images:
        # The first of the chain takes several inputs, which ``Sequential`` does not.
        return SeveralInputs(layers.pop("mode"), nn.Sequential(layers)).requires_grad_(False).eval()
    return chain.requires_grad_(False).eval()
