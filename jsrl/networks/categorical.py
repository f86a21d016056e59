"""Policies that choose one of n actions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.core.streams import Streams
from jsrl.networks.activations import Activation
from jsrl.networks.mlp_policy import MlpPolicy
from jsrl.networks.seed_policy import register_policy


@register_policy("CategoricalPolicy")
class CategoricalPolicy(MlpPolicy):
    """A probability for each of n actions: the softmax of what a perceptron says.

    Args:
        num_seeds: S.
        observation_size: O.
        action_size: n.
        hidden: sizes of the hidden layers.
        activation: what follows each hidden layer.
        layer_norm: normalise hidden layers.
        normalise_observations: subtract ``observation_mean``, divide by ``observation_std``.
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
        )

    def forward(
        self, obs: Float[Tensor, "S B O"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S B n"]:
        """The logarithm of each action's probability."""
        return torch.log_softmax(self.outputs(obs, dropout), dim=-1)

    def log_prob(
        self,
        obs: Float[Tensor, "S B O"],
        actions: Int[Tensor, "S B"],
        dropout: Sequence[Tensor] = (),
    ) -> Float[Tensor, "S B"]:
        """The logarithm of the probability of ``actions``, from 0 to n - 1."""
        chosen: Tensor = self(obs, dropout).gather(-1, actions.unsqueeze(-1))
        return chosen.squeeze(-1)

    def entropy(self, obs: Float[Tensor, "S B O"]) -> Float[Tensor, "S B"]:
        """-Σ p·log p, in nats: from 0 to log n."""
        log_probabilities = self(obs)
        return -(log_probabilities.exp() * log_probabilities).sum(-1)

    def mode(self, obs: Float[Tensor, "S B O"]) -> Int[Tensor, "S B"]:
        """The most probable action; of several, the first."""
        return self.outputs(obs).argmax(-1)

    @torch.inference_mode()
    def act(self, obs: Float[Tensor, "S E O"], streams: Streams | None) -> Int[Tensor, "S E"]:
        """Sampled actions, or the mode without ``streams``: int64, from 0 to n - 1."""
        return self.mode(obs) if streams is None else self.sample(obs, streams, "action_noise")

    @torch.inference_mode()
    def sample(
        self,
        obs: Float[Tensor, "S E O"],
        streams: Streams,
        name: str,
        where: Sequence[bool] | None = None,
    ) -> Int[Tensor, "S E"]:
        """Samples from one uniform draw each, of the streams ``name``; see ``SamplingPolicy``.

        The draw's place in the sums of the probabilities is the action.
        """
        sums = self(obs).exp().cumsum(-1)
        whole = sums[..., -1:]
        draws = streams.uniform(name, (obs.shape[1], 1), where=where)
        drawn = draws.to(sums.device, non_blocking=True) * whole
        # The second condition keeps a draw that is rounded to the whole from actions behind the
        # last one that has any probability.
        return ((sums <= drawn) & (sums < whole)).sum(-1)

    def mode_module(self, index: int) -> nn.Module:
        """The mode of one seed: rows ``[n, O]`` to int64 actions ``[n]``, for an exported file."""
        return ChoiceOfOneSeed(self.select(index).cpu()).eval()


class ChoiceOfOneSeed(nn.Module):
    """A policy of one seed, called with rows ``[n, O]`` in place of ``[1, n, O]``."""

    def __init__(self, policy: CategoricalPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, rows: Float[Tensor, "n O"]) -> Int[Tensor, " n"]:
        return self.policy.mode(rows.unsqueeze(0)).squeeze(0)
