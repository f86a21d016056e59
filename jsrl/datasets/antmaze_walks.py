"""Noisy walks of an ant through a maze, in D4RL's manner.

Fu et al. 2020 (arXiv 2004.07219), appendix C, and the generator that was published with it. A walk
follows the shortest path over cells; the point to walk to is moved at random in every step, and
noise is added to every action. What differs from D4RL:

- an episode ends where the walk reaches its own goal, and D4RL's runs on;
- the ant is in the cell whose walls surround it, where D4RL's generator counts cells that begin in
  the middle of one and end in the middle of the next: here the ant turns half a cell earlier on its
  way along x or y, and at the same place on its way back.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from jsrl.core.observations import Observation
from jsrl.core.protocols import BeginsEpisodes, Guide
from jsrl.core.streams import Streams, seed_sequence
from jsrl.datasets.blocks import Block
from jsrl.envs.antmaze import AntMazeEnv, antmaze_map, cell_centre, goal_noise
from jsrl.envs.mazes import Maze
from jsrl.envs.registration import ANTMAZE_TASKS
from jsrl.guides.ant import GoalReachingAnt, next_points

EPISODES_IN_BLOCK = 128
SIDE_BY_SIDE = 32
"""Walks at a time, since the policy is faster on a batch. Results depend on these two numbers."""

START_NOISE = 1.0
"""Metres: a random start lies up to this far from the centre of its cell, along x and y."""

DIVERSE = ("umaze-diverse", "medium-diverse", "large-diverse")
PLAY = ("medium-play", "large-play")

PLAY_GOALS = {
    "medium": ((2, 6), (5, 1), (6, 5)),
    "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
}
"""Row and column of the goals in D4RL's generator for `play`; evaluation has one of its own.
Walks start in any other cell."""


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
    """D4RL's plan for a key of ``ANTMAZE_TASKS``: one start and goal, chosen goals, or any.

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
        goals = tuple(row * columns + column for row, column in PLAY_GOALS[name])
        return Plan(name, steps, tuple(cell for cell in free if cell not in goals), goals)
    goal = maze.cells(cell_centre(name, "G")[None])
    return Plan(name, steps, (), (int(goal[0]),))


class Behaviour(Protocol):
    """Who walks, for a block of episodes, n of them side by side."""

    fingerprint: str

    def begin(self, seed: int, block: int) -> None:
        """A block begins: its draws follow from these two numbers alone."""
        ...

    def reset(self, mask: Bool[NDArray[np.bool_], " n"]) -> None:
        """New episodes begin in the places of ``mask``."""
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

    def reset(self, mask: Bool[NDArray[np.bool_], " n"]) -> None:
        pass  # it has no memory

    def act(
        self,
        observations: Float[NDArray[np.float32], "n 29"],
        goals: Float[NDArray[np.float64], "n 2"],
        active: Bool[NDArray[np.bool_], " n"],
    ) -> Float[NDArray[np.float32], "n 8"]:
        offsets = self._draws.random((len(goals), 2))[active]
        normal = self._draws.standard_normal((len(goals), 8), dtype=np.float32)[active]
        seen = observations[active]
        points = next_points(self._maze, seen[:, :2], goals[active], offsets)
        actions = np.zeros((len(goals), 8), np.float32)
        actions[active] = self._ant.act(seen, points, normal)
        return actions


class WalkingGuide:
    """Any guide that finds its own way: it is not told the goal.

    Args:
        guide: for one seed.
    """

    def __init__(self, guide: Guide) -> None:
        self.guide = guide
        self.fingerprint = guide.fingerprint

    def begin(self, seed: int, block: int) -> None:
        self._streams = Streams([seed], ("antmaze behaviour", block))
        self._begun = 0

    def reset(self, mask: Bool[NDArray[np.bool_], " n"]) -> None:
        rows = torch.from_numpy(mask.copy()).unsqueeze(0)
        if not isinstance(self.guide, BeginsEpisodes):
            self.guide.reset(rows)
            return
        # The starts are not drawn here: the walks are numbered, and the keys follow from that.
        numbers = self._begun + np.arange(len(mask))
        self._begun += len(mask)
        keys = [self._streams.integer("walk", int(number))[0] for number in numbers]
        self.guide.begin(rows, numbers[None], np.array([keys], np.int64))

    def act(
        self,
        observations: Float[NDArray[np.float32], "n 29"],
        goals: Float[NDArray[np.float64], "n 2"],
        active: Bool[NDArray[np.bool_], " n"],
    ) -> Float[NDArray[np.float32], "n 8"]:
        mask = torch.from_numpy(active.copy()).unsqueeze(0)
        seen = Observation(torch.from_numpy(observations).unsqueeze(0))
        actions = self.guide.act(seen, self._streams, mask)
        answers: NDArray[np.float32] = actions[0].numpy()
        return answers


@dataclass(frozen=True)
class Walk:
    """One episode of T transitions: where the ant was, what it did, and where it was heading."""

    observations: Float[NDArray[np.float32], "T1 29"]
    actions: Float[NDArray[np.float32], "T 8"]
    goal: Float[NDArray[np.float64], " 2"]


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
        self._envs = [AntMazeEnv(plan.maze) for _ in range(SIDE_BY_SIDE)]

    def __call__(self, block: int) -> Block:
        """The transitions of a block's episodes, one after the other."""
        draws = np.random.default_rng(seed_sequence(self._seed, "antmaze collection", block))
        self._behaviour.begin(self._seed, block)
        count, steps = SIDE_BY_SIDE, self._plan.steps
        observations = np.zeros((count, steps + 1, 29), np.float32)
        actions = np.zeros((count, steps, 8), np.float32)
        goals, now = np.zeros((count, 2)), np.zeros((count, 29), np.float32)
        episode, clock = np.zeros(count, np.int64), np.zeros(count, np.int64)
        active, begun = np.zeros(count, bool), 0
        walks: dict[int, Walk] = {}
        while len(walks) < EPISODES_IN_BLOCK:
            free = np.flatnonzero(~active)[: EPISODES_IN_BLOCK - begun]
            if len(free):
                self._behaviour.reset(np.isin(np.arange(count), free))
            for index in free:
                goals[index], now[index] = self._begin(self._envs[index], draws)
                observations[index, 0] = now[index]
                episode[index], clock[index], active[index] = begun, 0, True
                begun += 1
            chosen = self._behaviour.act(now, goals, active)
            noise = self._noise * draws.standard_normal(chosen.shape, dtype=np.float32)
            chosen = np.clip(chosen + noise, -1, 1)
            for index in np.flatnonzero(active):
                env, t = self._envs[index], clock[index]
                arrived = env.simulate(chosen[index])
                actions[index, t] = chosen[index]
                now[index, :15] = env.data.qpos
                now[index, 15:] = env.data.qvel
                observations[index, t + 1] = now[index]
                clock[index] = t + 1
                if arrived or t + 1 == steps:
                    active[index] = False
                    walks[int(episode[index])] = Walk(
                        observations[index, : t + 2].copy(),
                        actions[index, : t + 1].copy(),
                        goals[index].copy(),
                    )
        return _transitions([walks[number] for number in range(EPISODES_IN_BLOCK)])

    def _begin(
        self, env: AntMazeEnv, draws: np.random.Generator
    ) -> tuple[Float[NDArray[np.float64], " 2"], Float[NDArray[np.float64], " 29"]]:
        """Reset an environment; the goal that the walk leads to, and the first observation."""
        goal = self._centre(self._plan.goals, draws) + goal_noise(draws)
        options: dict[str, Any] = {"goal": goal}
        if self._plan.starts:
            start = self._centre(self._plan.starts, draws)
            options["start"] = start + START_NOISE * draws.random(2)
        observation, _ = env.reset(seed=int(draws.integers(2**31)), options=options)
        return goal, observation

    def _centre(
        self, cells: tuple[int, ...], draws: np.random.Generator
    ) -> Float[NDArray[np.float64], " 2"]:
        return self._maze.centres(np.array([cells[draws.integers(len(cells))]]))[0]


def _transitions(walks: list[Walk]) -> Block:
    """Episode after episode."""
    lengths = np.array([len(walk.actions) for walk in walks])
    ends = np.zeros(int(lengths.sum()), bool)
    ends[np.cumsum(lengths) - 1] = True
    goals = np.stack([walk.goal for walk in walks]).astype(np.float32)
    return {
        "observations": np.concatenate([walk.observations[:-1] for walk in walks]),
        "actions": np.concatenate([walk.actions for walk in walks]),
        "next_observations": np.concatenate([walk.observations[1:] for walk in walks]),
        "goals": np.repeat(goals, lengths, axis=0),
        "ends": ends,
    }
