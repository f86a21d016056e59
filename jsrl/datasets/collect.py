"""Collect offline data by letting a guide act."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from jsrl.core.protocols import Guide
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionData
from jsrl.envs.make import Environments


def collect(
    environments: Environments,
    spec: EnvSpec,
    guide: Guide,
    transitions: int,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
) -> TransitionData:
    """Whole episodes of ``guide``, until there are ``transitions`` transitions.

    Episodes follow one another in the order of their numbers. The last one is cut where the
    number is reached, and marked as a timeout there.

    Args:
        environments: E of them. The result depends on the seed and on E.
        spec: what they are.
        guide: acts in every step; for S = 1.
        transitions: N.
        seed: of start states and of the guide's noise.
        report: called with the number of transitions collected so far.
    """
    streams = Streams([seed], ("collect",))
    recorder = _Recorder(environments.count, spec)
    resets = 0
    ended = np.ones(environments.count, bool)
    everyone = torch.ones(1, environments.count, dtype=torch.bool)
    while recorder.complete_transitions() < transitions:
        if ended.any():
            seeds = [0] * environments.count
            for index in np.flatnonzero(ended):
                seeds[index] = streams.integer("reset", resets)[0]
                recorder.begin(int(index), resets)
                resets += 1
            observations = environments.reset(ended, seeds)
            guide.reset(torch.from_numpy(ended).unsqueeze(0))
        actions = guide.act(torch.from_numpy(observations).unsqueeze(0), streams, everyone)
        step = environments.step(actions[0].numpy())
        ended = step.terminated | step.truncated
        recorder.add(
            observations,
            actions[0].numpy(),
            step.rewards,
            step.observations,
            step.terminated,
            step.truncated & ~step.terminated,
        )
        observations = step.observations
        report(min(recorder.complete_transitions(), transitions))
    return recorder.first(transitions)


class _Recorder:
    """Transitions of E environments, sorted into numbered episodes."""

    def __init__(self, count: int, spec: EnvSpec) -> None:
        self._spec = spec
        self._episodes: dict[int, list[tuple[NDArray[np.generic], ...]]] = {}
        self._current = [0] * count
        self._finished: set[int] = set()

    def begin(self, environment: int, episode: int) -> None:
        self._current[environment] = episode
        self._episodes[episode] = []

    def add(self, *fields: NDArray[np.generic]) -> None:
        """The fields of a ``TransitionData``, one row for each environment."""
        for environment, episode in enumerate(self._current):
            # A copy: the environments write into the same arrays again.
            row = tuple(np.array(field[environment]) for field in fields)
            self._episodes[episode].append(row)
            if row[-1] or row[-2]:
                self._finished.add(episode)

    def complete_transitions(self) -> int:
        """Transitions in the unbroken run of finished episodes from number 0 on."""
        total, episode = 0, 0
        while episode in self._finished:
            total += len(self._episodes[episode])
            episode += 1
        return total

    def first(self, transitions: int) -> TransitionData:
        rows = [row for episode in sorted(self._episodes) for row in self._episodes[episode]]
        columns = list(zip(*rows[:transitions], strict=True))
        observations, actions, rewards, successors, terminals, timeouts = map(np.stack, columns)
        timeouts[-1] = not terminals[-1]
        return TransitionData(
            observations=observations,
            actions=actions,
            rewards=rewards,
            next_observations=successors,
            terminals=terminals,
            timeouts=timeouts,
        )
