"""Policies that choose the most valuable of n actions, and at times another one."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.mlp_policy import MlpPolicy, NamedDraws
from jsrl.networks.seed_policy import register_policy


@register_policy("EpsilonGreedyPolicy")
class EpsilonGreedyPolicy(MlpPolicy):
    """The value of each of n actions; with probability ε a random one is taken.

    ε falls along a line with the environment steps of training (Mnih et al. 2015, Nature 518,
    Methods), those in which a guide acts among them. The clock is a part of the policy's state.

    Args:
        sizes: as ``MlpPolicy`` takes them, from ``num_seeds`` to ``layer_norm``.
        epsilon: at the beginning and at the end.
        shared: the other keywords of ``MlpPolicy``.
    """

    clock: Tensor
    duration: Tensor

    def __init__(self, *sizes: Any, epsilon: Sequence[float] = (1.0, 0.05), **shared: Any) -> None:
        super().__init__(*sizes, epsilon=epsilon, **shared)
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

    def sampled(self, features: Float[Tensor, "S B F"], draws: NamedDraws) -> Int[Tensor, "S B"]:
        """Actions, random ones with the present ε.

        Two uniform draws an action: whether it is random, and which.
        """
        drawn = draws.uniform((features.shape[1], 2)).to(features.device)
        random = (drawn[..., 1] * self.action_size).long().clamp(max=self.action_size - 1)
        return torch.where(drawn[..., 0] < self.epsilon, random, self.greedy(features))
