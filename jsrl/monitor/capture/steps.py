"""The steps that a monitor watches: what was seen and done, when, and by whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from jsrl.core.observations import Observation
from jsrl.core.transitions import TransitionData

PHASES = ("offline", "guide", "exploration", "evaluation", "deployed")
"""Steps of ``offline`` come from a dataset. Those of ``guide`` and ``exploration`` come from online
learning and are told apart by who acted."""

EXPLORATION = PHASES.index("exploration")

ACTORS = ("guide", "exploration", "data")
"""Who acted; whoever made a dataset is called ``data``."""


@dataclass(frozen=True)
class WatchedSteps:
    """N steps of one seed's policy, in the order in which they were taken.

    Args:
        observations: the observations as the environment gave them.
        actions: the actions in [-1, 1], as the environment took them.
        step: the environment steps of the seed so far; in a dataset, the place of the transition.
        episode: the number of the episode, which is unique within seed and phase.
        time: the steps since the episode began.
        phase: an index into ``PHASES``.
        stage: the stage of the curriculum, or -1 where there is no curriculum.
        actor: an index into ``ACTORS``.
        seed: the seed of the policy.
        images: of the observations by name, which recordings do not keep.
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
    images: Mapping[str, UInt8[NDArray[np.uint8], "N C H W"]] = field(default_factory=dict)

    @property
    def observed(self) -> Observation:
        """What was seen."""
        images = {name: torch.from_numpy(image) for name, image in self.images.items()}
        return Observation(torch.from_numpy(self.observations), images)

    @classmethod
    def concatenate(cls, parts: Sequence["WatchedSteps"]) -> Self:
        """The steps of all parts, one part after the other; there must be at least one part."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}
        names = parts[0].images
        images = {name: np.concatenate([part.images[name] for part in parts]) for name in names}
        return cls(**arrays, images=images)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Steps that were stored in a checkpoint by ``state_dict``."""
        images = {name: image.numpy() for name, image in state.get("images", {}).items()}
        return cls(**{name: state[name].numpy() for name in FIELDS}, images=images)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the steps as tensors, for a checkpoint."""
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in FIELDS}
        if not self.images:
            return arrays
        images = {name: torch.from_numpy(image.copy()) for name, image in self.images.items()}
        return {**arrays, "images": images}

    def __len__(self) -> int:
        return len(self.step)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "WatchedSteps":
        """The steps at these places, or those where a mask is true; a slice gives a view."""
        arrays = {name: getattr(self, name)[which] for name in FIELDS}
        images = {name: image[which] for name, image in self.images.items()}
        return WatchedSteps(**arrays, images=images)

    def where(
        self, phase: str | None = None, stage: int | None = None, seed: int | None = None
    ) -> NDArray[np.bool_]:
        """A mask of the steps of a phase, a stage and a seed, each of which may be None for all.

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

    def episodes(self) -> list["WatchedSteps"]:
        """The steps of each episode, in the order of the episodes' numbers within seed and phase.

        An episode gets its number when it begins. In the order in which they end, the last of
        several episodes at a time would be the long ones, which differ from the others. An episode
        that the guide begins and the exploration-policy ends is a single one.
        """
        return [self.take(places) for places in self.places_of_episodes()]

    def places_of_episodes(self) -> list[Int[NDArray[np.int64], " K"]]:
        """The places of each episode's steps, for the episodes in the order of ``episodes``."""
        keys = np.stack([self.seed, phase_of_episode(self.phase), self.episode], 1)
        names, which = np.unique(keys, axis=0, return_inverse=True)
        return [np.flatnonzero(which.reshape(-1) == i) for i in range(len(names))]


FIELDS = tuple(f.name for f in fields(WatchedSteps) if f.name != "images")
"""What is known of each step; these names also stand in recordings and checkpoints."""


def phase_of_episode(phase: Int[NDArray[np.int64], " N"]) -> Int[NDArray[np.int64], " N"]:
    """The phase that a whole episode counts as: if the guide begins it, it is ``exploration``."""
    return np.where(phase == PHASES.index("guide"), EXPLORATION, phase)


def steps_of_dataset(
    data: TransitionData,
    first_places: Int[NDArray[np.int64], " N"],
    numbers: Int[NDArray[np.int64], " N"],
    seed: int,
) -> WatchedSteps:
    """The transitions of a dataset, as if the policy of a seed had seen them.

    Args:
        data: N transitions, episode after episode.
        first_places: for each transition, the place at which its episode begins.
        numbers: for each transition, the number of its episode.
        seed: the seed of the policy.
    """
    count = len(data)
    places = np.arange(count)
    return WatchedSteps(
        observations=data.observations,
        actions=data.actions.reshape(count, -1).astype(np.float32, copy=False),
        images={name: image.numpy() for name, image in data.observed(places).images.items()},
        step=places,
        episode=numbers,
        time=places - first_places,
        phase=np.full(count, PHASES.index("offline")),
        stage=np.full(count, -1),
        actor=np.full(count, ACTORS.index("data")),
        seed=np.full(count, seed),
    )
