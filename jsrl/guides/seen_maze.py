"""A scripted guide that acts from an image alone: it reads the maze, the point and the goal off it.

For the mazes of ``envs.seen_maze``. Use it with ``guide=python
guide.target=jsrl.guides.seen_maze:SeenMazeGuide guide.arguments.noise=0.5``.

Walls are the blue channel, from which the free cells and the shortest way through them follow.
Point and goal are the means of the red and the green channel. The way is steered by the
proportional-derivative controller of ``guide=waypoint``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jsrl.envs.mazes import Maze
from jsrl.envs.seen_maze import GOAL, POINT, WALL, wall_pixels
from jsrl.guides.waypoint import WaypointController

MOST_CELLS = 16
"""A maze of more rows or columns is not looked for."""


class SeenMazeGuide:
    """Steers the point to the goal that it sees, by the shortest way through the cells it sees.

    Args:
        noise: standard deviation of Gaussian noise on each action, in units of half the action
            range; 0 is the best that it can do.
        proportional_gain: action per metre of distance to where it goes.
        derivative_gain: action per metre a second of velocity, against it.
    """

    def __init__(
        self, noise: float = 0.0, proportional_gain: float = 3.0, derivative_gain: float = 0.5
    ) -> None:
        self.settings = {
            "noise": noise,
            "proportional_gain": proportional_gain,
            "derivative_gain": derivative_gain,
        }
        # One for each maze that it has seen, by its walls' pixels.
        self._controllers: dict[bytes, WaypointController] = {}

    def act(
        self, observations: Mapping[str, Any], generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Actions in [-1, 1] for one observation of the environment, or for rows of them.

        Args:
            observations: ``image`` uint8 ``[*n, size, size, 3]`` and ``velocity`` ``[*n, 2]`` in
                metres a second.
            generator: of the noise; None for none.

        Returns:
            ``[*n, 2]``.
        """
        velocity = np.asarray(observations["velocity"])
        images = np.asarray(observations["image"])
        rows = images.reshape(-1, *images.shape[-3:])
        speeds = velocity.reshape(-1, 2)
        actions = [
            self._act_on_one(image, speed, generator)
            for image, speed in zip(rows, speeds, strict=True)
        ]
        return np.array(actions, np.float32).reshape(velocity.shape)

    def _act_on_one(
        self, image: np.ndarray, velocity: np.ndarray, generator: np.random.Generator | None
    ) -> np.ndarray:
        controller = self._controller(image[..., WALL])
        pixels = len(image) / max(controller.maze.walls.shape)
        state = np.concatenate(
            [
                # In cells from the upper left corner, as metres: y falls with the row.
                seen_place(image[..., POINT]) / pixels * (1, -1),
                velocity,
                seen_place(image[..., GOAL]) / pixels * (1, -1),
            ]
        )
        return controller(state[None], 0, generator)[0]

    def _controller(self, walls: np.ndarray) -> WaypointController:
        key = walls.tobytes()
        if key not in self._controllers:
            # A cell of PointMaze is 1 m wide.
            maze = Maze(seen_walls(walls), cell_size=1.0, x_center=0.0, y_center=0.0)
            self._controllers[key] = WaypointController(
                maze, position=(0, 1), velocity=(2, 3), goal=(4, 5), **self.settings
            )
        return self._controllers[key]


def seen_place(channel: np.ndarray) -> np.ndarray:
    """Column and row of the middle of what is bright, in pixels from the outer edges."""
    bright = channel.astype(np.float64)
    middles = np.arange(len(channel)) + 0.5
    return np.array([bright.sum(0) @ middles, bright.sum(1) @ middles]) / max(bright.sum(), 1.0)


def seen_walls(channel: np.ndarray) -> np.ndarray:
    """Which cells are wall: the coarsest square grid that is drawn like the image.

    Raises:
        ValueError: if no grid is.
    """
    size = len(channel)
    for cells in range(2, MOST_CELLS + 1):
        middles = ((np.arange(cells) + 0.5) * size / cells).astype(int)
        grid: np.ndarray = channel[np.ix_(middles, middles)] > 127
        if (wall_pixels(grid, size) == channel).all():
            return grid
    raise ValueError(f"the image shows no maze of at most {MOST_CELLS} rows and columns")
