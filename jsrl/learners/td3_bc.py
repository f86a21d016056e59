"""TD3 with behaviour cloning, TD3+BC (Fujimoto and Gu 2021, arXiv 2106.06860)."""

from dataclasses import dataclass
from typing import Any

import torch

from jsrl.core.protocols import Metrics, Phase
from jsrl.core.ranges import at_least
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.options import LearnerInputs, learners
from jsrl.learners.td3 import TD3, TD3Options


@dataclass
class TD3BCOptions(TD3Options):
    """Of ``learner=td3_bc``; the defaults are those of the paper, which learns offline alone."""

    # How much the value counts beside the data's actions: α of the paper's equation 5.
    alpha: float = 2.5
    # Weight of the data's actions in online learning, of which the paper says nothing: 1 goes on
    # as offline, and 0 is TD3.
    online_behaviour: float = 1.0

    neutral = (*TD3Options.neutral, ("online_behaviour", 1.0))

    def check(self) -> None:
        super().check()
        at_least("learner.alpha", self.alpha, 0)
        at_least("learner.online_behaviour", self.online_behaviour, 0)


@learners.register("td3_bc", TD3BCOptions)
class TD3BC(TD3):
    """TD3 whose actor keeps to the actions of its minibatches, for S seeds at once.

    The minibatches of online learning hold what was collected, too: there the actor keeps to the
    actions of the guide and to its own earlier ones, as far as ``online_behaviour`` says.

    Args:
        options: see ``TD3BCOptions``.
        inputs: what every learner gets.
    """

    options: TD3BCOptions

    def __init__(self, options: TD3BCOptions, inputs: LearnerInputs) -> None:
        super().__init__(options, inputs)
        # A tensor, so that a compiled update does not depend on it.
        self._behaviour = torch.ones((), device=self.device)

    def start_phase(self, phase: Phase, updates: int) -> None:
        """As TD3; and the data's actions count as the phase says."""
        super().start_phase(phase, updates)
        self._behaviour.fill_(self.options.online_behaviour if phase is Phase.ONLINE else 1)

    def actor_losses(self, batch: TransitionBatch) -> Metrics:
        """-λ·Q(s, π(s)) + (π(s) - a)², with λ = α over the minibatch's mean of |Q|."""
        action, q = self.act_and_judge(batch)
        size = q.detach().abs().mean(-1).clamp(min=torch.finfo(q.dtype).tiny)
        weight = self.options.alpha / size
        behaviour = (action - batch.action).square().mean((-2, -1))
        return {
            "loss/actor": -weight * q.mean(-1) + self._behaviour * behaviour,
            "loss/behaviour": behaviour,
        }

    def state_dict(self) -> dict[str, Any]:
        """All of TD3's, and how much the data's actions count."""
        return super().state_dict() | {"behaviour": float(self._behaviour)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._behaviour.fill_(state["behaviour"])
