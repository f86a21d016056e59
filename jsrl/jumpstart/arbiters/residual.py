"""A bounded correction of the guide's action, which sets in over training.

After Policy Decorator (Yuan et al. 2024, arXiv 2412.13630; tongzhoumu/policy_decorator), where a
policy says a residual α·a_r that is added to what the guide does. Learners here say whole actions,
and the explorer is evaluated alone, so that the residual is what the explorer's action differs by
from the guide's, shortened to at most α in every number and in the same direction; actions that can
be taken are the same. Targets are made with the guide's action at s' and such a residual.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.arbitration import EXPLORER, GUIDE, ArbiterState, Decision, Successors
from jsrl.core.ranges import above_zero, at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    Rule,
    TargetOptions,
    arbiters,
    explorers_action,
    guides_action,
    step_draws,
)


@dataclass
class ResidualOptions(TargetOptions):
    """Of ``arbiter=residual``."""

    # α, how far an action may be from the guide's in every number, of actions in [-1, 1].
    bound: float = 0.1
    # Environment steps of a seed until every step has its residual.
    horizon: int = 10_000

    mixes = True

    def check(self) -> None:
        super().check()
        above_zero("arbiter.bound", self.bound)
        at_least("arbiter.horizon", self.horizon, 0)


@arbiters.register("residual", ResidualOptions)
class Residual(Rule):
    """The action a_g + λ·(a_e - a_g), with λ = min(1, α / max|a_e - a_g|).

    A step has its residual with probability min(step/H, 1); else the guide acts alone. The action
    of a target always has one.

    Args:
        options: see ``ResidualOptions``.
    """

    def __init__(self, options: ResidualOptions) -> None:
        self.options = options
        self.needs = options.with_target(GUIDE, EXPLORER)

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        o = self.options
        p = 1.0 if moment.step >= o.horizon else moment.step / o.horizon
        share = self._share(explorers_action(moment), guides_action(moment)).cpu()
        return torch.where(step_draws(moment, streams) < p, share, 0.0), state

    def target(self, moment: Successors) -> Float[Tensor, "S B"]:
        """λ of the two actions in the successor."""
        return self._share(moment.explorer, moment.guide)

    def _share(
        self, explorer: Shaped[Tensor, "S E *A"], guide: Shaped[Tensor, "S E *A"]
    ) -> Float[Tensor, "S E"]:
        """λ = min(1, α / max|a_e - a_g|)."""
        away = (explorer - guide).abs().amax(-1)
        return (self.options.bound / away.clamp(min=self.options.bound)).clamp(max=1.0)
