"""What happens between two records of a run: episodes, the guide's share, throughput."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.collector import Episode


class Tracker:
    """Gathers what the next record will say of S seeds.

    Args:
        num_seeds: S.
    """

    def __init__(self, num_seeds: int) -> None:
        self._num_seeds = num_seeds
        self._episodes: list[list[list[float]]] = []
        self._guide_share: NDArray[np.float64] = np.zeros(num_seeds)
        self._steps = 0
        self._clear()

    def add(
        self, episodes: Sequence[Episode], guide_share: Float[NDArray[np.float32], " S"]
    ) -> None:
        """One step: the episodes that ended, and where the guide acted."""
        for episode in episodes:
            success = math.nan if episode.success is None else episode.success
            self._episodes[episode.seed_index].append(
                [episode.episode_return, success, float(episode.length)]
            )
        self._guide_share += guide_share
        self._steps += 1

    def take(self) -> dict[str, list[float]]:
        """Means since the last time, ``[S]`` each; NaN for a seed in which no episode ended."""
        values: dict[str, list[float]] = {}
        if self._steps:
            values["collect/guide_fraction"] = (self._guide_share / self._steps).tolist()
        if any(self._episodes):
            means = [
                np.mean(rows, 0).tolist() if rows else [math.nan] * 3 for rows in self._episodes
            ]
            for column, name in enumerate(("return", "success", "length")):
                values[f"collect/{name}"] = [row[column] for row in means]
        self._clear()
        return values

    def state_dict(self) -> dict[str, Any]:
        return {
            "episodes": self._episodes,
            "guide_share": self._guide_share.tolist(),
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._episodes = [list(rows) for rows in state["episodes"]]
        self._guide_share = np.array(state["guide_share"], np.float64)
        self._steps = state["steps"]

    def _clear(self) -> None:
        self._episodes = [[] for _ in range(self._num_seeds)]
        self._guide_share = np.zeros(self._num_seeds)
        self._steps = 0


class Stopwatch:
    """Wall time of a run over all its starts, and rates since the last time it was asked."""

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._before = seconds_before
        self._started = self._asked = time.perf_counter()
        self._counts: dict[str, int] = {}

    def total(self) -> float:
        """Seconds, those of earlier starts included."""
        return self._before + time.perf_counter() - self._started

    def rates(self, **counts: int) -> dict[str, float]:
        """How much each count grew a second since the last call; nothing at the first one."""
        now = time.perf_counter()
        elapsed = max(now - self._asked, 1e-9)
        rates = {
            f"throughput/{name}_per_second": (count - self._counts[name]) / elapsed
            for name, count in counts.items()
            if name in self._counts
        }
        self._asked, self._counts = now, counts
        return rates
