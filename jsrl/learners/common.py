"""What learners share: one optimiser for all seeds, dropout masks, statistics."""

import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import Draws, Metrics
from jsrl.core.streams import Streams
from jsrl.learners import fused_adam
from jsrl.learners.fused_adam import FIRST_DECAY, SECOND_DECAY
from jsrl.networks.seed_policy import names_by_seed

P = ParamSpec("P")
R = TypeVar("R")


class ParameterGroup:
    """Parameters ``[S, …]`` that learn at one rate, with Adam's averages of their gradients.

    What changes from step to step is kept in tensors, so that a compiled step does not depend on
    it.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float) -> None:
        self.parameters = parameters
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.learning_rate = learning_rate
        self.steps, self.clock, self.duration = 0, 0, 0
        self._whole = [fused_adam.whole_registers(x) for x in (parameters, self.first, self.second)]
        self._step, self._size, self._scale = torch.zeros(3, device=parameters[0].device).unbind()

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        if not self.duration:
            return self.learning_rate
        progress = min(self.clock / self.duration, 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def prepare(self) -> None:
        """Set rate and bias corrections for the next step, and move the schedule on."""
        self.steps += 1
        self._step.fill_(self.steps)
        self._size.fill_(self.rate / (1 - FIRST_DECAY**self.steps))
        self._scale.fill_(1 / math.sqrt(1 - SECOND_DECAY**self.steps))
        self._rate = self.rate
        self.clock += 1

    def descend(self, gradients: Sequence[Tensor], alive: Bool[Tensor, " S"] | None) -> None:
        """One step of Adam. Seeds that are not ``alive`` (None: all are) stay as they are."""
        if alive is not None:
            gradients = [torch.where(_like(alive, g), g, 0.0) for g in gradients]
            for average in self.first:
                average.mul_(_like(alive, average))
        if torch.compiler.is_compiling():
            fused_adam.elementwise_step(
                self.parameters, gradients, self.first, self.second, self._size, self._scale
            )
            return
        (own, first, second), gradients = self._whole, fused_adam.whole_registers(gradients)
        if fused_adam.FUSED_KERNEL_IS_KNOWN:
            fused_adam.fused_step(own, gradients, first, second, self._step, self._rate)
        else:
            fused_adam.elementwise_step(own, gradients, first, second, self._size, self._scale)

    def averages(self) -> dict[str, list[Tensor]]:
        """What a checkpoint keeps of Adam; nothing before the first step."""
        return {"exp_avg": self.first, "exp_avg_sq": self.second} if self.steps else {}

    def clocks(self, name: str) -> dict[str, Any]:
        """The group's step count and schedule as plain values, and the rate that follows."""
        schedule = [self.clock, self.duration]
        return {"name": name, "steps": self.steps, "schedule": schedule, "lr": self.rate}

    def load(self, averages: dict[str, list[Tensor]], clocks: dict[str, Any]) -> None:
        """Continue where ``averages`` and ``clocks`` were taken."""
        for own, key in ((self.first, "exp_avg"), (self.second, "exp_avg_sq")):
            for i, tensor in enumerate(own):
                tensor.copy_(averages[key][i]) if averages else tensor.zero_()
        self.steps = clocks["steps"]
        self.clock, self.duration = clocks["schedule"]


class SeedOptimiser:
    """Adam for named groups of parameters ``[S, …]``.

    Adam is elementwise, so one optimiser serves all seeds. A seed whose loss is not finite is
    frozen from that update on: its weights stay as they are, and ``alive`` says so.

    Args:
        groups: parameters by name.
        learning_rate: of every group.
        num_seeds: S.
        others: the learning rates of groups that have another one, by name.
    """

    def __init__(
        self,
        groups: dict[str, list[nn.Parameter]],
        learning_rate: float,
        num_seeds: int,
        others: Mapping[str, float] | None = None,
    ) -> None:
        rates = dict.fromkeys(groups, learning_rate) | dict(others or {})
        self._groups = {name: ParameterGroup(p, rates[name]) for name, p in groups.items()}
        device = next(iter(groups.values()))[0].device
        self.alive: Bool[Tensor, " S"] = torch.ones(num_seeds, dtype=torch.bool, device=device)

    def start_schedule(self, group: str, updates: int) -> None:
        """Decay the group's rate to 0 along a cosine over ``updates``; 0 keeps it constant."""
        self._groups[group].clock, self._groups[group].duration = 0, updates

    def descend(self, losses: Float[Tensor, " S"], *names: str) -> None:
        """Descend the sum of the seeds' losses with the named groups; may be compiled."""
        groups = [self._groups[name] for name in names]
        parameters = [p for group in groups for p in group.parameters]
        gradients = iter(torch.autograd.grad(losses.sum(), parameters))
        with torch.no_grad():
            self.alive &= losses.isfinite()
            # Looking at the flag is free on the CPU; on a GPU it would wait for the device, and
            # it cannot be compiled.
            look = self.alive.device.type == "cpu" and not torch.compiler.is_compiling()
            alive = None if look and bool(self.alive.all()) else self.alive
            for group in groups:
                group.descend([next(gradients) for _ in group.parameters], alive)

    def prepare(self, *names: str) -> None:
        """Count a step of the named groups; comes before each ``descend``, and is not compiled."""
        for name in names:
            self._groups[name].prepare()

    def state_dict(self) -> dict[str, Any]:
        adam = {
            "state": {name: group.averages() for name, group in self._groups.items()},
            "param_groups": [group.clocks(name) for name, group in self._groups.items()],
        }
        return {"adam": adam, "alive": self.alive.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for clocks in state["adam"]["param_groups"]:
            name = clocks["name"]
            self._groups[name].load(state["adam"]["state"][name], clocks)
        self.alive.copy_(state["alive"])


def _like(alive: Bool[Tensor, " S"], tensor: Tensor) -> Bool[Tensor, "S *ones"]:
    return alive.view(-1, *[1] * (tensor.dim() - 1))


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


def masks_of(draws: Draws) -> list[Tensor]:
    """The dropout masks among an update's draws, one a hidden layer."""
    return [draw for name, draw in draws.items() if name.startswith("dropout_")]


def advantage_statistics(advantage: Float[Tensor, "S B"], weights: Float[Tensor, "S B"]) -> Metrics:
    """Mean and spread of the advantage, mean and largest of its weights, each ``[S]``."""
    return {
        "advantage/mean": advantage.mean(-1),
        "advantage/std": advantage.std(-1),
        "weight/mean": weights.mean(-1),
        "weight/max": weights.amax(-1),
    }


def copy_seeds(
    module: nn.Module,
    state: dict[str, Tensor],
    rows: Sequence[int],
    prefix: str = "",
    start: str = "warm",
) -> None:
    """Load what chosen seeds have in another module's state, and what is shared as a whole.

    Networks that the other module alone has are left there, such as V of IQL.

    Args:
        module: what is loaded into.
        state: of the other module.
        rows: the places of the seeds in it.
        prefix: of the names in ``state`` that are meant.
        start: what asked for it, ``warm`` or ``naive``.

    Raises:
        UserError: if the other module has other networks.
    """
    by_seed = names_by_seed(module)
    chosen, own_state = {}, module.state_dict()
    for name, own in own_state.items():
        value = state.get(prefix + name)
        if value is not None and name in by_seed:
            value = value[list(rows)]
        if value is None or value.shape != own.shape:
            raise _other_networks(start, name, value, own)
        chosen[name] = value
    networks = {name.partition(".")[0] for name in own_state}
    for name, value in state.items():
        of_module = name.removeprefix(prefix)
        within = name.startswith(prefix) and of_module.partition(".")[0] in networks
        if within and of_module not in own_state:
            raise _other_networks(start, of_module, value, None)
    module.load_state_dict(chosen)


def _other_networks(start: str, name: str, theirs: Tensor | None, own: Tensor | None) -> UserError:
    """Networks of the same name that are not alike."""
    shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (theirs, own)]
    return UserError(
        f"start={start}: the guide's networks have {name} of shape {shapes[0]}, the learner's is "
        f"{shapes[1]}; use the guide's learner, with its learner.hidden, its number of critics and "
        "its activations, or start=cold"
    )


def compiled(update: Callable[P, R]) -> Callable[P, R]:
    """``update`` through ``torch.compile``, gradients and optimiser included.

    Without a C++ compiler it comes back as it is, with a warning.
    """
    if not torch.cuda.is_available() and not has_cpp_compiler():
        warnings.warn("no C++ compiler was found: the update is not compiled", stacklevel=2)
        return update
    from torch._dynamo import config  # slow to import

    # Gradients are taken within the update. PyTorch versions without this setting compile around
    # them, which is slower.
    if hasattr(config, "trace_autograd_ops"):
        config.trace_autograd_ops = True
    return torch.compile(update, dynamic=False)


def has_cpp_compiler() -> bool:
    """Whether ``torch.compile`` finds what it needs for the CPU."""
    names = [os.environ.get("CXX", ""), "g++", "c++", "clang++"]
    return any(name and shutil.which(name) for name in names)
