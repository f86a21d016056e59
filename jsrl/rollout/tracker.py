"""What happens between two records of a run: episodes, the guide's share, throughput.

``collect/guide_fraction`` is the share of steps in which the guide acted alone, and
``collect/explorer_share`` the explorer's mean share in what was done, mixed actions included.
``explorer_share/tenth_1`` to ``tenth_10`` are that share in the first to the last tenth of the
episodes' time limit, in runs with a guide.
Of the training episodes that ended, ``collect/return``, ``collect/success`` and ``collect/length``
are means over all. They are also told apart by who acted: ``collect/combined_*`` are means over
the episodes in which the guide took part in one step or more, and ``collect/exploration_*`` over
those in which the explorer acted alone, from the first step to the last.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.rollout.collector import Episode
from jsrl.rollout.episode_shares import EpisodeShares

COLUMNS = 3
UNKNOWN = -1.0


class Tracker:
    """Gathers what the next record will say of S seeds.

    Args:
        num_seeds: S.
        time_limit: H of the episodes, in steps, over which the explorer's share is followed; None
            where it is not.
    """

    def __init__(self, num_seeds: int, time_limit: int | None = None) -> None:
        self._num_seeds = num_seeds
        self._in_episodes = None if time_limit is None else EpisodeShares(num_seeds, time_limit)
        self._episodes: list[list[list[float]]] = []
        self._guide_share: NDArray[np.float64] = np.zeros(num_seeds)
        self._explorer_share: NDArray[np.float64] = np.zeros(num_seeds)
        self._steps = 0
        self._clear()

    def add(
        self,
        episodes: Sequence[Episode],
        guide_share: Float[NDArray[np.float32], " S"],
        explorer_share: Float[NDArray[np.float64], " S"] | None = None,
        of_environments: tuple[NDArray[np.int64], NDArray[Any]] | None = None,
    ) -> None:
        """One step of the environments.

        Args:
            episodes: those that ended.
            guide_share: in how many of a seed's environments the guide acted.
            explorer_share: the explorer's, in what was done.
            of_environments: ``Collector.shares_of_last_step``.
        """
        for episode in episodes:
            success = math.nan if episode.success is None else episode.success
            self._episodes[episode.seed_index].append(
                [
                    *(episode.episode_return, success, float(episode.length)),
                    float(episode.guide_steps > 0),
                ]
            )
        self._guide_share += guide_share
        if explorer_share is not None:
            self._explorer_share += explorer_share
            self._steps_with_share += 1
        if self._in_episodes is not None and of_environments is not None:
            self._in_episodes.add(*of_environments)
        self._steps += 1

    def take(self) -> dict[str, list[float]]:
        """Means since the last time, ``[S]`` each; NaN for a seed in which no episode ended."""
        values: dict[str, list[float]] = {}
        if self._steps:
            values["collect/guide_fraction"] = (self._guide_share / self._steps).tolist()
        if self._steps_with_share:
            mean = self._explorer_share / self._steps_with_share
            values["collect/explorer_share"] = mean.tolist()
        if self._steps and self._in_episodes is not None:
            values |= self._in_episodes.take()
        values |= self._means("collect/", (0.0, 1.0, UNKNOWN))
        values |= self._means("collect/combined_", (1.0,))
        values |= self._means("collect/exploration_", (0.0,))
        self._clear()
        return values

    def _means(self, prefix: str, guided: Sequence[float]) -> dict[str, list[float]]:
        """Means of the episodes that the guide began, or did not; nothing if there are none."""
        rows = [[row[:COLUMNS] for row in own if row[COLUMNS] in guided] for own in self._episodes]
        if not any(rows):
            return {}
        means = [np.mean(own, 0).tolist() if own else [math.nan] * COLUMNS for own in rows]
        names = ("return", "success", "length")
        return {f"{prefix}{name}": [m[i] for m in means] for i, name in enumerate(names)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "episodes": self._episodes,
            "guide_share": self._guide_share.tolist(),
            "steps": self._steps,
            "explorer_share": self._explorer_share.tolist(),
            "steps_with_share": self._steps_with_share,
            "in_episodes": None if self._in_episodes is None else self._in_episodes.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Checkpoints of earlier versions do not say whether the guide acted.
        self._episodes = [
            [[*row, UNKNOWN][: COLUMNS + 1] for row in rows] for rows in state["episodes"]
        ]
        self._guide_share = np.array(state["guide_share"], np.float64)
        self._steps = state["steps"]
        # Checkpoints of earlier versions do not say what the explorer's share was.
        nothing = [0.0] * self._num_seeds
        self._explorer_share = np.array(state.get("explorer_share", nothing), np.float64)
        self._steps_with_share = state.get("steps_with_share", 0)
        # Nor where in an episode it was.
        in_episodes = state.get("in_episodes")
        if self._in_episodes is not None and in_episodes is not None:
            self._in_episodes.load_state_dict(in_episodes)

    def _clear(self) -> None:
        self._episodes = [[] for _ in range(self._num_seeds)]
        self._guide_share = np.zeros(self._num_seeds)
        self._explorer_share = np.zeros(self._num_seeds)
        self._steps_with_share = 0
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

    def begin(self, **counts: int) -> None:
        """Rates are those from here on, where this has been counted before."""
        self._asked, self._counts = time.perf_counter(), counts

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens meanwhile, an evaluation say, slows no rate down; the total counts it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._asked += time.perf_counter() - began

    def rates(self, **counts: int) -> dict[str, float]:
        """How much each count grew a second since the last call; nothing at the first one."""
        elapsed = max(time.perf_counter() - self._asked, 1e-9)
        rates = {
            f"throughput/{name}_per_second": (count - self._counts[name]) / elapsed
            for name, count in counts.items()
            if name in self._counts
        }
        self.begin(**counts)
        return rates
