"""Warm-up: the guide alone for the first steps of training, then the explorer alone.

As in WSRL (Zhou et al. 2024, arXiv 2412.07762), where the pre-trained policy fills the replay
before anything is learnt online; set ``online.learning_starts`` to the same number for that.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import ArbiterState, Decision
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import ArbiterOptions, Rule, arbiters


@dataclass
class WarmUpOptions(ArbiterOptions):
    """Of ``arbiter=warm_up``."""

    # Environment steps of a seed in which the guide acts.
    steps: int = 5_000

    def check(self) -> None:
        super().check()
        at_least("arbiter.steps", self.steps, 0)


@arbiters.register("warm_up", WarmUpOptions)
class WarmUp(Rule):
    """The explorer acts iff the step of training is at least N.

    Args:
        options: see ``WarmUpOptions``.
    """

    def __init__(self, options: WarmUpOptions) -> None:
        self.options = options

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        share = float(moment.step >= self.options.steps)
        return torch.full(moment.times.shape, share), state
