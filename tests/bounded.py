"""A small environment with whatever action bounds it is given, which remembers what it took."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

BOUNDS: dict[str, tuple[list[float], list[float], list[int]]] = {
    "twice": ([-2.0, -2.0], [2.0, 2.0], [2]),
    "weak": ([-0.4, -0.4], [0.4, 0.4], [2]),
    "asymmetric": ([0.0, 0.0], [3.0, 3.0], [2]),
    "mixed": ([-2.0, 0.0], [2.0, 3.0], [2]),
    "matrix": ([-1.0, -2.0, 0.0, -0.4], [1.0, 2.0, 3.0, 0.4], [2, 2]),
    "unit": ([-1.0, -1.0], [1.0, 1.0], [2]),
}
"""Lower bounds, upper bounds and the shape of an action."""

ID = "jsrl-tests/Bounded-v0"
LIMIT = 8


class Bounded(gym.Env[Any, Any]):
    """Observes three numbers; the reward is the share of the range at which it is driven.

    Args:
        low: lower bound of each number of an action.
        high: the upper ones.
        shape: of an action.
        dictionary: observe a dictionary of two parts.
    """

    taken: ClassVar[list[np.ndarray]] = []

    def __init__(
        self,
        low: Any = (-2.0, -2.0),
        high: Any = (2.0, 2.0),
        shape: Any = (2,),
        dictionary: bool = False,
    ) -> None:
        lower, upper = (np.array(b, np.float32).reshape(*shape) for b in (low, high))
        self.action_space = gym.spaces.Box(lower, upper, dtype=np.float32)
        self.dictionary = dictionary
        box = gym.spaces.Box(-1, 1, (3,), np.float32)
        clock = gym.spaces.Box(0, LIMIT, (1, 2), np.float64)
        self.observation_space: Any = (
            gym.spaces.Dict({"state": box, "clock": clock}) if dictionary else box
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        Bounded.taken.append(np.array(action))
        self.clock += 1
        low, high = self.action_space.low, self.action_space.high  # type: ignore[attr-defined]
        share = float(((action - low) / (high - low)).mean())
        return self._observe(), share, False, False, {"success": share > 0.9}

    def _observe(self) -> Any:
        state = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        if not self.dictionary:
            return state
        return {"state": state, "clock": np.array([[self.clock, -self.clock]], np.float64)}


def register() -> None:
    """Make it known to Gymnasium."""
    if ID not in gym.registry:
        gym.register(ID, Bounded, max_episode_steps=LIMIT)


def bounded(name: str, **kwargs: Any) -> dict[str, Any]:
    """Keyword arguments of the environment with bounds ``name``."""
    low, high, shape = BOUNDS[name]
    return {"low": low, "high": high, "shape": shape, **kwargs}


def overrides(name: str, **kwargs: Any) -> list[str]:
    """What makes ``jsrl train`` use it."""
    values = {**bounded(name), **kwargs}
    return ["env=gymnasium", f"env.id={ID}", *(f"env.kwargs.{k}={v}" for k, v in values.items())]


register()
