"""A coin at every step: the explorer acts with a probability that follows training.

The per-step mixture that DLR-RM/stable-baselines3 issue 1813 asks for; it is also how DAgger mixes
an expert in (Ross, Gordon and Bagnell 2011, section 3), with the guide as the expert.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import ArbiterState, Decision
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    ArbiterOptions,
    Rule,
    arbiters,
    linear,
    probability,
    step_draws,
)


@dataclass
class CoinOptions(ArbiterOptions):
    """Of ``arbiter=coin``."""

    # Probability of the explorer at the beginning.
    initial_probability: float = 0.0
    # Probability of the explorer at the end of the schedule, and from there on.
    final_probability: float = 1.0
    # Environment steps of a seed from the one to the other, along a line.
    schedule_steps: int = 10_000

    def check(self) -> None:
        super().check()
        probability("arbiter.initial_probability", self.initial_probability)
        probability("arbiter.final_probability", self.final_probability)
        at_least("arbiter.schedule_steps", self.schedule_steps, 0)


@arbiters.register("coin", CoinOptions)
class Coin(Rule):
    """The explorer acts iff u < p(step), with u drawn for every row and step.

    Args:
        options: see ``CoinOptions``.
    """

    def __init__(self, options: CoinOptions) -> None:
        self.options = options

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        o = self.options
        p = linear(o.initial_probability, o.final_probability, o.schedule_steps, moment.step)
        return (step_draws(moment, streams) < p).float(), state
