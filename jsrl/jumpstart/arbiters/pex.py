"""Policy expansion: guide and explorer are drawn by how good their actions look to the critics.

As in Zhang, Xu and Yu 2023 (arXiv 2302.00935, section 4.2; ``pex.py`` of the authors): of two
candidates each is taken with a probability proportional to exp(κ·min Q). The paper trains the
explorer by advantage weighting on all actions, which ``learner=iql`` and ``learner=awac`` do.
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
class PexOptions(ArbiterOptions):
    """Of ``arbiter=pex``."""

    # κ, the inverse temperature: 0 is a fair coin.
    inverse_temperature: float = 10.0

    def check(self) -> None:
        super().check()
        at_least("arbiter.inverse_temperature", self.inverse_temperature, 0)


@arbiters.register("pex", PexOptions)
class PolicyExpansion(Rule):
    """P(explorer) = exp(κ·Q(s, a_e)) / (exp(κ·Q(s, a_e)) + exp(κ·Q(s, a_g))), Q the least of all.

    Args:
        options: see ``PexOptions``.
    """

    needs = frozenset({GUIDE, EXPLORER, Q})

    def __init__(self, options: PexOptions) -> None:
        self.options = options

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        better = advantage_of_explorer(moment, critics_of(moment).q).cpu()
        p = torch.sigmoid(self.options.inverse_temperature * better)
        return (step_draws(moment, streams) < p).float(), state
