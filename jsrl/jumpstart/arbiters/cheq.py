"""Contextualised hybrid ensemble Q-learning: the surer the critics, the more the explorer acts.

The mixing of CHEQ (Cramer et al. 2024, arXiv 2406.19768; numbers from ``cheq.py`` of
dwaitbhatt/Rainbow-DemoRL): λ falls along a line from its highest to its lowest value as the
critics' spread rises from the one bound to the other. Targets are made with the action that is
mixed at s' by the spread of the critics there. There λ is a part of the observation; here it is
not, so that a learner sees mixed actions without knowing why. The spread is the standard deviation
over K critics, Σ(q - mean)²/K under the root.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import ENSEMBLE, EXPLORER, ArbiterState, Decision, Successors
from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    Rule,
    TargetOptions,
    arbiters,
    critics_of,
    explorers_action,
    probability,
)


@dataclass
class CheqOptions(TargetOptions):
    """Of ``arbiter=cheq``."""

    # λ, the explorer's share, where the critics spread most.
    lowest_share: float = 0.2
    # λ where they spread least.
    highest_share: float = 1.0
    # Spread of the critics up to which λ is highest, in units of their values.
    lowest_spread: float = 0.03
    # Spread from which on λ is lowest.
    highest_spread: float = 0.15
    # Environment steps of a seed before, in which the guide acts alone.
    warmup_steps: int = 5_000

    mixes = True

    def check(self) -> None:
        super().check()
        probability("arbiter.lowest_share", self.lowest_share)
        probability("arbiter.highest_share", self.highest_share)
        at_least("arbiter.warmup_steps", self.warmup_steps, 0)
        at_least("arbiter.lowest_spread", self.lowest_spread, 0)
        at_least("arbiter.highest_share", self.highest_share, self.lowest_share)
        if not self.highest_spread > self.lowest_spread:
            raise UserError(
                f"arbiter.highest_spread={self.highest_spread} must be above "
                f"arbiter.lowest_spread={self.lowest_spread}"
            )


@arbiters.register("cheq", CheqOptions)
class Cheq(Rule):
    """The action λ·a_e + (1 - λ)·a_g, with λ from the spread of Q(s, a_e) over the critics.

    Args:
        options: see ``CheqOptions``.
    """

    def __init__(self, options: CheqOptions) -> None:
        self.options = options
        self.needs = options.with_target(EXPLORER, ENSEMBLE)

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        o = self.options
        if moment.step < o.warmup_steps:
            return torch.zeros(moment.times.shape), state
        return self._share(moment).cpu(), state

    def target(self, moment: Successors) -> Float[Tensor, "S B"]:
        """λ by the critics' spread in the successor."""
        return self._share(moment)

    def _share(self, moment: Decision | Successors) -> Float[Tensor, "S E"]:
        o = self.options
        q = critics_of(moment).q(moment.observation, explorers_action(moment))
        spread = q.std(1, correction=0)
        risk = ((spread - o.lowest_spread) / (o.highest_spread - o.lowest_spread)).clamp(0, 1)
        return o.highest_share - risk * (o.highest_share - o.lowest_share)
