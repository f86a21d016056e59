"""Losses, pure: tensors in, tensors out, one value for each seed.

Shapes: S seeds, B transitions. A loss is a mean over B; its caller sums over seeds.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def expectile_loss(difference: Float[Tensor, "S B"], expectile: float) -> Float[Tensor, " S"]:
    """Asymmetric squared error (Kostrikov et al. 2021, section 4.1).

    Args:
        difference: target minus prediction.
        expectile: weight τ of positive differences; negative ones weigh 1 - τ.
    """
    weight = torch.where(difference > 0, expectile, 1 - expectile)
    return (weight * difference * difference).mean(-1)


def advantage_weights(
    advantage: Float[Tensor, "S B"], temperature: float, largest: float
) -> Float[Tensor, "S B"]:
    """exp(β·advantage), at most ``largest`` (Kostrikov et al. 2021, section 4.3)."""
    return torch.exp(temperature * advantage).clamp(max=largest)


def softmax_weights(advantage: Float[Tensor, "S B"], temperature: float) -> Float[Tensor, "S B"]:
    """exp(advantage/λ) over its mean in the minibatch: weights whose mean is 1.

    It is the softmax of the authors' code of AWAC, times B (Nair et al. 2020, arXiv 2006.09359).

    Args:
        advantage: of the actions taken.
        temperature: λ.
    """
    return torch.softmax(advantage / temperature, -1) * advantage.shape[-1]


def weighted_log_likelihood_loss(
    log_prob: Float[Tensor, "S B"], weights: Float[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """Negative log-likelihood of the actions taken, each with its weight."""
    return -(weights * log_prob).mean(-1)


def bootstrapped_target(
    reward: Float[Tensor, "S B"],
    discount: Float[Tensor, "S B"],
    next_value: Float[Tensor, "S B"],
) -> Float[Tensor, "S B"]:
    """r + discount·V(s').

    The discount is γⁿ·(1 - terminated): a time limit does not end the bootstrap, the task does.
    """
    return reward + discount * next_value


def weighted_mean(
    values: Float[Tensor, "S B"], weight: Float[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """The mean over what weighs 1; 0 where a seed has nothing of that kind.

    Args:
        values: finite ones; no gradient reaches those that weigh 0.
        weight: 0 or 1.
    """
    return torch.where(weight > 0, values, 0.0).sum(-1) / weight.sum(-1).clamp(min=1)


def normalised_advantages(
    advantage: Float[Tensor, "S B"], weight: Float[Tensor, "S B"]
) -> Float[Tensor, "S B"]:
    """Advantages less their mean, over their standard deviation, both of what weighs 1.

    The deviation is that of a sample, with n - 1, to which 1e-8 is added. Where a seed has fewer
    than two such steps, its advantages are left as they are; what weighs 0 becomes 0.
    """
    counted, count = weight > 0, weight.sum(-1, keepdim=True)
    mean = weighted_mean(advantage, weight).unsqueeze(-1)
    deviation = torch.where(counted, advantage - mean, 0.0)
    spread = (deviation.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    alone = torch.where(counted, advantage, 0.0)
    return torch.where(count > 1, deviation / (spread + 1e-8), alone)


def clipped_surrogate_loss(
    log_ratio: Float[Tensor, "S B"],
    advantage: Float[Tensor, "S B"],
    weight: Float[Tensor, "S B"],
    clip: float,
) -> Float[Tensor, " S"]:
    """Minus the clipped surrogate objective (Schulman et al. 2017, equation 7).

    Args:
        log_ratio: of the probability now to that under the policy that acted.
        advantage: of what was done.
        weight: 0 or 1.
        clip: ε, by how much the ratio may differ from 1 to any advantage.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -weighted_mean(torch.minimum(ratio * advantage, clipped * advantage), weight)


def squared_td_error(
    q: Float[Tensor, "S K B"], target: Float[Tensor, "S B"], reduction: str
) -> Float[Tensor, " S"]:
    """Squared error of K critics against one target: their ``sum`` or their ``mean``."""
    errors = (q - target.unsqueeze(1)).square().mean(-1)
    return errors.sum(-1) if reduction == "sum" else errors.mean(-1)


def soft_maximum(values: Float[Tensor, "*B n"], temperature: float) -> Float[Tensor, "*B"]:
    """τ·log Σ exp(v/τ) over the last axis (Kumar et al. 2020, arXiv 2006.04779, equation 4).

    With values of n samples less their log densities it estimates τ·log(n·∫ exp(v/τ)) for τ = 1:
    the number of samples is not divided by, as in the authors' code.
    """
    return temperature * torch.logsumexp(values / temperature, -1)


def huber_loss(
    prediction: Float[Tensor, "S B"], target: Float[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """Half the squared error up to 1, and the absolute error less a half beyond (Huber 1964)."""
    error = (prediction - target).abs()
    return torch.where(error < 1, 0.5 * error * error, error - 0.5).mean(-1)
