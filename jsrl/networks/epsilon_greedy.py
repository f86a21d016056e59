"""Policies that choose the most valuable of n actions, and at times another one."""

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


@register_policy("EpsilonGreedyPolicy")
class EpsilonGreedyPolicy(MlpPolicy):
    """The value of each of n actions; with probability ε a random one is taken.

    ε falls along a line with the environment steps that the policy has acted in for training (Mnih
    et al. 2015, Nature 518, Methods). The clock is a part of the policy's state.

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
        epsilon: at the beginning and at the end.
    """

    clock: Tensor
    duration: Tensor

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
        epsilon: Sequence[float] = (1.0, 0.05),
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
            epsilon=epsilon,
        )
        self.first_epsilon, self.last_epsilon = map(float, epsilon)
        self.register_buffer("clock", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("duration", torch.zeros(1, dtype=torch.int64))

    def explore_for(self, steps: int) -> None:
        """Begin a schedule in which ε arrives at its end after so many steps of a seed."""
        self.clock.zero_()
        self.duration.fill_(steps)

    @property
    def epsilon(self) -> float:
        """The probability of a random action in the next step."""
        duration = int(self.duration)
        share = min(int(self.clock) / duration, 1.0) if duration else 1.0
        return self.first_epsilon + share * (self.last_epsilon - self.first_epsilon)

    def forward(
        self, features: Float[Tensor, "S B F"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S B n"]:
        """The value of each action."""
        return self.outputs(features, dropout)

    def greedy(self, features: Float[Tensor, "S B F"]) -> Int[Tensor, "S B"]:
        """The most valuable action; of several, the first."""
        return self(features).argmax(-1)

    @torch.inference_mode()
    def act(self, obs: Observation, streams: Streams | None) -> Int[Tensor, "S E"]:
        """Actions for training, after which ε is smaller, or the mode without ``streams``."""
        if streams is None:
            return self.mode(obs)
        actions = self.sample(obs, streams, "action_noise")
        self.clock += obs.leading[1]
        return actions

    @torch.inference_mode()
    def sample(
        self,
        obs: Observation,
        streams: Streams,
        name: str,
        where: Sequence[bool] | None = None,
    ) -> Int[Tensor, "S E"]:
        """Actions, random ones with the present ε; see ``SamplingPolicy``.

        Two uniform draws an action, of the streams ``name``: whether it is random, and which.
        """
        draws = streams.uniform(name, (obs.leading[1], 2), where=where).to(obs.device)
        random = (draws[..., 1] * self.action_size).long().clamp(max=self.action_size - 1)
        return torch.where(draws[..., 0] < self.epsilon, random, self.mode(obs))
