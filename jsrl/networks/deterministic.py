"""Policies without a distribution, such as those of DDPG and TD3, and how they explore."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.mlp_policy import MlpPolicy, NamedDraws
from jsrl.networks.seed_policy import register_policy


@register_policy("DeterministicPolicy")
class DeterministicPolicy(MlpPolicy):
    """The tanh of what a perceptron says (Fujimoto et al. 2018, arXiv 1802.09477, appendix C).

    It explores by Gaussian noise on its action, and at the beginning of training, if it is told so,
    by actions that are uniform in [-1, 1]. How many of these are left is kept by the learner.

    Args:
        sizes: as ``MlpPolicy`` takes them, from ``num_seeds`` to ``layer_norm``.
        exploration_noise: standard deviation of the noise; 0 without.
        shared: the other keywords of ``MlpPolicy``.

    ``random_steps`` says how many of the next steps of a seed have random actions.
    """

    def __init__(self, *sizes: Any, exploration_noise: float = 0.0, **shared: Any) -> None:
        # Only then is it an argument: those that checkpoints of before hold stay what they are.
        if exploration_noise != 0:
            shared["exploration_noise"] = exploration_noise
        super().__init__(*sizes, **shared)
        self.exploration_noise = float(exploration_noise)
        self.random_steps = 0

    def forward(
        self, features: Float[Tensor, "S B F"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S B A"]:
        """The action, in [-1, 1]."""
        return torch.tanh(self.outputs(features, dropout))

    def greedy(self, features: Float[Tensor, "S B F"]) -> Float[Tensor, "S B A"]:
        """The action itself."""
        action: Tensor = self(features)
        return action

    def head_layers(self) -> dict[str, nn.Module]:
        """The tanh."""
        return {"tanh": nn.Tanh()}

    @torch.inference_mode()
    def act(self, obs: Observation, streams: Streams | None) -> Float[Tensor, "S E A"]:
        """Actions for training, random ones at first, or the mode without ``streams``."""
        if streams is None or self.random_steps == 0:
            return super().act(obs, streams)
        batch = obs.leading[1]
        self.random_steps = max(self.random_steps - batch, 0)
        drawn = streams.uniform("random_action", (batch, self.action_size))
        return (2 * drawn - 1).to(obs.device)

    def sampled(
        self, features: Float[Tensor, "S B F"], draws: NamedDraws
    ) -> Float[Tensor, "S B A"]:
        """Noisy actions within [-1, 1]."""
        action: Tensor = self(features)
        if self.exploration_noise == 0:
            return action
        noise = draws.normal(action.shape[1:])
        noisy = action + self.exploration_noise * noise.to(action.device, non_blocking=True)
        return noisy.clamp(-1, 1)
