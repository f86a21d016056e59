"""D4RL's AntMaze on current MuJoCo: an ant walks through a maze to a goal that it does not see.

Fu et al. 2020 (arXiv 2004.07219), section 4 and appendix C. Physics, maze maps, coordinates, noise
and actions are D4RL's, so that a policy trained on one of its files acts rightly here. What differs
from gymnasium-robotics' AntMaze, and makes D4RL's data useless there: a softer contact and motors
of ±30 Nm, y that grows with the row of the map, and the start cell at the origin.
"""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs import mujoco as gymnasium_mujoco
from gymnasium.envs.mujoco import MujocoEnv
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.envs.mazes import Maze

MAPS = {
    "umaze": ("#####", "#R..#", "###.#", "#G..#", "#####"),
    "medium": (
        "########",
        "#R.##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#.G#",
        "########",
    ),
    "large": (
        "############",
        "#R...#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#.G.#",
        "############",
    ),
}
"""D4RL's evaluation mazes: # is wall, R the start cell, G the goal cell."""

CELL_SIZE = 4.0
WALL_HEIGHT = 2.0
GOAL_RADIUS = 0.5
TORQUE = 30.0
FRAME_SKIP = 5


class AntMazeEnv(MujocoEnv):
    """The ant in the maze, with D4RL's observation: 15 positions and 14 velocities.

    The episode terminates at the goal, with reward 1; every other reward is 0. The ant never is
    unhealthy.

    Args:
        maze: a key of ``MAPS``.
        fixed_goal: draw the goal once for this instance, as D4RL -v0, and not at every reset, as
            D4RL -v2.
        **kwargs: of Gymnasium's ``MujocoEnv``, such as ``render_mode``.

    Raises:
        UserError: if there is no such maze.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # as Gymnasium means it
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": 10,
    }

    def __init__(self, maze: str = "umaze", fixed_goal: bool = False, **kwargs: Any) -> None:
        if maze not in MAPS:
            raise UserError(f"AntMaze has no maze {maze!r}; choose one of {', '.join(MAPS)}")
        self.maze = antmaze_map(maze)
        self.goal_cell_centre = cell_centre(maze, "G")
        self.target_goal: Float[NDArray[np.float64], " 2"] = self.goal_cell_centre
        self._fixed_goal = fixed_goal
        self._goal_drawn = False
        super().__init__(
            str(_ASSET),
            FRAME_SKIP,
            observation_space=spaces.Box(-np.inf, np.inf, (29,), np.float64),
            default_camera_config={"distance": 8 * CELL_SIZE, "elevation": -60},
            **kwargs,
        )

    def step(  # type: ignore[override]  # MujocoEnv is typed for the rewards of one robot
        self, action: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Act for 0.1 s with eight torques in [-1, 1] of the ±30 Nm that the motors have."""
        if np.shape(action) != self.action_space.shape:
            raise ValueError(f"the action has shape {np.shape(action)}; expected (8,)")
        success = self.simulate(action)
        self._show()
        return self.observation(), float(success), success, False, {"success": success}

    def simulate(self, action: NDArray[np.floating[Any]]) -> bool:
        """What ``step`` simulates, without the rest: whether the ant is at the goal now."""
        data = self.data
        data.ctrl[:] = action
        data.ctrl *= TORQUE
        mujoco.mj_step(self.model, data, nstep=self.frame_skip)
        (x, y), goal = data.qpos[:2], self.target_goal
        return math.hypot(x - goal[0], y - goal[1]) <= GOAL_RADIUS

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start in the start cell.

        Args:
            seed: of the start and the goal.
            options: ``start`` and ``goal``: x and y in metres, in place of what is drawn.
        """
        gym.Env.reset(self, seed=seed)
        given = options or {}
        if given.get("goal") is not None:
            self._set_goal(np.asarray(given["goal"], dtype=np.float64))
        elif not (self._fixed_goal and self._goal_drawn):
            self._set_goal(self.goal_cell_centre + goal_noise(self.np_random))
        self._goal_drawn = True
        mujoco.mj_resetData(self.model, self.data)
        position, velocity = self._start()
        if given.get("start") is not None:
            position[:2] = given["start"]
        self.set_state(position, velocity)  # type: ignore[no-untyped-call]
        self._show()
        return self.observation(), {"success": False}

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]

    def _start(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """D4RL's noise on every coordinate: ±0.1 on positions, normal with 0.1 on velocities."""
        position = self.init_qpos + self.np_random.uniform(-0.1, 0.1, self.model.nq)
        velocity = self.init_qvel + 0.1 * self.np_random.standard_normal(self.model.nv)
        return position, velocity

    def _set_goal(self, goal: Float[NDArray[np.float64], " 2"]) -> None:
        self.target_goal = goal
        self.model.site("target").pos[:2] = goal

    def observation(self) -> Float[NDArray[np.float64], " 29"]:
        """The 15 positions, then the 14 velocities."""
        return np.concatenate([self.data.qpos, self.data.qvel])

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        # From text and not from a file: nothing is left behind, and nothing can collide.
        model = mujoco.MjModel.from_xml_string(_model_xml(self.maze))
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def _set_action_space(self) -> spaces.Box:
        self.action_space = spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)
        return self.action_space


def antmaze_map(name: str) -> Maze:
    """One of ``MAPS`` in D4RL's coordinates: the start cell's centre is the origin."""
    rows = MAPS[name]
    start_row, start_column = _find(rows, "R")
    return Maze(
        walls=np.array([[cell == "#" for cell in row] for row in rows]),
        cell_size=CELL_SIZE,
        x_center=(start_column + 0.5) * CELL_SIZE,
        y_center=(start_row + 0.5) * CELL_SIZE,
        y_direction=1,
    )


def cell_centre(name: str, letter: str) -> Float[NDArray[np.float64], " 2"]:
    """x and y in metres of the cell that is marked with a letter."""
    row, column = _find(MAPS[name], letter)
    maze = antmaze_map(name)
    return maze.centres(np.array([row * maze.walls.shape[1] + column]))[0]


def goal_noise(generator: np.random.Generator) -> Float[NDArray[np.float64], " 2"]:
    """D4RL's offset of a goal from the centre of its cell, metres: two uniform draws an axis."""
    return generator.uniform(0, 1, 2) + generator.uniform(0, 0.5, 2)


def mean_goal(env: AntMazeEnv) -> Float[NDArray[np.float64], " 2"]:
    """The middle of where the goal may be, metres."""
    return env.goal_cell_centre + 0.75


def _find(rows: tuple[str, ...], letter: str) -> tuple[int, int]:
    row = next(index for index, cells in enumerate(rows) if letter in cells)
    return row, rows[row].index(letter)


def _model_xml(maze: Maze) -> str:
    """Gymnasium's ant with D4RL's physics, in a maze of boxes."""
    tree = ElementTree.parse(_ASSET)
    root = tree.getroot()
    _part(root, "option").set("timestep", "0.02")
    geom = _part(root, "default/geom")
    geom.set("solref", ".02 1")
    geom.set("solimp", ".8 .8 .01")
    for motor in root.findall("actuator/motor"):
        motor.set("gear", "1")
        motor.set("ctrlrange", f"{-TORQUE} {TORQUE}")
    world = _part(root, "worldbody")
    for cell in np.flatnonzero(maze.walls):
        x, y = maze.centres(np.array([cell]))[0]
        ElementTree.SubElement(
            world,
            "geom",
            name="block_{}_{}".format(*divmod(int(cell), maze.walls.shape[1])),
            type="box",
            pos=f"{x} {y} {WALL_HEIGHT / 2}",
            size=f"{CELL_SIZE / 2} {CELL_SIZE / 2} {WALL_HEIGHT / 2}",
            contype="1",
            conaffinity="1",
            rgba="0.7 0.5 0.3 1",
        )
    ElementTree.SubElement(
        world,
        "site",
        name="target",
        type="sphere",
        pos=f"0 0 {GOAL_RADIUS}",
        size=str(GOAL_RADIUS),
        rgba="1 0 0 0.7",
    )
    return ElementTree.tostring(root, encoding="unicode")


def _part(root: ElementTree.Element, path: str) -> ElementTree.Element:
    found = root.find(path)
    assert found is not None, f"{_ASSET} has no {path}"
    return found


_ASSET = Path(gymnasium_mujoco.__file__).parent / "assets" / "ant.xml"
