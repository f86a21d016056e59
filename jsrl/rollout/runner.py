"""What a run asks of whatever steps its environments and updates its learner."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.protocols import Curriculum, Guide, Metrics
from jsrl.rollout.collector import Collector, Episode


class Runner(Protocol):
    """One step of every environment at a time, with the updates that are due for it."""

    collector: Collector

    steps: int
    """Environment steps of each seed so far."""

    updates: int
    """Updates of each seed so far."""

    def step(
        self, guide: Guide | None, curricula: Sequence[Curriculum]
    ) -> tuple[Metrics | None, list[Episode], Float[NDArray[np.float32], " S"]]:
        """Step every environment, then update if that is due.

        Returns:
            The metrics of an update (None without one), the episodes that ended, and for each seed
            the share of its environments in which the guide acted.
        """
        ...

    def latest_actions(self, count: int) -> Float[NDArray[Any], "S N A"]:
        """The last ``count`` actions of each seed that are held, or fewer, the oldest first.

        A choice is one number.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, but the learner."""
        ...

    def load_state_dict(self, state: dict[str, Any], guide: Guide | None) -> list[int]:
        """Continue where ``state_dict`` was taken; the environments that did not replay."""
        ...
