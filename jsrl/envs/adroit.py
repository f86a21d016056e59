"""Adroit hand tasks with a binary reward: -1 until the task is solved, then 0.

A hand of 24 joints opens a door, turns a pen, or carries a ball (Rajeswaran et al. 2018, arXiv
1709.10087). The binary reward is that of Nair et al. 2020 (arXiv 2006.09359): it pays for the state
of this step alone, so a door that falls shut again pays -1 again, and the episode goes on to its
time limit. Robot, observations and success are those of gymnasium-robotics' ``AdroitHand*-v1``.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.envs.lookup import register_robotics

REWARDS = {"minus_one_zero": (-1.0, 0.0), "zero_one": (0.0, 1.0)}
"""What a step pays while the task is not solved, and while it is."""

Observations = Float[NDArray[np.floating[Any]], "N O"]
Flags = Bool[NDArray[np.bool_], " N"]


def _door_is_open(observations: Observations) -> Flags:
    """The door's hinge (column 28) stands at 1.35 rad or more."""
    return observations[:, 28] >= 1.35


def _pen_is_turned(observations: Observations) -> Flags:
    """The pen is within 0.075 m of its place, the cosine of the angle to its goal above 0.95."""
    distance = np.linalg.norm(observations[:, 39:42], axis=-1)
    cosine = (observations[:, 33:36] * observations[:, 36:39]).sum(-1)
    return (distance < 0.075) & (cosine > 0.95)


def _ball_is_there(observations: Observations) -> Flags:
    """The ball is within 0.1 m of its goal."""
    return np.linalg.norm(observations[:, 36:39], axis=-1) < 0.1


SOLVED: dict[str, Callable[[Observations], Flags]] = {
    "door": _door_is_open,
    "pen": _pen_is_turned,
    "relocate": _ball_is_there,
}
"""gymnasium-robotics' conditions for success, each a function of the observation alone."""


@dataclass(frozen=True)
class BinaryTask:
    """What a task asks for and what it pays.

    Args:
        name: ``door``, ``pen`` or ``relocate``.
        reward: a key of ``REWARDS``.
        end_on_success: the episode terminates when the task is solved.

    Raises:
        UserError: if there is no such task or reward.
    """

    name: str
    reward: str = "minus_one_zero"
    end_on_success: bool = False

    def __post_init__(self) -> None:
        if self.name not in SOLVED:
            raise UserError(f"Adroit has no task {self.name!r}; choose one of {', '.join(SOLVED)}")
        if self.reward not in REWARDS:
            raise UserError(
                f"env.kwargs.reward={self.reward!r} is unknown; choose one of {', '.join(REWARDS)}"
            )

    def solved(self, observations: Observations) -> Flags:
        """In which of the observed states the task is solved."""
        return SOLVED[self.name](observations)

    def rewards(self, solved: Flags) -> Float[NDArray[np.float64], " N"]:
        """What steps pay that lead to states in which the task is solved, or is not."""
        before, after = REWARDS[self.reward]
        return np.where(solved, after, before)


class AdroitBinaryEnv(gym.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One of gymnasium-robotics' Adroit hands, paid by success.

    The hand itself, with its simulation and ``get_env_state``, is ``hand``.

    Args:
        task: ``door``, ``pen`` or ``relocate``.
        reward: ``minus_one_zero`` or ``zero_one``, see ``REWARDS``.
        end_on_success: terminate when the task is solved.
        **kwargs: of the hand, such as ``render_mode``.

    Raises:
        UserError: if there is no such task or reward.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # as Gymnasium means it
        "render_modes": ["human", "rgb_array", "depth_array"],
        "render_fps": 100,
    }

    def __init__(
        self,
        task: str,
        reward: str = "minus_one_zero",
        end_on_success: bool = False,
        **kwargs: Any,
    ) -> None:
        self.task = BinaryTask(task, reward, end_on_success)
        # Its package prints notices on import; this keeps them quiet.
        register_robotics()
        module = importlib.import_module(f"gymnasium_robotics.envs.adroit_hand.adroit_{task}")
        self.hand: Any = getattr(module, f"AdroitHand{task.capitalize()}Env")(
            reward_type="sparse", **kwargs
        )
        self.observation_space = self.hand.observation_space
        self.action_space = self.hand.action_space
        self.render_mode = self.hand.render_mode

    def step(
        self, action: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Act for 0.01 s with joint positions in [-1, 1] of their ranges; beyond, they are clipped.

        ``info["success"]`` says whether the task is solved now.
        """
        observation, _, _, _, info = self.hand.step(action)
        success = bool(info["success"])
        reward = float(self.task.rewards(np.array([success]))[0])
        terminated = success and self.task.end_on_success
        return observation, reward, terminated, False, {**info, "success": success}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start anew.

        Args:
            seed: of where door, pen or ball and goal are.
            options: ``initial_state_dict``: a state, as the hand's ``set_env_state`` takes it, in
                place of what is drawn.
        """
        super().reset(seed=seed)
        observation: NDArray[np.float64]
        observation, info = self.hand.reset(seed=seed, options=options)
        return observation, {**info, "success": False}

    def render(self) -> Any:
        return self.hand.render()

    def close(self) -> None:
        self.hand.close()
