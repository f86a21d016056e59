"""Imitation-bootstrapped RL: whoever's action the target critics think better acts.

IBRL (Hu et al. 2024, arXiv 2311.02198, section 4; ``q_agent.py`` of the authors), greedy or by a
softmax, with the same rule at s' in the critics' targets. Where the target of a learner has several
critics of which it takes some, the rule goes by the least of all.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import EXPLORER, GUIDE, ArbiterState, Decision, Q, Successors
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    Rule,
    TargetOptions,
    advantage_of_explorer,
    arbiters,
    critics_of,
    step_draws,
)


@dataclass
class IbrlOptions(TargetOptions):
    """Of ``arbiter=ibrl``."""

    # β of the softmax over both, as 10; null: the better one acts, the guide if they are equal.
    inverse_temperature: float | None = None

    def check(self) -> None:
        super().check()
        if self.inverse_temperature is not None:
            at_least("arbiter.inverse_temperature", self.inverse_temperature, 0)


@arbiters.register("ibrl", IbrlOptions)
class Ibrl(Rule):
    """arg max over {guide, explorer} of the least target Q, or drawn ∝ exp(β·Q) while exploring.

    Evaluations take the arg max in any case. Targets are made with the action that is chosen, or
    drawn, from what both would do in the successor.

    Args:
        options: see ``IbrlOptions``.
    """

    def __init__(self, options: IbrlOptions) -> None:
        self.options = options
        self.needs = options.with_target(GUIDE, EXPLORER, Q)

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        better = advantage_of_explorer(moment, critics_of(moment).target_q).cpu()
        beta = self.options.inverse_temperature
        if beta is None or not moment.explores:
            return (better > 0).float(), state
        return (step_draws(moment, streams) < torch.sigmoid(beta * better)).float(), state

    def target(self, moment: Successors) -> Float[Tensor, "S B"]:
        """1 where the explorer's action in the successor is chosen, and 0 where the guide's is."""
        better = advantage_of_explorer(moment, moment.critics.target_q)
        beta = self.options.inverse_temperature
        if beta is None:
            return (better > 0).float()
        return (moment.draws < torch.sigmoid(beta * better)).float()
