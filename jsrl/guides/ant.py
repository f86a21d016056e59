"""D4RL's goal-reaching ant, and its way through a maze from cell to cell.

Fu et al. 2020 (arXiv 2004.07219), appendix C: the AntMaze data come from a policy that walks to a
point close by, and is given the next cell on the shortest path as that point.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from jsrl.envs.mazes import Maze
from jsrl.guides.base import combine

GOAL_NORM = 10.0
"""Length, in metres, to which the relative goal is scaled in the policy's input."""


LANE = 0.5
"""Metres from the middle of a corridor beyond which a careful walk returns to it."""

SLANT = 2.0
"""Metres ahead at which it aims on its way back."""


class GoalReachingAnt:
    """The tanh-Gaussian policy that walks an ant of D4RL's physics towards a point.

    Args:
        arrays: ``hidden_0_weight``, ``hidden_0_bias`` and on to the last hidden layer, and weight
            and bias of ``mean`` and ``log_std``; weights are float32 ``[out, in]``.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        tensors = {
            name: torch.from_numpy(np.array(array, np.float32)) for name, array in arrays.items()
        }
        count = sum(name.startswith("hidden_") and name.endswith("_weight") for name in tensors)
        names = [f"hidden_{index}" for index in range(count)]
        self._hidden = [(tensors[f"{n}_weight"], tensors[f"{n}_bias"]) for n in names]
        # One product for both heads.
        self._heads = [
            torch.cat([tensors[f"mean_{part}"], tensors[f"log_std_{part}"]])
            for part in ("weight", "bias")
        ]
        self.fingerprint = combine(*(tensors[name] for name in sorted(tensors)))

    def act(
        self,
        observations: Float[np.ndarray, "n 29"],
        points: Float[np.ndarray, "n 2"],
        normal: Float[np.ndarray, "n 8"] | None = None,
    ) -> Float[np.ndarray, "n 8"]:
        """Actions in [-1, 1].

        Args:
            observations: positions (x, y first) and velocities, as AntMaze gives them.
            points: where to walk to, x and y in metres.
            normal: standard normal draws; None for the mode.
        """
        relative = points - observations[:, :2]
        distance = np.linalg.norm(relative, axis=-1, keepdims=True)
        direction = relative * (GOAL_NORM / np.maximum(distance, 1e-6))
        x = torch.from_numpy(
            np.concatenate([observations[:, 2:], direction], -1).astype(np.float32)
        )
        with torch.no_grad():
            for weight, bias in self._hidden:
                x = linear(x, weight, bias).relu_()
            mean, log_std = linear(x, *self._heads).chunk(2, dim=-1)
            if normal is not None:
                std: Tensor = log_std.clamp(-20.0, 2.0).exp_()
                mean = mean + std * torch.from_numpy(normal.astype(np.float32))
            actions: np.ndarray = mean.tanh().numpy()
        return actions


def next_points(
    maze: Maze,
    positions: Float[np.ndarray, "n 2"],
    goals: Float[np.ndarray, "n 2"],
    offsets: Float[np.ndarray, "n 2"],
) -> Float[np.ndarray, "n 2"]:
    """Where to walk next, in metres.

    The goal itself if its cell is this one or the next; else the centre of the next cell on the
    shortest path, moved by ``offsets``.
    """
    there = maze.cells(goals)
    ahead = maze.next_cell[maze.cells(positions), there]
    points: np.ndarray = np.where((ahead == there)[:, None], goals, maze.centres(ahead) + offsets)
    return points


def careful_points(
    maze: Maze, positions: Float[np.ndarray, "n 2"], goals: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 2"]:
    """Where to walk next so as not to fall over the corner of a wall, in metres.

    D4RL's way cuts corners, where some walks fall over. This one keeps to the middle of
    the corridor: an ant that is off it is sent back, slantwise, before it goes on.
    """
    here, there = maze.cells(positions), maze.cells(goals)
    centre, target = maze.centres(here), maze.centres(maze.next_cell[here, there])
    along = np.abs(target - centre) > 0
    astray = np.where(along, 0.0, np.abs(positions - target)).max(axis=-1, keepdims=True)
    slantwise = np.where(along, positions + SLANT * np.sign(target - centre), target)
    points: np.ndarray = np.where(
        (here == there)[:, None], goals, np.where(astray > LANE, slantwise, target)
    )
    return points


class AntNavigator:
    """The ant on its way to a fixed goal: a policy of AntMaze's observation alone.

    The observation does not show the goal, so it walks to the middle of where the goal may be, and
    misses those that lie further off than their radius.

    Args:
        ant: the goal-reaching policy; it acts by samples, which fall over less often.
        maze: the maze.
        goal: x and y in metres.
        noise: standard deviation of further Gaussian noise on actions, clipped after it is added.
    """

    stochastic = True

    def __init__(
        self, ant: GoalReachingAnt, maze: Maze, goal: Float[np.ndarray, " 2"], noise: float
    ) -> None:
        self._ant, self._maze, self._goal, self._noise = ant, maze, goal, noise
        self.fingerprint = combine(
            ant.fingerprint, maze.walls.tolist(), goal.tolist(), maze.cell_size, noise
        )

    def __call__(
        self,
        observations: Float[np.ndarray, "n 29"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Float[np.ndarray, "n 8"]:
        """Actions in [-1, 1]; the mode without a generator."""
        goals = np.tile(self._goal, (len(observations), 1))
        points = careful_points(self._maze, observations[:, :2], goals)
        if generator is None:
            return self._ant.act(observations, points)
        normal, noise = generator.standard_normal((2, len(observations), 8))
        actions = self._ant.act(observations, points, normal)
        clipped: np.ndarray = (actions + self._noise * noise).clip(-1, 1).astype(np.float32)
        return clipped
