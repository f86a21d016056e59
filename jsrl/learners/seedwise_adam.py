"""Adam for S seeds, each of which has a clock and a gradient norm of its own.

``SeedOptimiser`` counts one step for all seeds, which is right where every seed takes every step.
Here a seed may sit out: then its parameters, its averages and its clock stay as they are, and its
next step is corrected for the steps that it has taken, not for those of the others.

Adam is Algorithm 1 of Kingma and Ba (2015, arXiv 1412.6980), without weight decay.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.learners.fused_adam import FIRST_DECAY, SECOND_DECAY

REGISTERS = 64
"""A seed's numbers fill whole vector registers: what is left over behind them may be rounded in
another way, so that a seed's numbers would depend on its place in the tensor."""


class SeedwiseAdam:
    """Adam for parameters ``[S, …]``, laid side by side as one row ``[S, N]`` for each seed.

    A seed whose loss or gradient is not finite is frozen from that step on, and ``alive`` says so.

    Args:
        parameters: of all networks, where they are trained.
        epsilon: what is added to the root of the second average.
        largest_norm: a seed's gradients are scaled down to this norm, over all its parameters;
            None leaves them as they are.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], epsilon: float, largest_norm: float | None
    ) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._epsilon, self._largest_norm = epsilon, largest_norm
        first = self._parameters[0]
        seeds, device = len(first), first.device
        self._sizes = [p[0].numel() for p in self._parameters]
        used = sum(self._sizes)
        self._padding = torch.zeros(seeds, -used % REGISTERS, device=device)
        width = used + self._padding.shape[1]
        self._first = torch.zeros(seeds, width, device=device)
        self._second = torch.zeros(seeds, width, device=device)
        self._decays = torch.tensor([[FIRST_DECAY, SECOND_DECAY]], dtype=torch.float64).to(device)
        # β₁ᵗ and β₂ᵗ of each seed's own t. As products, which are rounded alike on any hardware.
        self._powers = torch.ones(seeds, 2, dtype=torch.float64, device=device)
        self.alive: Bool[Tensor, " S"] = torch.ones(seeds, dtype=torch.bool, device=device)

    def descend(
        self, losses: Float[Tensor, " S"], rate: float, takes_part: Bool[Tensor, " S"]
    ) -> Float[Tensor, " S"]:
        """Descend the sum of the seeds' losses.

        Args:
            losses: of the seeds.
            rate: the learning rate of this step.
            takes_part: False for seeds that stay as they are.

        Returns:
            The norm of each seed's gradients before they are scaled.
        """
        gradients = torch.autograd.grad(losses.sum(), self._parameters)
        with torch.no_grad():
            row = torch.cat([*(g.flatten(1) for g in gradients), self._padding], 1)
            norm = row.square().sum(-1).sqrt()
            self.alive &= losses.isfinite() & norm.isfinite()
            moves = takes_part & self.alive
            if self._largest_norm is not None:
                row *= (self._largest_norm / (norm + 1e-6)).clamp(max=1).unsqueeze(1)
            self._step(torch.where(moves.unsqueeze(1), row, 0.0), rate, moves)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Averages, the seeds' clocks, and which seeds are alive."""
        named = {"first": self._first, "second": self._second, "powers": self._powers}
        return {**{name: t.cpu().clone() for name, t in named.items()}, "alive": self.alive.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self._powers.copy_(state["powers"])
        self.alive.copy_(state["alive"])

    def _step(self, row: Float[Tensor, "S N"], rate: float, moves: Bool[Tensor, " S"]) -> None:
        """One step of Adam for the seeds that move."""
        moving = moves.unsqueeze(1)
        self._powers *= torch.where(moving, self._decays, 1.0)
        self._first.lerp_(row, torch.where(moving, 1 - FIRST_DECAY, 0.0))
        self._second.lerp_(row * row, torch.where(moving, 1 - SECOND_DECAY, 0.0))
        # 1 where a seed has never moved, for which both would divide by 0.
        first, second = torch.where(moving, 1 - self._powers, 1.0).float().split(1, 1)
        size = torch.where(moving, rate / first, 0.0)
        change = size * self._first / (self._second.sqrt() / second.sqrt() + self._epsilon)
        parts = change[:, : sum(self._sizes)].split(self._sizes, 1)
        own = [part.view_as(p) for part, p in zip(parts, self._parameters, strict=True)]
        torch._foreach_sub_(self._parameters, own)
