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


def squared_td_error(
    q: Float[Tensor, "S K B"], target: Float[Tensor, "S B"], reduction: str
) -> Float[Tensor, " S"]:
    """Squared error of K critics against one target: their ``sum`` or their ``mean``."""
    errors = (q - target.unsqueeze(1)).square().mean(-1)
    return errors.sum(-1) if reduction == "sum" else errors.mean(-1)


def huber_loss(
    prediction: Float[Tensor, "S B"], target: Float[Tensor, "S B"]
) -> Float[Tensor, " S"]:
    """Half the squared error up to 1, and the absolute error less a half beyond (Huber 1964)."""
    error = (prediction - target).abs()
    return torch.where(error < 1, 0.5 * error * error, error - 0.5).mean(-1)
