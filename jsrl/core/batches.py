"""A minibatch of transitions as named tensors."""

from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.observations import Observation


@dataclass(frozen=True)
class TransitionBatch:
    """B transitions of each of S seeds.

    A transition may span n steps: then ``reward`` is the discounted sum of their rewards, and
    ``next_observation``, ``terminated`` and ``truncated`` are those of the last of them.

    Args:
        observation: what was seen.
        action: what was done, float32 ``[S, B, A]`` in [-1, 1], or int64 ``[S, B]``.
        reward: Σ γ^k r_k over the n steps.
        discount: γ^n (1 - terminated), by which the value of ``next_observation`` counts.
        next_observation: the true successor, also where an episode ended.
        terminated: 1 where the task ended the episode.
        truncated: 1 where a time limit cut the episode; its value is bootstrapped.
        by_guide: 1 where the guide-policy acted.
        share: of the exploration-policy in the action, from 0 to 1.
        stage: of the curriculum; -1 for offline data.
    """

    observation: Observation
    action: Shaped[Tensor, "S B *A"]
    reward: Float[Tensor, "S B"]
    discount: Float[Tensor, "S B"]
    next_observation: Observation
    terminated: Float[Tensor, "S B"]
    truncated: Float[Tensor, "S B"]
    by_guide: Float[Tensor, "S B"]
    share: Float[Tensor, "S B"]
    stage: Float[Tensor, "S B"]
