"""Q-gating: the guide's own estimate of its action against the learner's Q of the explorer's.

The acting rule of Q2RL (Dodeja et al. 2026, arXiv 2605.05172; ``q2rl_gym.py`` of
rai-opensource/q2rl): a cloned policy is taken to be a Boltzmann distribution of its values, so that
Q(s, a) = V(s) + log π(a|s) + H[π(·|s)], which stays as it is, while the learner's critics move.

There V is fitted to the returns of some hundred episodes of the guide; here it is the V of the
learner that the guide comes from, and H is the exact entropy in nats. The rest of Q2RL is not here:
that the learner's critics begin as a fit of that estimate, to which ``start=warm`` is the closest,
and that its actor goes on imitating the guide. log π + H does not depend on the units of actions,
but it does not grow with rewards as V does: the rule is made for returns of the size of a success.
A Gaussian guide that acts by its mode has log π + H = A/2 for A numbers of an action.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from jsrl.core.arbitration import EXPLORER, GUIDE, GUIDE_V, LOG_PROB, ArbiterState, Decision, Q
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import (
    ArbiterOptions,
    Rule,
    arbiters,
    critics_of,
    explorers_action,
    guides_action,
)


@dataclass
class Q2rlOptions(ArbiterOptions):
    """Of ``arbiter=q2rl``."""


@arbiters.register("q2rl", Q2rlOptions)
class QGating(Rule):
    """The explorer acts iff the least Q(s, a_e) of the critics > V(s) + log π(a_g|s) + H[π(·|s)].

    Args:
        options: see ``Q2rlOptions``.
    """

    needs = frozenset({GUIDE, EXPLORER, Q, LOG_PROB, GUIDE_V})

    def __init__(self, options: Q2rlOptions) -> None:
        self.options = options

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        own, seen = moment.guide_values, moment.observation
        assert own is not None, "a rule that asks the guide for values names them in its needs"
        log_prob, entropy = own.log_prob_and_entropy(seen, guides_action(moment))
        guide = own.v(seen) + log_prob + entropy
        explorer = critics_of(moment).q(seen, explorers_action(moment)).amin(1)
        return (explorer > guide).float().cpu(), state
