"""Observations, transitions and single steps, and how they are laid out.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, O observation size,
A action size.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

Observation = Tensor
"""Flat observations, float32 ``[S, E, O]`` or ``[S, B, O]``.

Dictionary observations are flattened at the environment, in the order of ``EnvSpec.layout``.
"""


@dataclass(frozen=True)
class TransitionLayout:
    """Where each field of a transition stands in a packed float32 row.

    Observation and action stand side by side, so that a critic reads both without a copy.
    """

    observation_size: int
    action_size: int

    @property
    def action(self) -> slice:
        return slice(self.observation_size, self.observation_size + self.action_size)

    @property
    def next_observation(self) -> slice:
        start = self.observation_size + self.action_size
        return slice(start, start + self.observation_size)

    @property
    def reward(self) -> int:
        return 2 * self.observation_size + self.action_size

    @property
    def terminated(self) -> int:
        return self.reward + 1

    @property
    def truncated(self) -> int:
        return self.reward + 2

    @property
    def by_guide(self) -> int:
        return self.reward + 3

    @property
    def stage(self) -> int:
        return self.reward + 4

    @property
    def width(self) -> int:
        return self.reward + 5


@dataclass(frozen=True)
class Batch:
    """A minibatch of transitions of every seed, packed: ``rows`` is float32 ``[S, B, width]``."""

    rows: Float[Tensor, "S B width"]
    layout: TransitionLayout

    @property
    def observations(self) -> Float[Tensor, "S B O"]:
        return self.rows[..., : self.layout.observation_size]

    @property
    def actions(self) -> Float[Tensor, "S B A"]:
        return self.rows[..., self.layout.action]

    @property
    def observations_actions(self) -> Float[Tensor, "S B OA"]:
        """Observation and action side by side: a view, no copy."""
        return self.rows[..., : self.layout.action.stop]

    @property
    def next_observations(self) -> Float[Tensor, "S B O"]:
        return self.rows[..., self.layout.next_observation]

    @property
    def rewards(self) -> Float[Tensor, "S B"]:
        return self.rows[..., self.layout.reward]

    @property
    def terminated(self) -> Float[Tensor, "S B"]:
        """1 where the task ended the episode: no value is bootstrapped from there."""
        return self.rows[..., self.layout.terminated]

    @property
    def truncated(self) -> Float[Tensor, "S B"]:
        """1 where a time limit cut the episode: its value is bootstrapped."""
        return self.rows[..., self.layout.truncated]

    @property
    def by_guide(self) -> Float[Tensor, "S B"]:
        """1 where the guide-policy acted."""
        return self.rows[..., self.layout.by_guide]

    @property
    def stage(self) -> Float[Tensor, "S B"]:
        """The curriculum stage, or -1 for offline data."""
        return self.rows[..., self.layout.stage]


@dataclass(frozen=True)
class TransitionData:
    """N transitions in a row, as a dataset holds them. ``timeouts`` marks an episode's end by time.

    ``next_observations`` are the true successors, also at an episode's end.
    """

    observations: Float[np.ndarray, "N O"]
    actions: Float[np.ndarray, "N A"]
    rewards: Float[np.ndarray, " N"]
    next_observations: Float[np.ndarray, "N O"]
    terminals: Bool[np.ndarray, " N"]
    timeouts: Bool[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.rewards)

    def take(self, indices: Int[np.ndarray, " M"]) -> "TransitionData":
        """The transitions at ``indices``, in that order."""
        return TransitionData(**{f.name: getattr(self, f.name)[indices] for f in fields(self)})


@dataclass(frozen=True)
class Moment:
    """One step of N environments, those of seed 0 first, as it was acted in.

    Args:
        observations: what the policies saw.
        actions: what was done, in [-1, 1].
        episodes: of each environment; unique within a seed.
        times: steps since each episode began.
        by_guide: where the guide acted.
        stages: of the curriculum; -1 without one.
        counts: False where an environment only keeps others company.
    """

    observations: Float[NDArray[np.float32], "N O"]
    actions: Float[NDArray[np.float32], "N A"]
    episodes: Int[NDArray[np.int64], " N"]
    times: Int[NDArray[np.int64], " N"]
    by_guide: Bool[NDArray[np.bool_], " N"]
    stages: Int[NDArray[np.int64], " N"]
    counts: Bool[NDArray[np.bool_], " N"]
