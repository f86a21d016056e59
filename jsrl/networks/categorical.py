"""Policies that choose one of n actions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.networks.mlp_policy import MlpPolicy, NamedDraws
from jsrl.networks.seed_policy import register_policy


@register_policy("CategoricalPolicy")
class CategoricalPolicy(MlpPolicy):
    """A probability for each of n actions: the softmax of what a perceptron says.

    The arguments are those of ``MlpPolicy``.
    """

    def forward(
        self, features: Float[Tensor, "S B F"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S B n"]:
        """The logarithm of each action's probability."""
        return torch.log_softmax(self.outputs(features, dropout), dim=-1)

    def log_prob(
        self,
        features: Float[Tensor, "S B F"],
        actions: Int[Tensor, "S B"],
        dropout: Sequence[Tensor] = (),
    ) -> Float[Tensor, "S B"]:
        """The logarithm of the probability of ``actions``, from 0 to n - 1."""
        chosen: Tensor = self(features, dropout).gather(-1, actions.unsqueeze(-1))
        return chosen.squeeze(-1)

    def entropy(self, features: Float[Tensor, "S B F"]) -> Float[Tensor, "S B"]:
        """-Σ p·log p, in nats: from 0 to log n."""
        log_probabilities = self(features)
        return -(log_probabilities.exp() * log_probabilities).sum(-1)

    def greedy(self, features: Float[Tensor, "S B F"]) -> Int[Tensor, "S B"]:
        """The most probable action; of several, the first."""
        return self(features).argmax(-1)

    def drawn(self, features: Float[Tensor, "S B F"], draws: NamedDraws) -> Int[Tensor, "S B"]:
        """Samples from one uniform draw each.

        The draw's place in the sums of the probabilities is the action.
        """
        sums = self(features).exp().cumsum(-1)
        whole = sums[..., -1:]
        drawn = draws.uniform((features.shape[1], 1)).to(sums.device, non_blocking=True) * whole
        # The second condition keeps a draw that is rounded to the whole from actions behind the
        # last one that has any probability.
        return ((sums <= drawn) & (sums < whole)).sum(-1)
