"""Policies without a distribution, such as those of DDPG and TD3."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.networks.mlp_policy import MlpPolicy
from jsrl.networks.seed_policy import register_policy


@register_policy("DeterministicPolicy")
class DeterministicPolicy(MlpPolicy):
    """The tanh of what a perceptron says (Fujimoto et al. 2018, arXiv 1802.09477, appendix C).

    The noise with which such a policy explores is the learner's, not the policy's.

    The arguments are those of ``MlpPolicy``.
    """

    def forward(
        self, features: Float[Tensor, "S B F"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S B A"]:
        """The action, in [-1, 1]."""
        return torch.tanh(self.outputs(features, dropout))

    def greedy(self, features: Float[Tensor, "S B F"]) -> Float[Tensor, "S B A"]:
        """The action itself."""
        action: Tensor = self(features)
        return action
