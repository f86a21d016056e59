"""What on-policy learners and whoever feeds them pass to each other: needs, steps, minibatches.

Shapes: S seeds, E environments of a seed, B steps of a minibatch, A action size.
"""

from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation


@dataclass(frozen=True)
class RolloutNeeds:
    """How rollouts are taken and used: each is collected whole, learnt from, and thrown away.

    Args:
        length: T, the steps of every environment in a rollout.
        epochs: how often an update goes through all T * E steps of a seed.
        batch_size: B, of a minibatch; it divides T * E.
        trace: λ of generalised advantages, in [0, 1].
        reward_scale: advantages are those of reward_scale·reward + reward_shift.
        reward_shift: see ``reward_scale``.

    Raises:
        UserError: for values out of range.
    """

    length: int
    epochs: int
    batch_size: int
    trace: float
    reward_scale: float = 1.0
    reward_shift: float = 0.0

    def __post_init__(self) -> None:
        for name in ("length", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} of rollouts must be at least 1")
        if not 0 <= self.trace <= 1:
            raise UserError(f"trace={self.trace} of rollouts must lie in [0, 1]")


@dataclass(frozen=True)
class ExploringStep:
    """What an on-policy learner does in one step, and what its update wants to know of it later.

    Args:
        action: for the environment, float32 ``[S, E, A]`` in [-1, 1] or int64 ``[S, E]``.
        sample: what was drawn; of real actions, before they were clipped.
        log_prob: of the sample.
        value: V of the observation.
    """

    action: Shaped[Tensor, "S E *A"]
    sample: Shaped[Tensor, "S E *A"]
    log_prob: Float[Tensor, "S E"]
    value: Float[Tensor, "S E"]


@dataclass(frozen=True)
class RolloutBatch:
    """B steps of each of S seeds from one rollout.

    Args:
        observation: what was seen.
        action: what the exploration-policy drew, float32 ``[S, B, A]`` or int64 ``[S, B]``.
        log_prob: of that under the policy that drew it.
        value: V of the observation at the time.
        advantage: as ``generalised_advantages`` has it.
        value_target: the advantage plus the value, which a critic learns.
        weight: 1 where the exploration-policy acted, and 0 where the guide did instead: nothing is
            learnt from those steps, whatever stands in their other fields.
    """

    observation: Observation
    action: Shaped[Tensor, "S B *A"]
    log_prob: Float[Tensor, "S B"]
    value: Float[Tensor, "S B"]
    advantage: Float[Tensor, "S B"]
    value_target: Float[Tensor, "S B"]
    weight: Float[Tensor, "S B"]
