"""A scripted guide for the point mazes of gymnasium-robotics: the shortest path, cell by cell.

The mazes are those of D4RL (Fu et al. 2020, arXiv 2004.07219), whose data was collected by such a
controller too. This one keeps no memory: its action is a function of the observation.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jsrl.errors import UserError
from jsrl.guides.base import ForeignGuide, GuideView, combine
from jsrl.types import EnvSpec

NEIGHBOURS = ((-1, 0), (0, -1), (0, 1), (1, 0))


@dataclass(frozen=True)
class Maze:
    """A grid maze, and the way through it.

    Row 0 is at the top: x grows with the column, y falls with the row.

    Args:
        walls: True where a cell is wall.
        cell_size: edge of a cell, in metres.
        x_center: distance from the left edge of the map to x = 0, in metres.
        y_center: distance from the top edge of the map to y = 0, in metres.
    """

    walls: Bool[np.ndarray, "rows columns"]
    cell_size: float
    x_center: float
    y_center: float
    next_cell: Int[np.ndarray, "cells cells"] = field(init=False, repr=False, compare=False)
    """``next_cell[cell, goal]``: the neighbour to go to; the cell itself where there is no way.
    Cells are counted row by row."""
    nearest_free: Int[np.ndarray, " cells"] = field(init=False, repr=False, compare=False)
    """The closest cell that is no wall, itself if free."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "next_cell", _shortest_paths(self.walls))
        object.__setattr__(self, "nearest_free", _nearest_free(self.walls))

    @classmethod
    def from_env(cls, env: Any) -> "Maze":
        """The maze of a gymnasium-robotics environment.

        Raises:
            UserError: if ``env`` has none.
        """
        maze = getattr(env.unwrapped, "maze", None)
        if maze is None or not hasattr(maze, "maze_map"):
            name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
            raise UserError(
                f"guide=waypoint needs a maze of gymnasium-robotics, such as PointMaze_UMaze-v3; "
                f"env.id={name} has none"
            )
        return cls(
            walls=np.array([[cell == 1 for cell in row] for row in maze.maze_map]),
            cell_size=float(maze.maze_size_scaling),
            x_center=float(maze.x_map_center),
            y_center=float(maze.y_map_center),
        )

    def cells(self, xy: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
        """The free cell in which, or closest to which, each position (metres) is."""
        rows, columns = self.walls.shape
        row = np.floor((self.y_center - xy[:, 1]) / self.cell_size).clip(0, rows - 1)
        column = np.floor((xy[:, 0] + self.x_center) / self.cell_size).clip(0, columns - 1)
        cells: np.ndarray = self.nearest_free[(row * columns + column).astype(np.int64)]
        return cells

    def centres(self, cells: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
        """The middle of each cell, x and y in metres."""
        row, column = np.divmod(cells, self.walls.shape[1])
        x = (column + 0.5) * self.cell_size - self.x_center
        y = self.y_center - (row + 0.5) * self.cell_size
        return np.stack([x, y], axis=-1)


class WaypointController:
    """A proportional-derivative controller towards the next cell on the shortest path to the goal.

    Args:
        maze: the maze.
        position: the two columns of the observation with x and y (metres).
        velocity: the two columns with their velocities (metres a second).
        goal: the two columns with the goal's x and y (metres).
        proportional_gain: action per metre of distance to the target.
        derivative_gain: action per metre a second of velocity, against it.
        noise: standard deviation of Gaussian noise on each action, in units of half the action
            range, clipped after it is added; 0 for the best it can do. At 2 it takes half as long
            again; at 8 it misses 4 of 10 goals of the U-maze. Without a generator there is none.
        lane: the part of half a cell by which it may be off the middle of its lane and still
            go on; beyond, it returns to the middle first, so as not to cut corners into walls.
    """

    def __init__(
        self,
        maze: Maze,
        position: Sequence[int],
        velocity: Sequence[int],
        goal: Sequence[int],
        proportional_gain: float = 3.0,
        derivative_gain: float = 0.5,
        noise: float = 0.0,
        lane: float = 0.7,
    ) -> None:
        if noise < 0:
            raise UserError(f"guide.noise={noise} must be 0 or more")
        self.maze = maze
        self.position, self.velocity, self.goal = list(position), list(velocity), list(goal)
        self.proportional_gain = proportional_gain
        self.derivative_gain = derivative_gain
        self.noise = noise
        self.lane = lane
        self.stochastic = noise > 0
        self.fingerprint = combine(
            maze.walls.tolist(),
            (maze.cell_size, maze.x_center, maze.y_center),
            (self.position, self.velocity, self.goal),
            (proportional_gain, derivative_gain, noise, lane),
        )

    def targets(self, observations: Float[np.ndarray, "n O"]) -> Float[np.ndarray, "n 2"]:
        """Where to go now, x and y in metres."""
        position, goal = observations[:, self.position], observations[:, self.goal]
        here, there = self.maze.cells(position), self.maze.cells(goal)
        ahead = self.maze.next_cell[here, there]
        centre, target = self.maze.centres(here), self.maze.centres(ahead)
        # Off the lane between the two centres, hold the place along it until back on.
        along = np.abs(target - centre) > 0
        offset = np.where(along, 0.0, np.abs(position - target)).max(axis=-1, keepdims=True)
        off_lane = offset > self.lane * self.maze.cell_size / 2
        target = np.where(off_lane & along, position, target)
        targets: np.ndarray = np.where((here == there)[:, None], goal, target)
        return targets

    def __call__(
        self,
        observations: Float[np.ndarray, "n O"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Float[np.ndarray, "n 2"]:
        """Actions in [-1, 1]."""
        error = self.targets(observations) - observations[:, self.position]
        actions = self.proportional_gain * error
        actions = actions - self.derivative_gain * observations[:, self.velocity]
        actions = actions.clip(-1, 1)
        if generator is not None and self.noise > 0:
            actions = actions + self.noise * generator.standard_normal(actions.shape)
        clipped: np.ndarray = actions.clip(-1, 1).astype(np.float32)
        return clipped


def waypoint_guide(env: Any, spec: EnvSpec, num_seeds: int, **settings: float) -> ForeignGuide:
    """The waypoint controller as a guide for ``env``.

    Args:
        env: a gymnasium-robotics point maze; only its map is read.
        spec: its specification; the layout must have ``observation`` (x, y and their velocities)
            and ``desired_goal`` (x, y).
        num_seeds: S.
        settings: ``proportional_gain``, ``derivative_gain``, ``noise``, ``lane`` of
            ``WaypointController``.

    Raises:
        UserError: if ``env`` is no point maze.
    """
    maze = Maze.from_env(env)
    parts = {name: (start, stop) for name, start, stop in spec.layout}
    sizes = {name: stop - start for name, (start, stop) in parts.items()}
    if sizes.get("observation") != 4 or sizes.get("desired_goal") != 2 or spec.action_size != 2:
        raise UserError(
            f"guide=waypoint steers a point by two forces; env.id={spec.id} has the observation "
            f"sizes {sizes} and {spec.action_size} actions; expected observation 4, "
            "desired_goal 2 and 2 actions, as in PointMaze_UMaze-v3"
        )
    state, goal = parts["observation"][0], parts["desired_goal"][0]
    controller = WaypointController(
        maze,
        position=(state, state + 1),
        velocity=(state + 2, state + 3),
        goal=(goal, goal + 1),
        **settings,
    )
    return ForeignGuide(
        controller,
        GuideView(),
        spec,
        num_seeds,
        name="waypoint",
        fingerprint=controller.fingerprint,
    )


def _shortest_paths(walls: Bool[np.ndarray, "R C"]) -> Int[np.ndarray, "cells cells"]:
    """``next_cell`` of ``Maze``: one breadth-first search from every goal."""
    rows, columns = walls.shape
    cells = rows * columns
    table = np.tile(np.arange(cells)[:, None], (1, cells))
    for goal in np.flatnonzero(~walls):
        reached, queue = {int(goal)}, deque([int(goal)])
        while queue:
            cell = queue.popleft()
            row, column = divmod(cell, columns)
            for down, right in NEIGHBOURS:
                r, c = row + down, column + right
                if not (0 <= r < rows and 0 <= c < columns) or walls[r, c]:
                    continue
                neighbour = r * columns + c
                if neighbour not in reached:
                    reached.add(neighbour)
                    table[neighbour, goal] = cell
                    queue.append(neighbour)
    return table


def _nearest_free(walls: Bool[np.ndarray, "R C"]) -> Int[np.ndarray, " cells"]:
    free = np.argwhere(~walls)
    if not len(free):
        raise UserError("guide=waypoint: the maze has no free cell; see maze_map of env.arguments")
    everywhere = np.argwhere(np.ones_like(walls))
    distance = np.abs(everywhere[:, None] - free[None]).sum(-1)
    nearest = free[distance.argmin(1)]
    flat: np.ndarray = nearest[:, 0] * walls.shape[1] + nearest[:, 1]
    return flat
