"""Policies without a distribution, such as those of DDPG and TD3."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.networks.activations import Activation
from jsrl.networks.encoders.encoder import EncoderOptions
from jsrl.networks.mlp_policy import MlpPolicy
from jsrl.networks.seed_policy import register_policy


@register_policy("DeterministicPolicy")
class DeterministicPolicy(MlpPolicy):
    """The tanh of what a perceptron says (Fujimoto et al. 2018, arXiv 1802.09477, appendix C).

    The noise with which such a policy explores is the learner's, not the policy's.

    Args:
        num_seeds: S.
        observation_size: O, of the vector.
        action_size: A.
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
    ) -> Float[Tensor, "S B A"]:
        """The action, in [-1, 1]."""
        return torch.tanh(self.outputs(features, dropout))

    def greedy(self, features: Float[Tensor, "S B F"]) -> Float[Tensor, "S B A"]:
        """The action itself."""
        action: Tensor = self(features)
        return action
