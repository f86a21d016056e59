"""Minibatches of transitions, transitions of a dataset, and single steps.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, O observation size,
A action size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from numpy.typing import NDArray
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
        side_by_side: vector and action in one tensor, where they stand so in memory.
        return_to_go: Σ γ^k r_k from here to the end of the episode, of the rewards that the learner
            learns from; -inf while the episode goes on, and where it was left without an end. None
            for learners that do not ask for it (see ``DataNeeds``).
        member: which of several guides acted, from 0; -1 where none of them did. None where the
            guide is one.
        next_guide: what the guide would do in ``next_observation``, 0 where ``terminated``. None
            where no rule of who acts has a target that goes by it.
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
    side_by_side: Float[Tensor, "S B OA"] | None = None
    return_to_go: Float[Tensor, "S B"] | None = None
    member: Float[Tensor, "S B"] | None = None
    next_guide: Shaped[Tensor, "S B *A"] | None = None

    def vector_action(self) -> Float[Tensor, "S B OA"]:
        """The vector of the observation and the action, which are real numbers, side by side."""
        if self.side_by_side is not None:
            return self.side_by_side
        return torch.cat([self.observation.vector, self.action], -1)

    def part(self, first: int, stride: int) -> "TransitionBatch":
        """Every ``stride``-th transition of each seed, from the one at ``first`` on."""

        def taken(value: Tensor) -> Tensor:
            return value[:, first::stride].contiguous()

        def seen(observation: Observation) -> Observation:
            images = {name: taken(image) for name, image in observation.images.items()}
            return Observation(taken(observation.vector), images)

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        parts: dict[str, Any] = {
            name: seen(value) if isinstance(value, Observation) else taken(value)
            for name, value in values.items()
            if value is not None
        }
        return TransitionBatch(**parts)


@dataclass(frozen=True)
class Frames:
    """The images of N transitions of a dataset, each stored once.

    Args:
        images: M of each name, uint8 ``[M, C, H, W]``.
        at: which of them each transition observed.
        after: which its true successor is.
    """

    images: Mapping[str, UInt8[np.ndarray, "M C H W"]]
    at: Int[np.ndarray, " N"]
    after: Int[np.ndarray, " N"]

    def take(self, indices: Int[np.ndarray, " n"]) -> "Frames":
        """Those of the transitions at ``indices``; the images themselves stay."""
        return Frames(self.images, self.at[indices], self.after[indices])


@dataclass(frozen=True)
class TransitionData:
    """N transitions in a row, as a dataset holds them.

    Args:
        observations: the vectors of what was seen.
        actions: in [-1, 1] ``[N, A]``, or choices from 0 to n - 1, int64 ``[N]``.
        rewards: as they were recorded.
        next_observations: the vectors of the true successors, also at an episode's end.
        terminals: where the task ended an episode.
        timeouts: where a time limit did.
        frames: the images, if there are any.
    """

    observations: Float[np.ndarray, "N O"]
    actions: Shaped[np.ndarray, "N *A"]
    rewards: Float[np.ndarray, " N"]
    next_observations: Float[np.ndarray, "N O"]
    terminals: Bool[np.ndarray, " N"]
    timeouts: Bool[np.ndarray, " N"]
    frames: Frames | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but the images, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "frames"}

    def take(self, indices: Int[np.ndarray, " M"]) -> "TransitionData":
        """The transitions at ``indices``, in that order."""
        arrays = {name: array[indices] for name, array in self.arrays().items()}
        frames = None if self.frames is None else self.frames.take(indices)
        return TransitionData(**arrays, frames=frames)

    def observed(self, indices: Int[np.ndarray, " M"] | slice) -> Observation:
        """What was seen in the transitions at ``indices``."""
        at = None if self.frames is None else self.frames.at[indices]
        return self._seen(self.observations[indices], at)

    def observed_after(self, indices: Int[np.ndarray, " M"] | slice) -> Observation:
        """What was seen in the true successors of the transitions at ``indices``."""
        at = None if self.frames is None else self.frames.after[indices]
        return self._seen(self.next_observations[indices], at)

    def _seen(
        self, vectors: Float[np.ndarray, "M O"], at: Int[np.ndarray, " M"] | None
    ) -> Observation:
        images = {}
        if self.frames is not None and at is not None:
            images = {n: torch.from_numpy(i[at]) for n, i in self.frames.images.items()}
        return Observation(torch.from_numpy(vectors), images)


@dataclass(slots=True)
class Moment:
    """One step of N environments, those of seed 0 first, as it was acted in.

    Args:
        observation: what the policies saw.
        actions: what was done: float32 ``[N, A]`` in [-1, 1], or int64 ``[N]``.
        episodes: of each environment; unique within a seed.
        times: steps since each episode began.
        by_guide: where the guide acted, and nobody else.
        stages: of the curriculum; -1 without one.
        counts: False where an environment only keeps others company.
        members: which of several guides acted, -1 where none did; None where the guide is one.
        share: of the explorer in what was done, from 0 to 1; None where everywhere either acted
            alone.
        next_guide: what the guide would do in what came of the step, 0 where that ended the task;
            None where nothing asks for it.
    """

    observation: Observation
    actions: Shaped[NDArray[Any], "N *A"]
    episodes: Int[NDArray[np.int64], " N"]
    times: Int[NDArray[np.int64], " N"]
    by_guide: Bool[NDArray[np.bool_], " N"]
    stages: Int[NDArray[np.int64], " N"]
    counts: Bool[NDArray[np.bool_], " N"]
    members: Int[NDArray[np.int64], " N"] | None = None
    share: Float[NDArray[np.float32], " N"] | None = None
    next_guide: Shaped[NDArray[Any], "N *A"] | None = None

    @property
    def guided(self) -> Bool[NDArray[np.bool_], " N"]:
        """Where the guide acted, or had a share in what was done."""
        return self.by_guide if self.share is None else self.share < 1
