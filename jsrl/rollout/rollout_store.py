"""Whole rollouts with log-probabilities, for on-policy learners, and their advantages.

Shapes: T steps, S seeds, E environments of a seed, A action size, B = T * E samples of a seed.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.rollouts import RolloutBatch


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
class RolloutStep:
    """One step of every environment.

    Args:
        observation: what was seen.
        action: what the exploration-policy drew, also where the guide acted.
        log_prob: of that under the exploration-policy.
        value: V of the observation.
        final_value: V of the true successor; asked for where a time limit cut an episode.
        reward: of the step.
        terminated: where the task ended the episode.
        truncated: where a time limit cut it.
        by_guide: where the guide acted: these steps weigh nothing.
    """

    observation: Observation
    action: Shaped[Tensor, "S E *A"]
    log_prob: Float[Tensor, "S E"]
    value: Float[Tensor, "S E"]
    final_value: Float[Tensor, "S E"]
    reward: Float[Tensor, "S E"]
    terminated: Bool[Tensor, "S E"]
    truncated: Bool[Tensor, "S E"]
    by_guide: Bool[Tensor, "S E"]


CPU = torch.device("cpu")

FIELDS = tuple(field.name for field in fields(RolloutStep) if field.name != "observation")
"""Those that are one tensor each."""


class RolloutStore:
    """The steps of one rollout, from which minibatches are taken once it is whole.

    Args:
        length: T.
        discount: γ.
        trace: λ of the advantages.
        device: where the steps are.

    Raises:
        UserError: for values out of range.
    """

    def __init__(
        self,
        length: int,
        discount: float,
        trace: float,
        device: torch.device = CPU,
    ) -> None:
        if length < 1:
            raise UserError(f"a rollout of {length} steps was asked for; give at least 1")
        for name, value in (("discount", discount), ("trace", trace)):
            if not 0 <= value <= 1:
                raise UserError(f"{name}={value} of a rollout must lie in [0, 1]")
        self.length = length
        self._discount = discount
        self._trace = trace
        self._device = device
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
        self._whole = RolloutBatch(
            observation=self._observations().for_each(_by_seed),
            action=_by_seed(self._stacked("action")),
            log_prob=_by_seed(self._stacked("log_prob")),
            value=_by_seed(values),
            advantage=_by_seed(advantages),
            value_target=_by_seed(advantages + values),
            weight=_by_seed((~self._stacked("by_guide")).to(values.dtype)),
        )

    @property
    def observations(self) -> Observation:
        """What was seen in all steps, ``[S, T * E]``.

        Raises:
            ValueError: before ``finish``.
        """
        return self._finished().observation

    def sample(self, indices: Int[Tensor, "S B"]) -> RolloutBatch:
        """The steps at ``indices`` from 0 to T * E - 1, those of the first step first.

        Raises:
            ValueError: before ``finish``.
        """
        whole = self._finished()
        rows = torch.arange(len(indices), device=indices.device).unsqueeze(1)
        return RolloutBatch(
            observation=whole.observation[rows, indices],
            action=whole.action[rows, indices],
            log_prob=whole.log_prob[rows, indices],
            value=whole.value[rows, indices],
            advantage=whole.advantage[rows, indices],
            value_target=whole.value_target[rows, indices],
            weight=whole.weight[rows, indices],
        )

    def clear(self) -> None:
        """Begin the next rollout."""
        self._steps = []
        self._whole = None

    def state_dict(self) -> dict[str, Any]:
        """The steps so far; advantages are worked out anew.

        Each field is one tensor, since a file of thousands of small ones takes seconds to write.
        """
        if not self._steps:
            return {}
        observations = self._observations()
        return {
            "vector": observations.vector.cpu(),
            "images": {name: image.cpu() for name, image in observations.images.items()},
            **{name: self._stacked(name).cpu() for name in FIELDS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a rollout where ``state_dict`` was taken."""
        self.clear()
        if not state:
            return
        observations = Observation(state["vector"], state["images"]).to(self._device)
        fields_of_all = {name: state[name].to(self._device) for name in FIELDS}
        for number in range(len(state["vector"])):
            one = {name: values[number] for name, values in fields_of_all.items()}
            self.add(RolloutStep(observation=observations[number], **one))

    def _finished(self) -> RolloutBatch:
        if self._whole is None:
            raise ValueError("a rollout gives minibatches once it is finished: call finish first")
        return self._whole

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([getattr(step, name) for step in self._steps])

    def _observations(self) -> Observation:
        """What was seen in all steps, ``[T, S, E]``."""
        seen = [step.observation for step in self._steps]
        images = {
            name: torch.stack([each.images[name] for each in seen]) for name in seen[0].images
        }
        return Observation(torch.stack([each.vector for each in seen]), images)


def _by_seed(steps: Shaped[Tensor, "T S E *rest"]) -> Shaped[Tensor, "S B *rest"]:
    return steps.transpose(0, 1).flatten(1, 2)
