"""A scripted guide for the point mazes of gymnasium-robotics: the shortest path, cell by cell.

The mazes are those of D4RL (Fu et al. 2020, arXiv 2004.07219), whose data was collected by such a
controller too. This one keeps no memory: its action is a function of the observation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least
from jsrl.core.specs import EnvSpec
from jsrl.envs.make import make_env
from jsrl.envs.mazes import Maze
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.view import GuideView


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
    parts = {name: (start, stop) for name, start, stop in spec.observation.layout}
    sizes = {name: stop - start for name, (start, stop) in parts.items()}
    if sizes.get("observation") != 4 or sizes.get("desired_goal") != 2 or spec.actions.size != 2:
        raise UserError(
            f"guide=waypoint steers a point by two forces; env.id={spec.id} has the observation "
            f"sizes {sizes} and {spec.actions.size} actions; expected observation 4, "
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


@dataclass
class WaypointOptions(GuideOptions):
    """Of ``guide=waypoint``: the controller."""

    # Standard deviation of Gaussian noise on its actions.
    noise: float = 0.0
    # On the distance to the next point.
    proportional_gain: float = 3.0
    # On the velocity.
    derivative_gain: float = 0.5

    neutral = (("noise", 0),)

    def check(self) -> None:
        super().check()
        at_least("guide.noise", self.noise, 0)


@guides.register("waypoint", WaypointOptions)
def make_waypoint(options: WaypointOptions, inputs: GuideInputs) -> ForeignGuide:
    """The controller for the maze of the environment."""
    example = make_env(inputs.env)
    try:
        return waypoint_guide(
            example,
            inputs.spec,
            len(inputs.seeds),
            noise=options.noise,
            proportional_gain=options.proportional_gain,
            derivative_gain=options.derivative_gain,
        )
    finally:
        example.close()
