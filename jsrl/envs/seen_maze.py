"""A point maze that is seen from above: the observation is an image and the point's velocity.

The task is gymnasium-robotics' PointMaze (Fu et al. 2020, arXiv 2004.07219, section 4): a ball is
pushed through a maze to a goal. Neither the ball's position nor the goal's is in the observation,
so that a policy has to read both off the image.

The image is drawn by NumPy from the state, and not by a renderer: it needs no graphics card, takes
less time than a step of the simulation, and has the same bytes on every machine for the same state.
"""

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.envs.lookup import register_robotics
from jsrl.envs.mazes import Maze

POINT, GOAL, WALL = 0, 1, 2
"""The colour channels: the point is red, the goal green, walls blue, and the floor black."""

MAPS: dict[str, str | tuple[tuple[int | str, ...], ...]] = {
    "umaze": (
        (1, 1, 1, 1, 1),
        (1, "r", "r", 0, 1),
        (1, 1, 1, 0, 1),
        (1, "g", "g", 0, 1),
        (1, 1, 1, 1, 1),
    ),
    "medium": "MEDIUM_MAZE",
}
"""The mazes by name: a map, or the name of one of gymnasium-robotics. 1 is a wall, r a start, g a
goal, and 0 neither; without r and g every free cell is both."""

SMALLEST_IMAGE = 8
SUBCOLUMNS = 16
"""Into how many strips a pixel is cut for the area that a disc covers of it."""
UNIT = 4096
"""In what fraction of a strip its covered length is rounded."""

Image = UInt8[NDArray[np.uint8], "size size 3"]
SeenObservation = dict[str, Any]


class SeenMazeEnv(gym.Env[SeenObservation, NDArray[np.float32]]):
    """PointMaze, observed as ``image`` uint8 ``[size, size, 3]`` and ``velocity`` ``[2]`` in m/s.

    Rewards, ends and ``info["success"]`` are PointMaze's, which is ``point_maze``; with the
    defaults the reward is 1 within 0.45 m of the goal, where the episode terminates, and else 0.
    The image has a colour channel for each thing, see ``MazeDrawing``.

    Args:
        maze: a key of ``MAPS``.
        maze_map: rows of cells in place of the map of that name, as PointMaze takes them.
        image_size: height and width of the image, pixels.
        point_radius: of the disc that shows the point, metres; a cell is 1 m wide.
        goal_radius: of the disc that shows the goal, metres.
        continuing_task: whether the episode goes on at the goal, as PointMaze has it.
        render_mode: ``rgb_array`` lets ``render`` return the image, None nothing.
        **kwargs: of gymnasium-robotics' ``PointMazeEnv``, such as ``reward_type``.

    Raises:
        UserError: if there is no such maze, or a size is too small.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # as Gymnasium means it
        "render_modes": ["rgb_array"],
        "render_fps": 50,
    }

    def __init__(
        self,
        maze: str = "umaze",
        maze_map: Sequence[Sequence[int | str]] | None = None,
        image_size: int = 64,
        point_radius: float = 0.2,
        goal_radius: float = 0.3,
        continuing_task: bool = False,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        if maze not in MAPS:
            raise UserError(
                f"env.kwargs.maze={maze!r}: there is no such maze; choose one of {', '.join(MAPS)}"
            )
        # Its package prints notices on import; this keeps them quiet.
        register_robotics()
        module = importlib.import_module("gymnasium_robotics.envs.maze.point_maze")
        self.point_maze: Any = module.PointMazeEnv(
            maze_map=_map(maze) if maze_map is None else [list(row) for row in maze_map],
            continuing_task=continuing_task,
            **kwargs,
        )
        self.maze = Maze.from_env(self.point_maze)
        self.drawing = MazeDrawing(self.maze, image_size, point_radius, goal_radius)
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                "velocity": spaces.Box(-np.inf, np.inf, (2,), np.float64),
            }
        )
        self.action_space = self.point_maze.action_space
        self.render_mode = render_mode
        self._image: Image | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[SeenObservation, dict[str, Any]]:
        """Start anew.

        Args:
            seed: of start and goal; the same seed starts as in PointMaze.
            options: of PointMaze: ``goal_cell`` and ``reset_cell``, each a row and a column.
        """
        super().reset(seed=seed)
        observation, info = self.point_maze.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(
        self, action: NDArray[np.floating[Any]]
    ) -> tuple[SeenObservation, float, bool, bool, dict[str, Any]]:
        """Act for 0.01 s with two forces in [-1, 1]; beyond, they are clipped."""
        observation, reward, terminated, truncated, info = self.point_maze.step(action)
        return self._seen(observation), float(reward), terminated, truncated, info

    def render(self) -> Any:
        """The image as it is observed now; None before the first reset, or without render mode."""
        if self.render_mode is None or self._image is None:
            return None
        return self._image.copy()

    def close(self) -> None:
        self.point_maze.close()

    def _seen(self, observation: dict[str, NDArray[np.float64]]) -> SeenObservation:
        state = observation["observation"]
        # Not the goal of the observation: PointMaze may have moved it since, at the goal.
        self._image = self.drawing.draw(state[:2], self.point_maze.goal)
        return {"image": self._image.copy(), "velocity": state[2:]}


class MazeDrawing:
    """Draws a maze from above: walls, goal and point, each into a colour channel of its own.

    Each byte is the part of its pixel that the thing covers, times 255. So edges are soft, and a
    thing's place can be read to a small part of a pixel, by the mean of its channel for example;
    nothing hides anything. The maze fills the square; what it leaves of it is drawn as wall.

    Args:
        maze: the maze; the larger of its numbers of rows and columns fills the image.
        size: height and width of the image, pixels.
        point_radius: metres.
        goal_radius: metres.

    Raises:
        UserError: if the size is below ``SMALLEST_IMAGE``, or a radius is not above 0.
    """

    def __init__(self, maze: Maze, size: int, point_radius: float, goal_radius: float) -> None:
        if size < SMALLEST_IMAGE:
            raise UserError(
                f"env.kwargs.image_size={size}: at least {SMALLEST_IMAGE} pixels were expected; "
                "choose 64, for example"
            )
        for name, radius in (("point_radius", point_radius), ("goal_radius", goal_radius)):
            if not radius > 0:
                raise UserError(
                    f"env.kwargs.{name}={radius}: a length above 0 was expected, in metres; a cell "
                    f"is {maze.cell_size:g} m wide"
                )
        self.maze, self.size = maze, size
        cells = max(maze.walls.shape)
        self.pixels_per_metre = size / (cells * maze.cell_size)
        self._radii = point_radius * self.pixels_per_metre, goal_radius * self.pixels_per_metre
        rows, columns = maze.walls.shape
        self._margin = (
            (cells - columns) * size / (2 * cells),
            (cells - rows) * size / (2 * cells),
        )
        self._walls: Image = np.zeros((size, size, 3), np.uint8)
        self._walls[..., WALL] = wall_pixels(maze.walls, size)
        self._goal: tuple[float, float] | None = None
        self._background = self._walls

    def pixel(self, xy: Float[NDArray[np.float64], " 2"]) -> tuple[float, float]:
        """Where a position (metres) is in the image: column and row, from its outer edges."""
        scale, maze = self.pixels_per_metre, self.maze
        x, y = map(float, xy)
        column = (x + maze.x_center) * scale + self._margin[0]
        row = (y * maze.y_direction + maze.y_center) * scale + self._margin[1]
        return column, row

    def draw(
        self, point: Float[NDArray[np.float64], " 2"], goal: Float[NDArray[np.float64], " 2"]
    ) -> Image:
        """The image for the positions of point and goal, x and y in metres."""
        there = (float(goal[0]), float(goal[1]))
        if there != self._goal:
            # The goal rests during an episode.
            self._background = self._walls.copy()
            draw_disc(self._background[..., GOAL], self.pixel(goal), self._radii[1])
            self._goal = there
        image = self._background.copy()
        draw_disc(image[..., POINT], self.pixel(point), self._radii[0])
        return image


def wall_pixels(walls: NDArray[np.bool_], size: int) -> Int[NDArray[np.int64], "size size"]:
    """The part of each pixel that is wall, times 255 and rounded; in whole numbers throughout.

    Args:
        walls: ``[rows, columns]``, True where a cell is wall.
        size: height and width of the image, pixels.
    """
    cells = max(walls.shape)
    free_rows, free_columns = (_overlaps(count, cells, size) for count in walls.shape)
    # A pixel is 2 * cells units wide, so that its area is the square of that.
    free = free_rows @ (~walls).astype(np.int64) @ free_columns.T
    area = (2 * cells) ** 2
    pixels: NDArray[np.int64] = ((area - free) * 255 + area // 2) // area
    return pixels


def _overlaps(count: int, cells: int, size: int) -> Int[NDArray[np.int64], "size count"]:
    """How much of each pixel of a line lies in each of ``count`` cells in its middle.

    A pixel is ``2 * cells`` units long and a cell ``2 * size``, so that no cell and no margin ends
    within a unit.
    """
    pixel = np.arange(size)[:, None] * 2 * cells
    cell = np.arange(count)[None] * 2 * size + (cells - count) * size
    return (np.minimum(pixel + 2 * cells, cell + 2 * size) - np.maximum(pixel, cell)).clip(0)


def draw_disc(
    channel: UInt8[NDArray[np.uint8], "H W"], centre: tuple[float, float], radius: float
) -> None:
    """Write the part of each pixel that a disc covers, times 255, where the disc is.

    Each pixel is cut into ``SUBCOLUMNS`` upright strips, in which the covered length is exact. The
    lengths are rounded before they are summed, so that the order of the sum does not matter.

    Args:
        channel: is written to; parts of the disc beyond its edges are left out.
        centre: column and row, in pixels from the outer edges.
        radius: in pixels.
    """
    (left, right), (top, bottom) = (
        (max(int(np.floor(c - radius)), 0), min(int(np.ceil(c + radius)), length))
        for c, length in zip(centre, channel.shape[::-1], strict=True)
    )
    if left >= right or top >= bottom:
        return
    strips = np.arange(left * SUBCOLUMNS, right * SUBCOLUMNS)
    across = (strips + 0.5) / SUBCOLUMNS - centre[0]
    half = np.sqrt(np.maximum(radius * radius - across * across, 0.0))
    row = np.arange(top, bottom)[:, None]
    covered = np.minimum(centre[1] + half, row + 1) - np.maximum(centre[1] - half, row)
    lengths = np.floor(np.maximum(covered, 0.0) * UNIT + 0.5).astype(np.int64)
    summed = lengths.reshape(bottom - top, right - left, SUBCOLUMNS).sum(-1)
    whole = SUBCOLUMNS * UNIT
    channel[top:bottom, left:right] = (summed * 255 + whole // 2) // whole


def _map(name: str) -> list[list[int | str]]:
    found = MAPS[name]
    if isinstance(found, str):
        found = getattr(importlib.import_module("gymnasium_robotics.envs.maze.maps"), found)
    return [list(row) for row in found]
