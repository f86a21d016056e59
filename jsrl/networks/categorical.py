"""Policies that choose one of n actions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.activations import Activation
from jsrl.networks.encoders.encoder import EncoderOptions
from jsrl.networks.mlp_policy import MlpPolicy
from jsrl.networks.seed_policy import register_policy


@register_policy("CategoricalPolicy")
class CategoricalPolicy(MlpPolicy):
    """A probability for each of n actions: the softmax of what a perceptron says.

    Args:
        num_seeds: S.
        observation_size: O, of the vector.
        action_size: n.
        hidden: sizes of the hidden layers.
        activation: what follows each hidden layer.
        layer_norm: normalise hidden layers.
        normalise_observations: subtract ``observation_mean``, divide by ``observation_std``.
        images: channels, height and width of each image by name; None without images.
        encoder: of the images.
    """

    def __init__(
        self,
        num_seeds: int,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        layer_norm: bool = False,
        normalise_observations: bool = False,
        images: Mapping[str, Sequence[int]] | None = None,
        encoder: EncoderOptions | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            num_seeds,
            observation_size,
            action_size,
            outputs=action_size,
            hidden=hidden,
            activation=activation,
            layer_norm=layer_norm,
            normalise_observations=normalise_observations,
            images=images,
            encoder=encoder,
        )

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

    @torch.inference_mode()
    def sample(
        self,
        obs: Observation,
        streams: Streams,
        name: str,
        where: Sequence[bool] | None = None,
    ) -> Int[Tensor, "S E"]:
        """Samples from one uniform draw each, of the streams ``name``; see ``SamplingPolicy``.

        The draw's place in the sums of the probabilities is the action.
        """
        sums = self(self.encode(obs)).exp().cumsum(-1)
        whole = sums[..., -1:]
        draws = streams.uniform(name, (obs.leading[1], 1), where=where)
        drawn = draws.to(sums.device, non_blocking=True) * whole
        # The second condition keeps a draw that is rounded to the whole from actions behind the
        # last one that has any probability.
        return ((sums <= drawn) & (sums < whole)).sum(-1)
