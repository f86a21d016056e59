"""Steps that a monitor looks at: what was seen and done, when, and by whom."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from jsrl.types import TransitionData

PHASES = ("offline", "guide", "exploration", "evaluation", "deployed")
"""``guide`` and ``exploration`` are online learning, by who acted; ``offline`` are the data."""

EXPLORATION = PHASES.index("exploration")

ACTORS = ("guide", "exploration", "data")
"""Who acted; whoever made a dataset is ``data``."""


@dataclass(frozen=True)
class Rows:
    """N steps of one seed's policy, in the order in which they were taken.

    Args:
        observations: as the environment gave them.
        actions: in [-1, 1], as the environment took them.
        step: environment steps of the seed so far (offline: the place in the data).
        episode: its number, unique within seed and phase.
        time: steps since the episode began.
        phase: index into ``PHASES``.
        stage: the curriculum's; -1 without one.
        actor: index into ``ACTORS``.
        seed: the seed.
    """

    observations: Float[NDArray[np.float32], "N O"]
    actions: Float[NDArray[np.float32], "N A"]
    step: Int[NDArray[np.int64], " N"]
    episode: Int[NDArray[np.int64], " N"]
    time: Int[NDArray[np.int64], " N"]
    phase: Int[NDArray[np.int64], " N"]
    stage: Int[NDArray[np.int64], " N"]
    actor: Int[NDArray[np.int64], " N"]
    seed: Int[NDArray[np.int64], " N"]

    def __len__(self) -> int:
        return len(self.step)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> "Rows":
        """The rows at these places, or where a mask is true."""
        return Rows(**{f.name: getattr(self, f.name)[which] for f in fields(self)})

    def where(
        self, phase: str | None = None, stage: int | None = None, seed: int | None = None
    ) -> NDArray[np.bool_]:
        """Mask of the rows of a phase, a stage and a seed; None takes all.

        Raises:
            ValueError: if there is no such phase.
        """
        mask = np.ones(len(self), bool)
        if phase is not None:
            mask &= self.phase == PHASES.index(phase)
        if stage is not None:
            mask &= self.stage == stage
        if seed is not None:
            mask &= self.seed == seed
        return mask

    def episodes(self) -> list["Rows"]:
        """The rows of each episode, in the order of their numbers within seed and phase.

        Numbers are given when episodes begin. In the order of their ends, those that end last of
        several at a time would be the long ones, and no like of the others. An episode that the
        guide begins and the exploration-policy ends is one.
        """
        keys = np.stack([self.seed, phase_of_episode(self.phase), self.episode], 1)
        names, which = np.unique(keys, axis=0, return_inverse=True)
        return [self.take(which.reshape(-1) == i) for i in range(len(names))]


def phase_of_episode(phase: Int[NDArray[np.int64], " N"]) -> Int[NDArray[np.int64], " N"]:
    """That of the whole episode: one that the guide begins is the exploration-policy's."""
    return np.where(phase == PHASES.index("guide"), EXPLORATION, phase)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Rows after each other; at least one part."""
    return Rows(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rows)}
    )


def rows_of_data(
    data: TransitionData,
    step: Int[NDArray[np.int64], " N"],
    episode: Int[NDArray[np.int64], " N"],
    time: Int[NDArray[np.int64], " N"],
    seed: int,
) -> Rows:
    """Offline transitions, as if the seed's policy had seen them."""
    count = len(data)
    return Rows(
        observations=data.observations,
        actions=data.actions,
        step=step,
        episode=episode,
        time=time,
        phase=np.full(count, PHASES.index("offline")),
        stage=np.full(count, -1),
        actor=np.full(count, ACTORS.index("data")),
        seed=np.full(count, seed),
    )
