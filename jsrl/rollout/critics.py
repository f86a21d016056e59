"""What a learner's critics say to a rule of who acts, and whether a learner has any.

Shapes: S seeds, E environments of a seed, K critics, A action size.
"""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.arbitration import ENSEMBLE, Q, V
from jsrl.core.observations import Observation
from jsrl.core.protocols import (
    HasTargetValues,
    HasTwinValues,
    PredictsValues,
    ValuesStates,
)

WHAT = {
    Q: "the values Q(s, a) of actions",
    ENSEMBLE: "the values Q(s, a) of several critics",
    V: "the values of states",
}
"""What is missing, in words, by the name of the need."""


def offered(learner: type) -> frozenset[str]:
    """Which of the values that a rule may need learners of a class can give."""
    found = set()
    if issubclass(learner, HasTwinValues):
        found |= {Q, ENSEMBLE, V}
    if issubclass(learner, HasTargetValues):
        found |= {Q, V}
    if issubclass(learner, ValuesStates):
        found.add(V)
    return frozenset(found)


class LearnerCritics:
    """The critics of a learner, as they are when they are asked.

    Args:
        learner: one that offers what will be asked.
    """

    def __init__(self, learner: Any) -> None:
        self._learner = learner
        # Looked at once, so that an update that asks critics can be compiled.
        self._has_twins = isinstance(learner, HasTwinValues)
        self._predicts = isinstance(learner, PredictsValues)
        self._has_targets = isinstance(learner, HasTargetValues)
        self._values_states = isinstance(learner, ValuesStates)

    @torch.no_grad()
    def q(
        self, observation: Observation, action: Shaped[Tensor, "S E *A"]
    ) -> Float[Tensor, "S K E"]:
        """Q(s, a) of each critic."""
        learner = self._learner
        found: Tensor
        if self._has_twins:
            found = learner.twin_values(observation, action)
        elif self._predicts:
            found = learner.predict(observation, action)["critic"].unsqueeze(1)
        else:
            found = self.target_q(observation, action)
        return found

    @torch.no_grad()
    def target_q(
        self, observation: Observation, action: Shaped[Tensor, "S E *A"]
    ) -> Float[Tensor, "S K E"]:
        """Q(s, a) of each target critic; of the critics where there are no targets."""
        if not self._has_targets:
            return self.q(observation, action)
        found: Tensor = self._learner.target_values(observation, action)
        return found

    @torch.no_grad()
    def v(self, observation: Observation) -> Float[Tensor, "S E"]:
        """V(s); the least Q of what the policy would do where the learner has no V."""
        learner = self._learner
        found: Tensor
        if self._values_states:
            found = learner.values(observation)
            return found
        action = learner.policy().act(observation, None)
        if self._predicts:
            found = learner.predict(observation, action)["value"]
            return found
        return self.q(observation, action).amin(1)
