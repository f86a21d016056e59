"""Imitation-bootstrapped RL: whoever's action the target critics think better acts.

The acting half of IBRL (Hu et al. 2024, arXiv 2311.02198, section 4; ``q_agent.py`` of the
authors), greedy or by a softmax. Its other half, the same rule at s' in the critics' targets, is
not here: a minibatch does not hold what the guide would do in its successors, so that the
learner's targets stay its own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import EXPLORER, GUIDE, ArbiterState, Decision, Q
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    ArbiterOptions,
    Rule,
    advantage_of_explorer,
    arbiters,
    critics_of,
    step_draws,
)


@dataclass
class IbrlOptions(ArbiterOptions):
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

    Evaluations take the arg max in any case.

    Args:
        options: see ``IbrlOptions``.
    """

    needs = frozenset({GUIDE, EXPLORER, Q})

    def __init__(self, options: IbrlOptions) -> None:
        self.options = options

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        better = advantage_of_explorer(moment, critics_of(moment).target_q)
        beta = self.options.inverse_temperature
        if beta is None or not moment.explores:
            return (better > 0).float(), state
        return (step_draws(moment, streams) < torch.sigmoid(beta * better)).float(), state
