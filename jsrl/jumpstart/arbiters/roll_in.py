"""Roll-in with a coin: some episodes begin with the guide, for a number of steps that is geometric.

As in the public code of ExPLORe (Li et al. 2023, arXiv 2311.05067, ``train_finetuning.py``): an
episode rolls in with probability p, and the guide goes on at each step with probability γ.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import ArbiterState, Beginning, Decision
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    DRAWS_AT_BEGIN,
    ArbiterOptions,
    Rule,
    arbiters,
    probability,
    step_draws,
)

ROLLS = "rolls in"


@dataclass
class RollInOptions(ArbiterOptions):
    """Of ``arbiter=roll_in``."""

    # Probability with which an episode begins with the guide.
    probability: float = 0.5
    # Probability with which the guide goes on, at every step after the first.
    going_on: float = 0.99

    def check(self) -> None:
        super().check()
        probability("arbiter.probability", self.probability)
        probability("arbiter.going_on", self.going_on)


@arbiters.register("roll_in", RollInOptions)
class RollIn(Rule):
    """The guide acts from the first step on until a coin says that it stops, in some episodes.

    Once the explorer has taken over it acts to the end of the episode.

    Args:
        options: see ``RollInOptions``.
    """

    def __init__(self, options: RollInOptions) -> None:
        self.options = options

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """No episode rolls in."""
        return ArbiterState(episodes={ROLLS: torch.zeros(num_seeds, num_envs, dtype=torch.bool)})

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """Each episode draws whether it rolls in; seeds in which none begins draw nothing."""
        mask = beginning.mask
        draws = streams.uniform(DRAWS_AT_BEGIN, mask.shape[1:], mask.any(1).tolist())
        rolls = torch.where(mask, draws < self.options.probability, state.episodes[ROLLS])
        return replace(state, episodes={ROLLS: rolls})

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        goes_on = (moment.times == 0) | (step_draws(moment, streams) < self.options.going_on)
        rolls = state.episodes[ROLLS] & goes_on
        return (~rolls).float(), replace(state, episodes={ROLLS: rolls})
