"""What learners share: one optimiser for all seeds, dropout masks, statistics."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.errors import UserError
from jsrl.seeding import Streams
from jsrl.types import Draws, Metrics

VECTOR_WIDTH = 16
"""float32 numbers in the widest vector register of a CPU (AVX-512)."""


class SeedOptimiser:
    """Adam for named groups of parameters ``[S, …]``.

    Adam is elementwise, so one optimiser serves all seeds. PyTorch's fused kernel takes whole
    vector registers and rounds what is left over in another way; there a seed's numbers would
    depend on its place in the tensor, and so on the seeds beside it. Parameters of which a seed's
    share does not fill whole registers (biases and log standard deviations of a few actions, say)
    are therefore stepped by the plain kernels.

    A step moves only parameters that the loss reaches. A seed whose loss is not finite is frozen
    from that update on: its gradients count as 0, and ``alive`` says so.

    Args:
        groups: parameters by name.
        learning_rate: of every group.
        num_seeds: S.
    """

    def __init__(
        self, groups: dict[str, list[nn.Parameter]], learning_rate: float, num_seeds: int
    ) -> None:
        self._learning_rate = learning_rate
        self._adam = torch.optim.Adam(
            [
                {"params": part, "name": name, "fused": fused}
                for name, parameters in groups.items()
                for fused in (True, False)
                if (part := [p for p in parameters if _fills_registers(p) is fused])
            ],
            lr=learning_rate,
        )
        self._parameters = [p for parameters in groups.values() for p in parameters]
        self._schedules = dict.fromkeys(groups, (0, 0))
        self.alive: Bool[Tensor, " S"] = torch.ones(
            num_seeds, dtype=torch.bool, device=self._parameters[0].device
        )

    def start_schedule(self, group: str, updates: int) -> None:
        """Decay the group's rate to 0 along a cosine over ``updates``; 0 keeps it constant."""
        self._schedules[group] = (0, updates)
        self._set_rate(group)

    def step(self, losses: Float[Tensor, " S"]) -> None:
        """Descend the sum of the seeds' losses."""
        self._adam.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.alive &= losses.detach().isfinite()
        # Looking at the flag is free on the CPU; on a GPU it would wait for the device.
        if self.alive.device.type != "cpu" or not bool(self.alive.all()):
            self._clear_frozen_gradients()
        self._adam.step()
        moved = {
            group["name"]
            for group in self._adam.param_groups
            if any(p.grad is not None for p in group["params"])
        }
        for name, (clock, updates) in self._schedules.items():
            if updates and name in moved:
                self._schedules[name] = (clock + 1, updates)
                self._set_rate(name)

    def state_dict(self) -> dict[str, Any]:
        return {
            "adam": self._adam.state_dict(),
            "schedules": {name: list(value) for name, value in self._schedules.items()},
            "alive": self.alive.cpu(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # A copy: Adam would go on in the very tensors that it is given.
        self._adam.load_state_dict(copy.deepcopy(state["adam"]))
        for name, (clock, updates) in state["schedules"].items():
            self._schedules[name] = (clock, updates)
            self._set_rate(name)
        self.alive.copy_(state["alive"])

    def _set_rate(self, name: str) -> None:
        clock, updates = self._schedules[name]
        share = 0.5 * (1 + math.cos(math.pi * min(clock / updates, 1))) if updates else 1.0
        for group in self._adam.param_groups:
            if group["name"] == name:
                group["lr"] = self._learning_rate * share

    def _clear_frozen_gradients(self) -> None:
        """No gradient and no momentum for frozen seeds, so that their weights stay as they are."""
        for parameter in self._parameters:
            if parameter.grad is None:
                continue
            alive = self.alive.view(-1, *[1] * (parameter.dim() - 1))
            parameter.grad = torch.where(alive, parameter.grad, 0.0)
            state = self._adam.state.get(parameter)
            if state:
                state["exp_avg"].mul_(alive)


def _fills_registers(parameter: nn.Parameter) -> bool:
    return parameter[0].numel() % VECTOR_WIDTH == 0


def dropout_masks(
    streams: Streams, hidden: Sequence[int], batch_size: int, rate: float, device: torch.device
) -> Draws:
    """A mask ``[S, B, width]`` a hidden layer: 0 with probability ``rate``, else 1/(1 - rate)."""
    if rate == 0:
        return {}
    return {
        f"dropout_{i}": ((streams.uniform("dropout", (batch_size, width)) >= rate) / (1 - rate)).to(
            device, non_blocking=True
        )
        for i, width in enumerate(hidden)
    }


def advantage_statistics(advantage: Float[Tensor, "S B"], weights: Float[Tensor, "S B"]) -> Metrics:
    """Mean and spread of the advantage, mean and largest of its weights, each ``[S]``."""
    return {
        "advantage/mean": advantage.mean(-1),
        "advantage/std": advantage.std(-1),
        "weight/mean": weights.mean(-1),
        "weight/max": weights.amax(-1),
    }


def copy_seeds(
    module: nn.Module, state: dict[str, Tensor], rows: Sequence[int], prefix: str = ""
) -> None:
    """Load the parameters of chosen seeds, and whole buffers, from another module's state.

    Raises:
        UserError: if the other module has other networks.
    """
    parameters = dict(module.named_parameters())
    chosen = {}
    for name, own in module.state_dict().items():
        value = state.get(prefix + name)
        if value is not None and name in parameters:
            value = value[list(rows)]
        if value is None or value.shape != own.shape:
            raise UserError(
                f"start=warm: the guide's networks have {name} of shape "
                f"{None if value is None else tuple(value.shape)}, the learner's is "
                f"{tuple(own.shape)}; use the guide's learner.hidden and activation, or start=cold"
            )
        chosen[name] = value
    module.load_state_dict(chosen)
