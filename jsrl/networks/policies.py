"""Policies with a leading seed axis."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.mlp_policy import MlpPolicy, NamedDraws
from jsrl.networks.plain_layers import Clip
from jsrl.networks.seed_policy import register_policy


@register_policy("GaussianPolicy")
class GaussianPolicy(MlpPolicy):
    """Gaussian policies with a state-independent standard deviation, one for each seed.

    Args:
        sizes: as ``MlpPolicy`` takes them, from ``num_seeds`` to ``layer_norm``.
        tanh_mean: squash the mean into (-1, 1).
        log_std_range: bounds on the log standard deviation.
        action_clip: actions are clipped, once, to ± this.
        exploration_noise: samples are the mean with noise of this standard deviation, whatever the
            policy's own is; None for samples of the policy.
        shared: the other keywords of ``MlpPolicy``.
    """

    def __init__(
        self,
        *sizes: Any,
        tanh_mean: bool = True,
        log_std_range: Sequence[float] = (-5.0, 2.0),
        action_clip: float = 1.0,
        exploration_noise: float | None = None,
        **shared: Any,
    ) -> None:
        if exploration_noise is not None:
            shared["exploration_noise"] = exploration_noise
        super().__init__(
            *sizes,
            tanh_mean=tanh_mean,
            log_std_range=log_std_range,
            action_clip=action_clip,
            **shared,
        )
        self.log_std = nn.Parameter(torch.zeros(self.num_seeds, 1, self.action_size))
        self.tanh_mean = tanh_mean
        self.log_std_range = (float(log_std_range[0]), float(log_std_range[1]))
        self.action_clip = action_clip
        self.exploration_noise = exploration_noise

    def forward(
        self, features: Float[Tensor, "S B F"], dropout: Sequence[Tensor] = ()
    ) -> tuple[Float[Tensor, "S B A"], Float[Tensor, "S 1 A"]]:
        """Mean and log standard deviation."""
        mean = self.outputs(features, dropout)
        return (
            torch.tanh(mean) if self.tanh_mean else mean,
            self.log_std.clamp(*self.log_std_range),
        )

    def log_prob(
        self,
        features: Float[Tensor, "S B F"],
        actions: Float[Tensor, "S B A"],
        dropout: Sequence[Tensor] = (),
    ) -> Float[Tensor, "S B"]:
        """Log density of ``actions``, summed over action dimensions."""
        return _log_density(actions, *self(features, dropout))

    def log_prob_and_entropy(
        self, features: Float[Tensor, "S B F"], actions: Float[Tensor, "S B A"]
    ) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"]]:
        """Log density of ``actions``, and the differential entropy, in nats, from one forward."""
        mean, log_std = self(features)
        entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
        return _log_density(actions, mean, log_std), entropy.expand(*mean.shape[:-1])

    def clip(self, sample: Float[Tensor, "S B A"]) -> Float[Tensor, "S B A"]:
        """The action that is taken where this was drawn."""
        return sample.clamp(-self.action_clip, self.action_clip)

    def greedy(self, features: Float[Tensor, "S B F"]) -> Float[Tensor, "S B A"]:
        """The clipped mean."""
        mean, _ = self(features)
        return mean.clamp(-self.action_clip, self.action_clip)

    def sampled(
        self, features: Float[Tensor, "S B F"], draws: NamedDraws
    ) -> Float[Tensor, "S B A"]:
        """Clipped samples."""
        mean, log_std = self(features)
        noise = self.exploration_noise
        spread = log_std.exp() if noise is None else torch.full_like(log_std, noise)
        return self.clip(_drawn(mean, spread, draws))

    @torch.no_grad()
    def draw(
        self, obs: Observation, streams: Streams, name: str
    ) -> tuple[Float[Tensor, "S E A"], Float[Tensor, "S E"]]:
        """Samples of the Gaussian before they are clipped, and their log density."""
        mean, log_std = self(self.encode(obs))
        drawn = _drawn(mean, log_std.exp(), NamedDraws(streams, name))
        return drawn, _log_density(drawn, mean, log_std)

    def head_layers(self) -> dict[str, nn.Module]:
        """The tanh of the mean, if it has one, and the clip."""
        squashed = {"tanh": nn.Tanh()} if self.tanh_mean else {}
        return {**squashed, "clip": Clip(self.action_clip)}

    def mode_module(self, index: int) -> nn.Module:
        """The mode of seed ``index``; without images in PyTorch's own layers, named as they are.

        These map observations ``[*n, O]`` to actions ``[*n, A]``. Where numbers are appended to
        them it is the policy itself.
        """
        if self.images or self.appended:
            return super().mode_module(index)
        layers = OrderedDict(self.layers_without_seeds(index))
        return nn.Sequential(layers).requires_grad_(False).eval()


def _drawn(
    mean: Float[Tensor, "S E A"], spread: Float[Tensor, "S 1 A"], draws: NamedDraws
) -> Float[Tensor, "S E A"]:
    noise = draws.normal(mean.shape[1:])
    return mean + spread * noise.to(mean.device, non_blocking=True)


def _log_density(
    actions: Float[Tensor, "S B A"], mean: Float[Tensor, "S B A"], log_std: Float[Tensor, "S 1 A"]
) -> Float[Tensor, "S B"]:
    z = (actions - mean) * torch.exp(-log_std)
    return -(0.5 * z * z + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
