"""Faults to test a monitor with: sensors that fail, and dynamics that have changed.

Sensor faults are Gymnasium wrappers around an environment with flat observations; they change what
the policy sees, and nothing else. Changes of dynamics scale the MuJoCo model of the environment.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.foreign import HoldsAnt, HoldsPoint, Simulated
from jsrl.core.streams import checked_seed, seed_sequence

SENSOR_FAULTS = ("stuck", "biased", "noisy", "dropped", "swapped", "delayed", "rescaled")
DYNAMICS = ("mass", "friction", "gear")
FAULTS = (*SENSOR_FAULTS, *DYNAMICS)


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Args:
        kind: one of ``FAULTS``.
        columns: the columns of the observation that fail; two for ``swapped``, none for dynamics.
        strength: ``stuck``: the value that the columns are held at; ``biased``: what is added;
            ``noisy``: standard deviation of Gaussian noise; ``dropped``: probability of reading 0
            in a step; ``delayed``: steps; ``rescaled`` and dynamics: the factor. ``swapped`` takes
            none.
        seed: the seed of the noise and of what is dropped.

    Raises:
        UserError: if kind, columns or strength do not go together.
    """

    kind: str
    columns: tuple[int, ...] = ()
    strength: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise UserError(
                f"fault.kind={self.kind!r} is unknown; choose one of {', '.join(FAULTS)}"
            )
        checked_seed(self.seed, "fault.seed")
        if not math.isfinite(self.strength):
            raise UserError(f"fault.strength={self.strength} must be a finite number")
        if self.kind in SENSOR_FAULTS and not self.columns:
            raise UserError(f"fault.kind={self.kind} needs fault.columns, such as [0]")
        if self.kind == "swapped" and (len(self.columns) != 2 or len(set(self.columns)) != 2):
            raise UserError(f"fault.kind=swapped needs two columns, got {list(self.columns)}")
        if self.kind == "dropped" and not 0 <= self.strength <= 1:
            raise UserError(f"fault.strength={self.strength} is a probability, in [0, 1]")
        if self.kind == "delayed" and (self.strength < 0 or self.strength % 1):
            raise UserError(f"fault.strength={self.strength} is a number of steps, 0 or more")
        if self.kind in ("noisy", *DYNAMICS) and self.strength < 0:
            raise UserError(f"fault.strength={self.strength} must be at least 0")


def with_fault(env: gym.Env[Any, Any], fault: Fault) -> gym.Env[Any, Any]:
    """The environment with a fault from the first step on.

    Raises:
        UserError: if it has no such columns, or no MuJoCo model.
    """
    if fault.kind in DYNAMICS:
        scale_dynamics(env, fault.kind, fault.strength)
        return env
    return SensorFault(env, fault)


class SensorFault(gym.Wrapper[Any, Any, Any, Any]):
    """Falsifies the observations of an environment; see ``Fault``.

    Args:
        env: an environment with flat observations.
        fault: the fault of a sensor.

    Raises:
        UserError: if the observation has no such columns.
    """

    def __init__(self, env: gym.Env[Any, Any], fault: Fault) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise UserError(
                f"sensor faults are for flat observations, a Box of one axis; got {space}: wrap "
                "the environment in gymnasium.wrappers.FlattenObservation first"
            )
        size = space.shape[0]
        wrong = [column for column in fault.columns if not 0 <= column < size]
        if wrong:
            raise UserError(
                f"fault.columns={list(fault.columns)}: the observation has columns 0 to {size - 1}"
            )
        self.fault = fault
        self._columns = list(fault.columns)
        steps = int(fault.strength) if fault.kind == "delayed" else 0
        self._past: deque[NDArray[Any]] = deque(maxlen=steps + 1)
        self._generator = np.random.default_rng(seed_sequence(fault.seed, "fault"))
        self._falsify = FALSIFIERS[fault.kind]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode; with a seed, its noise follows from that seed and the fault's seed."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._past.clear()
        if seed is not None:
            self._generator = np.random.default_rng(seed_sequence(self.fault.seed, "fault", seed))
        return self._shown(observation), info

    def step(self, action: Any) -> tuple[NDArray[Any], Any, bool, bool, dict[str, Any]]:
        """Take a step, and falsify its observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._shown(observation), reward, terminated, truncated, info

    def _shown(self, observation: NDArray[Any]) -> NDArray[Any]:
        shown = np.array(observation, copy=True)
        values = shown[self._columns]
        if self.fault.kind == "delayed":
            self._past.append(values)
            shown[self._columns] = self._past[0]
        else:
            shown[self._columns] = self._falsify(values, self.fault.strength, self._generator)
        return shown


Falsifier = Callable[[NDArray[Any], float, np.random.Generator], NDArray[Any]]


def _dropped(
    values: NDArray[Any], probability: float, generator: np.random.Generator
) -> NDArray[Any]:
    return np.where(generator.random(values.shape) < probability, 0.0, values)


FALSIFIERS: dict[str, Falsifier] = {
    "stuck": lambda values, strength, _: np.full_like(values, strength),
    "biased": lambda values, strength, _: values + strength,
    "noisy": lambda values, strength, generator: (
        values + strength * generator.standard_normal(values.shape)
    ),
    "dropped": _dropped,
    "swapped": lambda values, *_: values[::-1],
    "delayed": lambda values, *_: values,
    "rescaled": lambda values, strength, _: values * strength,
}


def scale_dynamics(env: gym.Env[Any, Any], kind: str, factor: float) -> None:
    """Multiply mass and inertia of all bodies, sliding friction, or all gears, by a factor.

    Raises:
        UserError: if the environment has no MuJoCo model, or none of its contacts has friction.
    """
    import mujoco

    model = mujoco_model(env)
    if kind == "mass":
        model.body_mass[:] *= factor
        model.body_inertia[:] *= factor
        # The simulator keeps numbers that follow from the masses.
        mujoco.mj_setConst(model, mujoco.MjData(model))
    elif kind == "friction":
        if (model.geom_condim == 1).all():
            raise UserError(
                f"fault.kind=friction: contacts of {env.unwrapped} have no friction (condim 1), so "
                "that nothing would change; choose another fault"
            )
        model.geom_friction[:, 0] *= factor
    else:
        model.actuator_gear[:] *= factor


def mujoco_model(env: gym.Env[Any, Any]) -> Any:
    """The model that an environment simulates, or the robot inside of a maze.

    Raises:
        UserError: if there is none.
    """
    own: Any = env.unwrapped
    holders = [own]
    if isinstance(own, HoldsPoint):
        holders.append(own.point_env)
    if isinstance(own, HoldsAnt):
        holders.append(own.ant_env)
    for holder in holders:
        if isinstance(holder, Simulated) and hasattr(holder.model, "body_mass"):
            return holder.model
    raise UserError(
        f"{env.unwrapped} has no MuJoCo model whose mass, friction or gear could be changed; "
        f"choose a sensor fault: {', '.join(SENSOR_FAULTS)}"
    )
