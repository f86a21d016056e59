"""Noisy walks of an ant through a maze, in D4RL's manner.

Fu et al. 2020 (arXiv 2004.07219), appendix C, and the generator that was published with it. A walk
follows the shortest path over cells; the point to walk to is moved at random in every step, and
noise is added to every action. What differs from D4RL: an episode ends where the walk reaches its
own goal, and D4RL's runs on towards another one.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from jsrl.datasets.blocks import Block
from jsrl.envs.antmaze import AntMazeEnv, antmaze_map, cell_centre, goal_noise
from jsrl.envs.registration import ANTMAZE_TASKS
from jsrl.guides.ant import GoalReachingAnt, next_points
from jsrl.mazes import Maze
from jsrl.seeding import Streams, seed_sequence
from jsrl.types import Guide

EPISODES_IN_BLOCK = 16
"""Walked side by side, since the policy is faster on a batch. Results depend on this number."""

START_NOISE = 1.0
"""Metres: a random start lies up to this far from the centre of its cell, along x and y."""

DIVERSE = ("umaze-diverse", "medium-diverse", "large-diverse")
PLAY = ("medium-play", "large-play")

PLAY_GOALS = {
    "medium": ((2, 6), (5, 1), (6, 5)),
    "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
}
"""Row and column of the goals in D4RL's generator for `play`; evaluation has one of its own."""


@dataclass(frozen=True)
class Plan:
    """Where the walks of a data set begin and lead.

    Args:
        maze: a key of ``antmaze.MAPS``.
        steps: the longest walk.
        starts: the free cells to start in; empty for the start cell alone, without noise.
        goals: the cells to walk to.
    """

    maze: str
    steps: int
    starts: tuple[int, ...]
    goals: tuple[int, ...]


def plan_of(task: str, steps: int | None = None) -> Plan:
    """D4RL's plan for a key of ``ANTMAZE_TASKS``: one start and goal, several goals, or any.

    Args:
        task: the key.
        steps: the longest walk; None for the time limit of the task.
    """
    name, limit = ANTMAZE_TASKS[task]
    steps = limit if steps is None else steps
    maze = antmaze_map(name)
    columns = maze.walls.shape[1]
    free = tuple(int(cell) for cell in np.flatnonzero(~maze.walls))
    if task in DIVERSE:
        return Plan(name, steps, free, free)
    if task in PLAY:
        return Plan(name, steps, (), tuple(row * columns + c for row, c in PLAY_GOALS[name]))
    goal = maze.cells(cell_centre(name, "G")[None])
    return Plan(name, steps, (), (int(goal[0]),))


class Behaviour(Protocol):
    """Who walks, for a block of episodes side by side."""

    fingerprint: str

    def begin(self, seed: int, block: int) -> None:
        """New episodes begin: their draws follow from these two numbers alone."""
        ...

    def act(
        self,
        observations: Float[NDArray[np.float32], "n 29"],
        goals: Float[NDArray[np.float64], "n 2"],
        active: Bool[NDArray[np.bool_], " n"],
    ) -> Float[NDArray[np.float32], "n 8"]:
        """Actions in [-1, 1]; those outside of ``active`` are not looked at."""
        ...


class WalkingAnt:
    """The goal-reaching ant on the shortest path, its points moved by up to a metre.

    Args:
        ant: the policy.
        maze: the maze.
    """

    def __init__(self, ant: GoalReachingAnt, maze: Maze) -> None:
        self._ant, self._maze = ant, maze
        self.fingerprint = ant.fingerprint

    def begin(self, seed: int, block: int) -> None:
        self._draws = np.random.default_rng(seed_sequence(seed, "antmaze behaviour", block))

    def act(
        self,
        observations: Float[NDArray[np.float32], "n 29"],
        goals: Float[NDArray[np.float64], "n 2"],
        active: Bool[NDArray[np.bool_], " n"],
    ) -> Float[NDArray[np.float32], "n 8"]:
        offsets = self._draws.random((len(goals), 2))
        normal = self._draws.standard_normal((len(goals), 8), dtype=np.float32)
        points = next_points(self._maze, observations[:, :2], goals, offsets)
        return self._ant.act(observations, points, normal)


class WalkingGuide:
    """Any guide that finds its own way: it is not told the goal.

    Args:
        guide: for one seed.
    """

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self.fingerprint = guide.fingerprint

    def begin(self, seed: int, block: int) -> None:
        self._streams = Streams([seed], ("antmaze behaviour", block))
        self._guide.reset(torch.ones(1, EPISODES_IN_BLOCK, dtype=torch.bool))

    def act(
        self,
        observations: Float[NDArray[np.float32], "n 29"],
        goals: Float[NDArray[np.float64], "n 2"],
        active: Bool[NDArray[np.bool_], " n"],
    ) -> Float[NDArray[np.float32], "n 8"]:
        mask = torch.from_numpy(active.copy()).unsqueeze(0)
        actions = self._guide.act(torch.from_numpy(observations).unsqueeze(0), self._streams, mask)
        answers: NDArray[np.float32] = actions[0].numpy()
        return answers


class Walker:
    """Makes the blocks of a data set.

    Args:
        plan: where the walks begin and lead.
        behaviour: who walks.
        noise: standard deviation of the Gaussian noise on actions, clipped after it is added.
        seed: of everything drawn.
    """

    def __init__(self, plan: Plan, behaviour: Behaviour, noise: float, seed: int) -> None:
        self._plan, self._behaviour = plan, behaviour
        self._noise, self._seed = noise, seed
        self._maze = antmaze_map(plan.maze)
        self._envs = [AntMazeEnv(plan.maze) for _ in range(EPISODES_IN_BLOCK)]

    def __call__(self, block: int) -> Block:
        """The transitions of a block's episodes, one after the other."""
        draws = np.random.default_rng(seed_sequence(self._seed, "antmaze collection", block))
        goals = self._begin(draws)
        self._behaviour.begin(self._seed, block)
        count, steps = EPISODES_IN_BLOCK, self._plan.steps
        observations = np.zeros((count, steps + 1, 29), np.float32)
        actions = np.zeros((count, steps, 8), np.float32)
        lengths = np.zeros(count, np.int64)
        now = np.stack([env.observation() for env in self._envs]).astype(np.float32)
        observations[:, 0] = now
        active = np.ones(count, bool)
        for step in range(steps):
            chosen = self._behaviour.act(now, goals, active)
            noise = self._noise * draws.standard_normal(chosen.shape, dtype=np.float32)
            actions[:, step] = np.clip(chosen + noise, -1, 1)
            lengths[active] = step + 1
            for index in np.flatnonzero(active):
                env = self._envs[index]
                active[index] = not env.simulate(actions[index, step])
                now[index, :15] = env.data.qpos
                now[index, 15:] = env.data.qvel
            observations[:, step + 1] = now
            if not active.any():
                break
        return _episodes(observations, actions, lengths, goals)

    def _begin(self, draws: np.random.Generator) -> Float[NDArray[np.float64], "n 2"]:
        """Reset all environments; the goals that the walks lead to."""
        goals = []
        for env in self._envs:
            goal = self._centre(self._plan.goals, draws) + goal_noise(draws)
            options: dict[str, Any] = {"goal": goal}
            if self._plan.starts:
                start = self._centre(self._plan.starts, draws)
                options["start"] = start + START_NOISE * draws.random(2)
            env.reset(seed=int(draws.integers(2**31)), options=options)
            goals.append(goal)
        return np.stack(goals)

    def _centre(
        self, cells: tuple[int, ...], draws: np.random.Generator
    ) -> Float[NDArray[np.float64], " 2"]:
        return self._maze.centres(np.array([cells[draws.integers(len(cells))]]))[0]


def _episodes(
    observations: Float[NDArray[np.float32], "n T1 29"],
    actions: Float[NDArray[np.float32], "n T 8"],
    lengths: NDArray[np.int64],
    goals: Float[NDArray[np.float64], "n 2"],
) -> Block:
    """Episode after episode, without what lies behind their ends."""
    rows = [(index, int(length)) for index, length in enumerate(lengths)]
    ends = np.zeros(int(lengths.sum()), bool)
    ends[np.cumsum(lengths) - 1] = True
    return {
        "observations": np.concatenate([observations[i, :n] for i, n in rows]),
        "actions": np.concatenate([actions[i, :n] for i, n in rows]),
        "next_observations": np.concatenate([observations[i, 1 : n + 1] for i, n in rows]),
        "goals": np.repeat(goals.astype(np.float32), lengths, axis=0),
        "ends": ends,
    }
