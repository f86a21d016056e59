"""Grid mazes: where the cells are, and the shortest way through them."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jsrl.core.errors import UserError
from jsrl.core.foreign import InAMaze

NEIGHBOURS = ((-1, 0), (0, -1), (0, 1), (1, 0))


@dataclass(frozen=True)
class Maze:
    """A grid maze, and the way through it.

    x grows with the column. In gymnasium-robotics row 0 is at the top, and y falls with the row;
    in D4RL y grows with it.

    Args:
        walls: True where a cell is wall.
        cell_size: edge of a cell, in metres.
        x_center: distance from the outer edge of column 0 to x = 0, in metres.
        y_center: distance from the outer edge of row 0 to y = 0, in metres.
        y_direction: 1 if y grows with the row, -1 if it falls.
    """

    walls: Bool[np.ndarray, "rows columns"]
    cell_size: float
    x_center: float
    y_center: float
    y_direction: int = -1
    next_cell: Int[np.ndarray, "cells cells"] = field(init=False, repr=False, compare=False)
    """``next_cell[cell, goal]``: the neighbour to go to; the cell itself where there is no way.
    Cells are counted row by row."""
    nearest_free: Int[np.ndarray, " cells"] = field(init=False, repr=False, compare=False)
    """The closest cell that is no wall, itself if free."""
    middles: Float[np.ndarray, "cells 2"] = field(init=False, repr=False, compare=False)
    """The middle of every cell, x and y in metres."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "next_cell", _shortest_paths(self.walls))
        object.__setattr__(self, "nearest_free", _nearest_free(self.walls))
        row, column = np.divmod(np.arange(self.walls.size), self.walls.shape[1])
        x = (column + 0.5) * self.cell_size - self.x_center
        y = self.y_direction * ((row + 0.5) * self.cell_size - self.y_center)
        object.__setattr__(self, "middles", np.stack([x, y], axis=-1))

    @classmethod
    def from_env(cls, env: Any) -> "Maze":
        """The maze of an environment of gymnasium-robotics or of this package.

        Raises:
            UserError: if ``env`` has none.
        """
        maze = env.unwrapped.maze if isinstance(env.unwrapped, InAMaze) else None
        if isinstance(maze, cls):
            return maze
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
        # Both coordinates at once: this is asked at every step of a collection.
        from_corner = xy * (1, self.y_direction) + (self.x_center, self.y_center)
        column_row = np.floor(from_corner / self.cell_size).clip(0, (columns - 1, rows - 1))
        cells: np.ndarray = self.nearest_free[(column_row @ (1, columns)).astype(np.int64)]
        return cells

    def centres(self, cells: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
        """The middle of each cell, x and y in metres."""
        centres: np.ndarray = self.middles[cells]
        return centres


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
