"""The combination lock: H steps, one right action in each, and a reward at the very end or never.

A chain on which exploration that knows nothing needs a number of episodes that is exponential in H
(Koenig and Simmons 1993, "Complexity analysis of real-time reinforcement learning"; Uchendu et al.
2023, arXiv 2204.02372, "Theoretical analysis"). Nothing is random in it: the combination
follows from a number of its own, and not from the seed of a reset.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Int
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.streams import seed_sequence
from jsrl.envs.registration import LONGEST_LOCK


def combination_of(seed: int, horizon: int, actions: int) -> Int[NDArray[np.int64], " H"]:
    """The right action of each step, drawn evenly.

    The combination of a shorter lock is the beginning of that of a longer one.

    Args:
        seed: of the combination.
        horizon: H.
        actions: A.
    """
    return np.random.default_rng(seed_sequence(seed, "lock")).integers(actions, size=horizon)


class LockEnv(gym.Env[np.int64, np.int64]):
    """A lock of H dials that are set one after the other, with A positions each.

    An episode has H steps, and ends by terminating. Until the first wrong action the observation
    is t, the number of right actions so far, from 0 to H. From then on it is H + t, from H + 1 to
    2·H, and nothing opens the lock any more. The reward is 1 in the last step if all actions were
    right, and else 0; ``info["success"]`` says the same.

    Args:
        horizon: H, the number of steps, from 1 to ``LONGEST_LOCK``.
        actions: A, at least 2.
        combination_seed: a whole number from 0 on from which the right actions follow.
        render_mode: ``ansi`` lets ``render`` return a line of text, None nothing.

    Raises:
        UserError: if a number is out of range.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # as Gymnasium means it
        "render_modes": ["ansi"],
        "render_fps": 4,
    }

    def __init__(
        self,
        horizon: int = 10,
        actions: int = 2,
        combination_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        _whole("horizon", horizon, 1, LONGEST_LOCK)
        _whole("actions", actions, 2)
        _whole("combination_seed", combination_seed, 0)
        self.horizon, self.actions = horizon, actions
        self.combination = combination_of(combination_seed, horizon, actions)
        """The right action of each step, ``[H]``."""
        self.observation_space = spaces.Discrete(2 * horizon + 1)
        self.action_space = spaces.Discrete(actions)
        self.render_mode = render_mode
        self._time = 0
        self._lost = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Start anew; every episode begins alike, whatever the seed."""
        super().reset(seed=seed)
        self._time, self._lost = 0, False
        return self._state(), {"success": False}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Set the next dial.

        Raises:
            RuntimeError: if the episode is over.
        """
        if self._time == self.horizon:
            raise RuntimeError("the episode is over: call reset before the next step")
        self._lost = self._lost or int(action) != int(self.combination[self._time])
        self._time += 1
        ended = self._time == self.horizon
        opened = ended and not self._lost
        return self._state(), float(opened), ended, False, {"success": opened}

    def render(self) -> Any:
        """How far the lock is; None without render mode."""
        if self.render_mode is None:
            return None
        return f"step {self._time} of {self.horizon}, {'lost' if self._lost else 'right so far'}"

    def _state(self) -> np.int64:
        return np.int64(self._time + self.horizon * self._lost)


def _whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise UserError if an argument is no whole number of its range."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        upper = "on" if most is None else f"to {most}"
        raise UserError(
            f"env.kwargs.{name}={value}: a whole number from {least} {upper} was expected; leave "
            "it out for the default"
        )
