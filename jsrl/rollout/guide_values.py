"""What a guide that is one of this package's policies says of its own actions and of states.

Shapes: S seeds, E environments of a seed, A action size.
"""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.arbitration import Critics
from jsrl.core.observations import Observation
from jsrl.core.protocols import DensityPolicy
from jsrl.guides.view import BoundView


class NetworkGuideValues:
    """Of a guide's policy, and of the learner that it comes from, which learns no more.

    Args:
        policy: of S seeds.
        critics: of the learner.
        view: how the guide sees the environment; both see it so.
    """

    def __init__(self, policy: DensityPolicy, critics: Critics, view: BoundView) -> None:
        self._policy = policy
        self._critics = critics
        self._view = view

    @torch.no_grad()
    def log_prob_and_entropy(
        self, observation: Observation, action: Shaped[Tensor, "S E *A"]
    ) -> tuple[Float[Tensor, "S E"], Float[Tensor, "S E"]]:
        """Both in the guide's own units of actions; see ``GuideValues``."""
        features: Any = self._policy.encode(self._view.observe(observation))
        return self._policy.log_prob_and_entropy(features, self._view.answers(action))

    def v(self, observation: Observation) -> Float[Tensor, "S E"]:
        """V of the guide's learner; see ``GuideValues``."""
        return self._critics.v(self._view.observe(observation))
