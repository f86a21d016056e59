"""Whole rollouts with log-probabilities, for on-policy learners, and their advantages.

Shapes: T steps, S seeds, E environments of a seed, A action size, B = T * E samples of a seed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation


def generalised_advantages(
    rewards: Float[Tensor, "T *batch"],
    values: Float[Tensor, "T *batch"],
    next_values: Float[Tensor, "T *batch"],
    terminated: Bool[Tensor, "T *batch"],
    truncated: Bool[Tensor, "T *batch"],
    discount: float,
    trace: float,
) -> Float[Tensor, "T *batch"]:
    """Generalised advantage estimates, Schulman et al. 2016, arXiv 1506.02438, equation 16.

    Args:
        rewards: of each step.
        values: V of what was observed.
        next_values: V of the true successors; whatever it is after a termination counts as 0.
        terminated: where the task ended the episode.
        truncated: where a time limit cut it: the value of the successor counts, later steps do not.
        discount: γ.
        trace: λ.
    """
    bootstrap = torch.where(terminated, torch.zeros_like(next_values), next_values)
    deltas = rewards + discount * bootstrap - values
    goes_on = (~(terminated | truncated)).to(deltas.dtype)
    advantages = torch.zeros_like(deltas)
    after = torch.zeros_like(deltas[0])
    for step in reversed(range(len(deltas))):
        after = deltas[step] + discount * trace * goes_on[step] * after
        advantages[step] = after
    return advantages


@dataclass(frozen=True)
class RolloutBatch:
    """B steps of each of S seeds from one rollout.

    Args:
        observation: what was seen.
        action: what was done, float32 ``[S, B, A]`` or int64 ``[S, B]``.
        log_prob: of the action under the policy that acted.
        value: V of the observation at the time.
        advantage: as ``generalised_advantages`` has it.
        value_target: the advantage plus the value, which a critic learns.
    """

    observation: Observation
    action: Shaped[Tensor, "S B *A"]
    log_prob: Float[Tensor, "S B"]
    value: Float[Tensor, "S B"]
    advantage: Float[Tensor, "S B"]
    value_target: Float[Tensor, "S B"]


@dataclass(frozen=True)
class RolloutStep:
    """One step of every environment.

    Args:
        observation: what was seen.
        action: what was done.
        log_prob: of the action under the policy that acted.
        value: V of the observation.
        final_value: V of the true successor; asked for where a time limit cut an episode.
        reward: of the step.
        terminated: where the task ended the episode.
        truncated: where a time limit cut it.
    """

    observation: Observation
    action: Shaped[Tensor, "S E *A"]
    log_prob: Float[Tensor, "S E"]
    value: Float[Tensor, "S E"]
    final_value: Float[Tensor, "S E"]
    reward: Float[Tensor, "S E"]
    terminated: Bool[Tensor, "S E"]
    truncated: Bool[Tensor, "S E"]


class RolloutStore:
    """The steps of one rollout, from which minibatches are taken once it is whole.

    Args:
        length: T.
        discount: γ.
        trace: λ of the advantages.

    Raises:
        UserError: for values out of range.
    """

    def __init__(self, length: int, discount: float, trace: float) -> None:
        if length < 1:
            raise UserError(f"a rollout of {length} steps was asked for; give at least 1")
        for name, value in (("discount", discount), ("trace", trace)):
            if not 0 <= value <= 1:
                raise UserError(f"{name}={value} of a rollout must lie in [0, 1]")
        self.length = length
        self._discount = discount
        self._trace = trace
        self._steps: list[RolloutStep] = []
        self._whole: RolloutBatch | None = None

    def __len__(self) -> int:
        """Number of steps so far."""
        return len(self._steps)

    @property
    def is_full(self) -> bool:
        """Whether all T steps are there."""
        return len(self._steps) == self.length

    def add(self, step: RolloutStep) -> None:
        """One more step of every environment, whose tensors are kept as they are, not copied.

        Raises:
            ValueError: if the rollout is whole already.
        """
        if self.is_full:
            raise ValueError(f"a rollout has its {self.length} steps: finish and clear it first")
        self._steps.append(step)

    def finish(self, last_value: Float[Tensor, "S E"]) -> None:
        """Work out the advantages, with V of what was observed after the last step.

        Raises:
            ValueError: if the rollout is not whole.
        """
        if not self.is_full:
            raise ValueError(
                f"a rollout has {len(self)} of {self.length} steps: add the rest first"
            )
        values = self._stacked("value")
        terminated, truncated = self._stacked("terminated"), self._stacked("truncated")
        following = torch.cat([values[1:], last_value.unsqueeze(0)])
        advantages = generalised_advantages(
            self._stacked("reward"),
            values,
            torch.where(truncated, self._stacked("final_value"), following),
            terminated,
            truncated,
            self._discount,
            self._trace,
        )
        first = self._steps[0].observation
        images = {
            name: _by_seed(torch.stack([step.observation.images[name] for step in self._steps]))
            for name in first.images
        }
        vectors = torch.stack([step.observation.vector for step in self._steps])
        self._whole = RolloutBatch(
            observation=Observation(_by_seed(vectors), images),
            action=_by_seed(self._stacked("action")),
            log_prob=_by_seed(self._stacked("log_prob")),
            value=_by_seed(values),
            advantage=_by_seed(advantages),
            value_target=_by_seed(advantages + values),
        )

    def sample(self, indices: Int[Tensor, "S B"]) -> RolloutBatch:
        """The steps at ``indices`` from 0 to T * E - 1, those of the first step first.

        Raises:
            ValueError: before ``finish``.
        """
        whole = self._whole
        if whole is None:
            raise ValueError("a rollout gives minibatches once it is finished: call finish first")
        rows = torch.arange(len(indices), device=indices.device).unsqueeze(1)
        images = {name: image[rows, indices] for name, image in whole.observation.images.items()}
        return RolloutBatch(
            observation=Observation(whole.observation.vector[rows, indices], images),
            action=whole.action[rows, indices],
            log_prob=whole.log_prob[rows, indices],
            value=whole.value[rows, indices],
            advantage=whole.advantage[rows, indices],
            value_target=whole.value_target[rows, indices],
        )

    def clear(self) -> None:
        """Begin the next rollout."""
        self._steps = []
        self._whole = None

    def state_dict(self) -> dict[str, Any]:
        """The steps so far; advantages are worked out anew."""
        return {"steps": [_plain(step) for step in self._steps]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a rollout where ``state_dict`` was taken."""
        self.clear()
        for plain in state["steps"]:
            fields = {
                name: value for name, value in plain.items() if name not in ("vector", "images")
            }
            self.add(
                RolloutStep(observation=Observation(plain["vector"], plain["images"]), **fields)
            )

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([getattr(step, name) for step in self._steps])


def _by_seed(steps: Shaped[Tensor, "T S E *rest"]) -> Shaped[Tensor, "S B *rest"]:
    return steps.transpose(0, 1).flatten(1, 2)


def _plain(step: RolloutStep) -> dict[str, Any]:
    names = ("action", "log_prob", "value", "final_value", "reward", "terminated", "truncated")
    observation = step.observation
    return {
        "vector": observation.vector,
        "images": dict(observation.images),
        **{name: getattr(step, name) for name in names},
    }
