"""The explorer's share over the time in an episode, in tenths of the time limit.

A step counts for the tenth in which it lies: step t of at most H for tenth ``10·t // H``, from 0.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from numpy.typing import NDArray

TENTHS = 10
NAMES = tuple(f"explorer_share/tenth_{tenth + 1}" for tenth in range(TENTHS))
"""What the means are called in records, the first tenth first."""

MOST_KEPT = 1_000
"""Steps of all environments that are kept as they are before they are added up."""


class EpisodeShares:
    """Adds up the explorer's share in the tenths of the episodes of S seeds.

    Steps are put aside as they are and added up together, now and then, so that a step of the
    environments costs next to nothing here.

    Args:
        num_seeds: S.
        time_limit: H, the longest that an episode can be, in steps.
    """

    def __init__(self, num_seeds: int, time_limit: int) -> None:
        self._num_seeds = num_seeds
        self._time_limit = time_limit
        self._kept: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
        self._sums = np.zeros((num_seeds, TENTHS))
        self._counts = np.zeros((num_seeds, TENTHS))

    def add(self, times: Int[NDArray[np.int64], " N"], share: Shaped[NDArray[Any], " N"]) -> None:
        """One step of N = S·E environments, those of the first seed first.

        Args:
            times: steps since each episode began; the array must not be changed afterwards.
            share: of the explorer in what was done, from 0 to 1; also this is kept as it is.
        """
        self._kept.append((times, share))
        if len(self._kept) >= MOST_KEPT:
            self._add_up()

    def take(self) -> dict[str, list[float]]:
        """The mean share in each tenth since the last time, ``[S]``; NaN without a step in it."""
        self._add_up()
        with np.errstate(invalid="ignore"):
            means = self._sums / self._counts
        self._clear()
        return {name: means[:, tenth].tolist() for tenth, name in enumerate(NAMES)}

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        self._add_up()
        return {"sums": self._sums.tolist(), "counts": self._counts.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self._clear()
        self._sums = np.array(state["sums"], np.float64)
        self._counts = np.array(state["counts"], np.float64)

    def _clear(self) -> None:
        self._kept.clear()
        self._sums = np.zeros((self._num_seeds, TENTHS))
        self._counts = np.zeros((self._num_seeds, TENTHS))

    def _add_up(self) -> None:
        if not self._kept:
            return
        times, shares = (np.stack(column) for column in zip(*self._kept, strict=True))
        tenths = np.minimum(TENTHS * times // self._time_limit, TENTHS - 1)
        seeds = np.arange(times.shape[1]) * self._num_seeds // times.shape[1]
        places = (TENTHS * seeds + tenths).reshape(-1)
        # One after another, so that it changes nothing when they are added up, for a checkpoint.
        np.add.at(self._sums.reshape(-1), places, shares.reshape(-1).astype(np.float64))
        np.add.at(self._counts.reshape(-1), places, 1.0)
        self._kept.clear()
