"""Policies that choose one of n actions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
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
        return _chosen(self(features, dropout), actions)

    def entropy(self, features: Float[Tensor, "S B F"]) -> Float[Tensor, "S B"]:
        """-Σ p·log p, in nats: from 0 to log n."""
        return _entropy(self(features))

    def log_prob_and_entropy(
        self, features: Float[Tensor, "S B F"], actions: Int[Tensor, "S B"]
    ) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"]]:
        """What ``log_prob`` and ``entropy`` give, from one forward."""
        log_probabilities = self(features)
        return _chosen(log_probabilities, actions), _entropy(log_probabilities)

    def clip(self, sample: Int[Tensor, "S B"]) -> Int[Tensor, "S B"]:
        """The choice that is made where this was drawn: the same."""
        return sample

    def greedy(self, features: Float[Tensor, "S B F"]) -> Int[Tensor, "S B"]:
        """The most probable action; of several, the first."""
        return self(features).argmax(-1)

    def sampled(self, features: Float[Tensor, "S B F"], draws: NamedDraws) -> Int[Tensor, "S B"]:
        """Samples from one uniform draw each.

        The draw's place in the sums of the probabilities is the action.
        """
        return _choose(self(features), draws.uniform((features.shape[1], 1)))

    @torch.no_grad()
    def draw(
        self, obs: Observation, streams: Streams, name: str
    ) -> tuple[Int[Tensor, "S E"], Float[Tensor, "S E"]]:
        """The same samples, and the logarithms of their probabilities."""
        log_probabilities = self(self.encode(obs))
        choices = _choose(log_probabilities, streams.uniform(name, (obs.leading[1], 1)))
        return choices, _chosen(log_probabilities, choices)


def _choose(
    log_probabilities: Float[Tensor, "S E n"], draws: Float[Tensor, "S E 1"]
) -> Int[Tensor, "S E"]:
    sums = log_probabilities.exp().cumsum(-1)
    whole = sums[..., -1:]
    drawn = draws.to(sums.device, non_blocking=True) * whole
    # The second condition keeps a draw that is rounded to the whole from actions behind the
    # last one that has any probability.
    return ((sums <= drawn) & (sums < whole)).sum(-1)


def _chosen(
    log_probabilities: Float[Tensor, "S B n"], actions: Int[Tensor, "S B"]
) -> Float[Tensor, "S B"]:
    return log_probabilities.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def _entropy(log_probabilities: Float[Tensor, "S B n"]) -> Float[Tensor, "S B"]:
    return -(log_probabilities.exp() * log_probabilities).sum(-1)
