"""The episodes of a training run that are under way, gathered until they can be tested."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jsrl.monitor.capture.steps import PHASES, WatchedSteps
from jsrl.monitor.watch.training_log import WatchKey

EpisodeKey = tuple[int, str, int, int]
"""The place of the seed, the phase, the stage and the number of the episode."""


class TrainingEpisodes:
    """Gathers the watched steps of each episode, stage by stage, for several seeds.

    Args:
        envs: how many environments each seed has.
    """

    def __init__(self, envs: int) -> None:
        self._envs = envs
        self._episodes: dict[EpisodeKey, list[WatchedSteps]] = {}
        # The newest episode of each environment of each seed.
        self._newest: dict[tuple[int, int], int] = {}

    def add(self, index: int, steps: WatchedSteps) -> None:
        """Add steps of the seed at this place."""
        for episode in steps.episode.tolist():
            self._newest[(index, episode % self._envs)] = episode
        keys, which = np.unique(
            np.stack([steps.phase, steps.stage, steps.episode], 1), axis=0, return_inverse=True
        )
        for number, (phase, stage, episode) in enumerate(keys.tolist()):
            own = steps.take(which.reshape(-1) == number)
            key = (index, PHASES[phase], stage, episode)
            self._episodes.setdefault(key, []).append(own)

    def pop_finished(self) -> list[tuple[WatchKey, WatchedSteps]]:
        """Take out the episodes that ended, in the order in which they began.

        An episode that ended waits for all that began before it: of several environments the short
        episodes end first, and they differ from the others.
        """
        oldest = {
            index: min(e for (i, _), e in self._newest.items() if i == index)
            for index, _ in self._newest
        }
        done = sorted(
            (key for key in self._episodes if key[3] < oldest[key[0]]), key=lambda key: key[3]
        )
        return [
            ((key[0], key[1], key[2]), WatchedSteps.concatenate(self._episodes.pop(key)))
            for key in done
        ]

    def state_dict(self) -> dict[str, Any]:
        """The steps of all episodes, and the newest episode of each environment."""
        return {
            "episodes": [
                {"key": list(key), "rows": WatchedSteps.concatenate(parts).state_dict()}
                for key, parts in self._episodes.items()
            ],
            "latest": [[*key, value] for key, value in self._newest.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._episodes = {
            tuple(stored["key"]): [WatchedSteps.from_state_dict(stored["rows"])]
            for stored in state["episodes"]
        }
        self._newest = {(index, env): value for index, env, value in state["latest"]}
