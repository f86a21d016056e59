"""The policy of soft actor-critic: a Gaussian that passes a tanh."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.networks.mlp_policy import MlpPolicy, NamedDraws
from jsrl.networks.plain_layers import First
from jsrl.networks.seed_policy import register_policy

_PLACES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
QUADRATURE = (_PLACES, _WEIGHTS / math.sqrt(2 * math.pi))
"""Places and weights with which sums are means over a standard normal."""


@register_policy("TanhGaussianPolicy")
class TanhGaussianPolicy(MlpPolicy):
    """tanh(u) of normal u, whose mean and standard deviation depend on the observation.

    Haarnoja et al. 2018 (arXiv 1801.01290), appendix C. The perceptron gives A means and then A
    log standard deviations, which are clipped as in the authors' code.

    Args:
        sizes: as ``MlpPolicy`` takes them, from ``num_seeds`` to ``layer_norm``.
        log_std_range: bounds on the log standard deviation.
        shared: the other keywords of ``MlpPolicy``.
    """

    outputs_per_action = 2

    def __init__(
        self, *sizes: Any, log_std_range: Sequence[float] = (-20.0, 2.0), **shared: Any
    ) -> None:
        super().__init__(*sizes, log_std_range=log_std_range, **shared)
        self.log_std_range = (float(log_std_range[0]), float(log_std_range[1]))

    def forward(
        self, features: Float[Tensor, "S B F"], dropout: Sequence[Tensor] = ()
    ) -> tuple[Float[Tensor, "S B A"], Float[Tensor, "S B A"]]:
        """Mean and log standard deviation of u, before the tanh."""
        mean, log_std = self.outputs(features, dropout).chunk(2, dim=-1)
        return mean, log_std.clamp(*self.log_std_range)

    def sample_with_log_prob(
        self, features: Float[Tensor, "S B F"], noise: Float[Tensor, "S B *n A"]
    ) -> tuple[Float[Tensor, "S B *n A"], Float[Tensor, "S B *n"]]:
        """Actions and their log density, both with gradients to the parameters.

        Args:
            features: of what is acted on, from ``encode``.
            noise: standard normal, drawn outside; for n actions each time, ``[S, B, n, A]``.
        """
        mean, log_std = self(features)
        if noise.dim() > mean.dim():
            mean, log_std = mean.unsqueeze(2), log_std.unsqueeze(2)
        before = mean + log_std.exp() * noise
        return torch.tanh(before), _log_density(noise, log_std, before)

    def log_prob(
        self,
        features: Float[Tensor, "S B F"],
        actions: Float[Tensor, "S B A"],
        dropout: Sequence[Tensor] = (),
    ) -> Float[Tensor, "S B"]:
        """Log density of ``actions``, summed over action dimensions.

        The density has no value at -1 and 1; there, it is that of the nearest number within.
        """
        mean, log_std = self(features, dropout)
        largest = 1 - torch.finfo(actions.dtype).eps / 2
        within = actions.clamp(-largest, largest)
        # PyTorch's own atanh rounds differently at another place of a row, and with it another
        # number of seeds.
        before = 0.5 * (torch.log1p(within) - torch.log1p(-within))
        return _log_density((before - mean) * torch.exp(-log_std), log_std, before)

    def log_prob_and_entropy(
        self, features: Float[Tensor, "S B F"], actions: Float[Tensor, "S B A"]
    ) -> tuple[Float[Tensor, "S B"], Float[Tensor, "S B"]]:
        """Log density of ``actions``, and the differential entropy, in nats.

        The entropy is that of u with the mean of log(1 - tanh²u) added, which has no closed form:
        it is integrated by Gauss-Hermite quadrature, without any draw.
        """
        mean, log_std = self(features)
        places, weights = (torch.as_tensor(x).to(mean) for x in QUADRATURE)
        before = mean.unsqueeze(-1) + log_std.exp().unsqueeze(-1) * places
        change = (weights * _log_slope(before)).sum(-1)
        normal = log_std + 0.5 * math.log(2 * math.pi * math.e)
        return self.log_prob(features, actions), (normal + change).sum(-1)

    def greedy(self, features: Float[Tensor, "S B F"]) -> Float[Tensor, "S B A"]:
        """The tanh of the mean."""
        mean, _ = self(features)
        return torch.tanh(mean)

    def head_layers(self) -> dict[str, nn.Module]:
        """The means of what the perceptron says, and their tanh."""
        return {"mean": First(self.action_size), "tanh": nn.Tanh()}

    def sampled(
        self, features: Float[Tensor, "S B F"], draws: NamedDraws
    ) -> Float[Tensor, "S B A"]:
        """The tanh of Gaussian samples."""
        mean, log_std = self(features)
        noise = draws.normal(mean.shape[1:])
        return torch.tanh(mean + log_std.exp() * noise.to(mean.device, non_blocking=True))


def _log_density(z: Tensor, log_std: Tensor, before: Tensor) -> Tensor:
    """Of tanh(before), summed over action dimensions, where z is before in standard units."""
    normal = -(0.5 * z * z + log_std + 0.5 * math.log(2 * math.pi))
    return (normal - _log_slope(before)).sum(-1)


def _log_slope(before: Tensor) -> Tensor:
    """log(1 - tanh²u) = 2·(log 2 - u - softplus(-2u)), by which the tanh changes a log density.

    u + softplus(-2u) is |u| + log(1 + exp(-2|u|)), which neither overflows nor cancels.
    """
    size = before.abs()
    return 2 * (math.log(2) - size - torch.log1p(torch.exp(-2 * size)))
