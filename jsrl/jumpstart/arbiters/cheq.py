"""Contextualised hybrid ensemble Q-learning: the surer the critics, the more the explorer acts.

The mixing of CHEQ (Cramer et al. 2024, arXiv 2406.19768; numbers from ``cheq.py`` of
dwaitbhatt/Rainbow-DemoRL): λ falls along a line from its highest to its lowest value as the
critics' spread rises from the one bound to the other. The spread is the standard deviation over K
critics, Σ(q - mean)²/K under the root.

As there, λ is a part of what explorer and critics observe. So it has to be known before they are
asked: it follows from the spread in the step before, and is the lowest when an episode begins. The
successor of a transition has its λ too, with which the target's action is mixed. There the replay
holds the explorer's own action; here, as with every rule, what was done.

Without ``observe_share`` the mixed actions come from a λ that nobody observes: it follows from the
spread in the same step, and in targets from that in the successor.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.arbitration import (
    ENSEMBLE,
    EXPLORER,
    OBSERVED_SHARE,
    ArbiterState,
    Beginning,
    Decision,
    Successors,
)
from jsrl.core.errors import UserError
from jsrl.core.observed_share import share_in
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

NEXT = "next share"


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
    # Whether explorer and critics observe λ, which is then that of the spread one step before.
    observe_share: bool = True

    mixes = True
    neutral = (*TargetOptions.neutral, ("observe_share", False))
    formerly = (("observe_share", False),)

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
        return self.share(moment).cpu(), state

    def target(self, moment: Successors) -> Float[Tensor, "S B"]:
        """λ by the critics' spread in the successor."""
        return self.share(moment)

    def share(self, moment: Decision | Successors) -> Float[Tensor, "S E"]:
        """λ by the critics' spread."""
        o = self.options
        q = critics_of(moment).q(moment.observation, explorers_action(moment))
        # PyTorch's own std rounds differently with another number of seeds.
        spread = ((q - q.mean(1, keepdim=True)) ** 2).mean(1).sqrt()
        risk = ((spread - o.lowest_spread) / (o.highest_spread - o.lowest_spread)).clamp(0, 1)
        return o.highest_share - risk * (o.highest_share - o.lowest_share)


class ObservedCheq(Cheq):
    """The same mixing with a λ that is observed: by the spread of Q((s, λ), a_e) a step before.

    It takes note of the spread at every step, also while a decision stands for several.
    """

    watched = frozenset({NEXT})

    def __init__(self, options: CheqOptions) -> None:
        super().__init__(options)
        self.needs = self.needs | {OBSERVED_SHARE}

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """λ is the lowest."""
        lowest = torch.full((num_seeds, num_envs), self.options.lowest_share)
        return ArbiterState(episodes={NEXT: lowest})

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """Episodes begin with the lowest λ."""
        lowest = self.options.lowest_share
        after = torch.where(beginning.mask, lowest, state.episodes[NEXT])
        return ArbiterState(state.seeds, {NEXT: after})

    def share_to_come(
        self, times: Int[Tensor, "S E"], step: int, state: ArbiterState
    ) -> Float[Tensor, "S E"]:
        """λ by the spread a step before; 0 while the guide acts alone."""
        share = state.episodes[NEXT]
        return torch.zeros_like(share) if step < self.options.warmup_steps else share

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        share = self.share_to_come(moment.times, moment.step, state)
        return share, ArbiterState(state.seeds, {NEXT: self.share(moment).cpu()})

    def target(self, moment: Successors) -> Float[Tensor, "S B"]:
        """The λ that the successor was observed with."""
        return share_in(moment.observation)


@arbiters.register("cheq", CheqOptions)
def make_cheq(options: CheqOptions) -> Cheq:
    """The rule, with a λ that is observed, or not."""
    return ObservedCheq(options) if options.observe_share else Cheq(options)
