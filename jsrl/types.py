"""The words that the parts of the package speak to each other in.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, O observation size,
A action size.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.seeding import Streams

Observation = Tensor
"""Flat observations, float32 ``[S, E, O]`` or ``[S, B, O]``.

Dictionary observations are flattened at the environment, in the order of ``EnvSpec.layout``.
"""

Metrics = dict[str, Tensor]
"""Named values of one update, each ``[S]``, on the learner's device."""

Draws = dict[str, Tensor]
"""The random tensors that one update needs, drawn outside of it, each with a leading axis S."""

PlainValue = None | bool | int | float | str | Sequence["PlainValue"] | Mapping[str, "PlainValue"]
"""What a checkpoint may hold beside tensors."""


@dataclass(frozen=True)
class EnvSpec:
    """What the rest of the package needs to know of an environment.

    Args:
        id: the environment's name.
        observation_size: O, after flattening.
        action_size: A.
        layout: for each part of a dictionary observation its name and its [start, stop) columns
            in the flat one; a plain observation is one part called ``observation``.
        action_low: the environment's own lower action bounds ``[A]``; the package acts in [-1, 1].
        action_high: the upper ones.
        max_episode_steps: the time limit H.
    """

    id: str
    observation_size: int
    action_size: int
    layout: tuple[tuple[str, int, int], ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    max_episode_steps: int


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


class Phase(Enum):
    """What a learner is doing: schedules and the parts that are trained follow from it."""

    OFFLINE = "offline"
    CRITIC_WARMUP = "critic_warmup"
    ONLINE = "online"


class Consumes(Enum):
    """What a learner's update takes. The package's runner feeds single transitions so far."""

    TRANSITIONS = "single transitions"
    N_STEP = "n-step transitions"
    ROLLOUTS = "whole rollouts with log-probabilities"


@runtime_checkable
class Policy(Protocol):
    """Anything that acts for S seeds."""

    def act(self, obs: Observation, streams: Streams | None) -> Float[Tensor, "S E A"]:
        """Actions in [-1, 1] for observations ``[S, E, O]``; without ``streams``, the mode."""
        ...


class Guide(Protocol):
    """A frozen policy that acts for the first steps of an episode."""

    fingerprint: str
    """A hash of what the guide is, stored in every checkpoint."""

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Float[Tensor, "S E A"]:
        """Actions in [-1, 1]. Only rows in ``mask`` are looked at; the others come back as 0.

        Raises:
            UserError: if the guide returns NaN, a wrong shape, or an action outside the space.
        """
        ...

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin in the rows of ``mask``."""
        ...


class Learner(Protocol):
    """A learning algorithm for S seeds at once."""

    consumes: Consumes

    def draws(self, streams: Streams) -> Draws:
        """Draw the random tensors that the next update needs."""
        ...

    def update(self, batch: Batch, draws: Draws) -> Metrics:
        """One gradient step for all seeds; the metrics stay on the device."""
        ...

    def start_phase(self, phase: Phase, updates: int) -> None:
        """Begin a phase of ``updates`` updates: schedules restart, none runs on from before."""
        ...

    def policy(self) -> Policy:
        """The policy being learnt; it follows later updates."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, optimisers, schedules and clocks: tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Curriculum(Protocol):
    """How long the guide acts. A pure value of one seed: same inputs, same steps."""

    @property
    def stage(self) -> int: ...

    def guide_steps(self, streams: Streams) -> int:
        """The number h of guide steps of one episode, drawn at its start and kept to its end."""
        ...

    def advance(self, evaluation: float, step: int) -> Self:
        """The curriculum after an evaluation at environment step ``step``."""
        ...


class Buffer(Protocol):
    """Storage of transitions, read only through ``sample``, so that it may be memory-mapped."""

    def add(self, rows: Float[np.ndarray, "S E width"]) -> None:
        """Store one transition of every environment."""
        ...

    def sample(self, indices: Int[Tensor, "S B"]) -> Float[Tensor, "S B width"]:
        """The transitions at ``indices``."""
        ...


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


class StepObserver(Protocol):
    """Looks on while policies act, and changes nothing."""

    def look(self) -> AbstractContextManager[Any] | None:
        """Asked before every step: what to act in, or None to be left alone in this one."""
        ...

    def acted(self, moment: Moment) -> None:
        """What was done in the step that was looked at."""
        ...

    def restart(self) -> None:
        """From here on episodes are numbered from 0 again."""
        ...


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where present, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
