"""What a guide has to offer, and abilities that only some have.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, O observation size,
A action size.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from jsrl.core.arbitration import Signals
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams


class Guide(Protocol):
    """A frozen policy that acts for the first steps of an episode."""

    fingerprint: str
    """A hash of what the guide is, stored in every checkpoint."""

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Shaped[Tensor, "S E *A"]:
        """Actions as a policy gives them; only rows in ``mask`` are looked at, the others are 0.

        Raises:
            UserError: if the guide returns NaN, a wrong shape, or an action outside the space.
        """
        ...

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin in the rows of ``mask``."""
        ...


@runtime_checkable
class HoldsMembers(Protocol):
    """Options of a guide that is made of several, each with settings of its own."""

    members: list[Any]


@runtime_checkable
class BeginsEpisodes(Protocol):
    """A guide that goes by which episode it is, such as one that chooses anew for each."""

    def begin(
        self,
        mask: Bool[Tensor, "S E"],
        episodes: Int[np.ndarray, "S E"],
        seeds: Int[np.ndarray, "S E"],
    ) -> None:
        """Called in place of ``Guide.reset``, also for episodes that are replayed on resuming.

        Args:
            mask: where episodes begin.
            episodes: their numbers, unique within a seed.
            seeds: of the environments' resets. They follow from seed, environment and episode
                alone: what is drawn once an episode is drawn under this key.
        """
        ...


@runtime_checkable
class HearsOfEnds(Protocol):
    """A guide that is told how the training episodes that it began have ended."""

    def ended(
        self,
        mask: Bool[Tensor, "S E"],
        returns: Float[np.ndarray, "S E"],
        successes: Float[np.ndarray, "S E"],
    ) -> None:
        """Episodes in which the guide acted ended where ``mask``; NaN is no known success."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it has heard, and what it has drawn for the episodes under way."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, before the episodes under way are replayed."""
        ...


@runtime_checkable
class HasMembers(Protocol):
    """A guide that is several, one of which acts in each episode."""

    def acting(self) -> Int[np.ndarray, "S E"]:
        """The index of the one that is in charge of each episode under way."""
        ...


@runtime_checkable
class SeesAgain(Protocol):
    """A guide with memory that need not act in order to be reminded, since a part of it has one."""

    def see_again(self, obs: Observation, mask: Bool[Tensor, "S E"]) -> None:
        """Called in place of ``act`` in episodes that are replayed on resuming."""
        ...


@runtime_checkable
class WatchesFrames(Protocol):
    """A guide that may have to see pictures of the environments, such as a person."""

    needs_frames: bool

    def show(self, frames: Sequence[Any]) -> None:
        """What ``render`` gives of each environment now; called before ``act``."""
        ...


@runtime_checkable
class TakesOver(Protocol):
    """A guide that asks to act and gives back by itself, such as a person."""

    def listen(self, signals: Signals) -> None:
        """By what it asks from now on. Called once, before the first step.

        Raises:
            UserError: if it cannot ask by that.
        """
        ...

    def takeover(self, acting: Bool[Tensor, "S E"]) -> Int[Tensor, "S E"]:
        """1 where it asks to act from now on, -1 where the explorer is to act again, else 0.

        Args:
            acting: where it took part in the step before, of the same episode.
        """
        ...
