"""Critic as Lyapunov function: the explorer acts while the value of the states rises.

The acting rule of CALF (Osinenko et al. 2024, arXiv 2409.14867; numbers and order of steps from
``calf_wrapper.py`` of thd-research/stable-baselines-playground), with the guide as the nominal
policy.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import ArbiterState, Beginning, Decision, V
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    ArbiterOptions,
    Rule,
    arbiters,
    critics_of,
    probability,
    step_draws,
)

BEST = "best value"


@dataclass
class CalfOptions(ArbiterOptions):
    """Of ``arbiter=calf``."""

    # By how much V must exceed the best of the episode, in units of the learner's values.
    improvement: float = 0.01
    # Probability with which the explorer acts all the same, in an episode's first step.
    relaxation: float = 0.5
    # Factor of this probability with every step of the episode.
    relaxation_factor: float = 0.99

    def check(self) -> None:
        super().check()
        at_least("arbiter.improvement", self.improvement, 0)
        probability("arbiter.relaxation", self.relaxation)
        probability("arbiter.relaxation_factor", self.relaxation_factor)


@arbiters.register("calf", CalfOptions)
class Calf(Rule):
    """The explorer acts iff V(s) ≥ best + improvement, else with probability p·factor^t.

    The best V of an episode is at first that of its first state, and then V(s) of the last state
    that met the condition.

    Args:
        options: see ``CalfOptions``.
    """

    needs = frozenset({V})

    def __init__(self, options: CalfOptions) -> None:
        self.options = options

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """No value is known."""
        return ArbiterState(episodes={BEST: torch.full((num_seeds, num_envs), torch.nan)})

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """An episode has no best value before it is asked for the first time."""
        best = state.episodes[BEST].masked_fill(beginning.mask, torch.nan)
        return ArbiterState(episodes={BEST: best})

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        o, best = self.options, state.episodes[BEST]
        v = critics_of(moment).v(moment.observation).cpu()
        best = torch.where(best.isnan(), v, best)
        improves = v - best >= o.improvement
        relaxed = step_draws(moment, streams) < o.relaxation * o.relaxation_factor**moment.times
        best = torch.where(improves, v, best)
        return (improves | relaxed).float(), ArbiterState(episodes={BEST: best})
