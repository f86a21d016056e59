"""What an environment is given in a step, the actions that it declares, and what it answers."""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.specs import DiscreteActions
from jsrl.envs.observing import Unreadable
from jsrl.envs.spaces import require_actions, shown, size


class UnitActions(gym.ActionWrapper[Any, Any, Any]):
    """Takes actions ``[A]`` in [-1, 1] and hands on those that the environment declares.

    -1 becomes the lower bound and 1 the upper one, exactly. What is handed on lies within the
    bounds, has the declared shape and dtype, and is an array of its own: an environment that
    writes into its action changes nothing elsewhere. Bounds of -1 and 1 are mapped to themselves.

    Args:
        env: with Box actions.
        env_id: its name, for messages.

    Raises:
        UserError: if its action space is not supported.
    """

    def __init__(self, env: gym.Env[Any, Any], env_id: str) -> None:
        super().__init__(env)
        own = require_actions(env.action_space, env_id)
        self.action_space = spaces.Box(-1.0, 1.0, (size(own),), np.float32)
        self._dtype, self._shape = own.dtype, own.shape
        self._low: NDArray[Any] = own.low.ravel()
        self._high: NDArray[Any] = own.high.ravel()
        self._unit = bool((self._low == -1).all() and (self._high == 1).all())
        self._bounds = self._low.astype(np.float64), self._high.astype(np.float64)

    def action(self, action: Float[NDArray[np.floating[Any]], " A"]) -> NDArray[Any]:
        """The environment's own action."""
        given = np.asarray(action)
        if self._unit:
            own = given.astype(self._dtype)
        else:
            # In float64, as a sum of shares of the bounds: their difference could overflow.
            share, (low, high) = 0.5 * (given.astype(np.float64) + 1.0), self._bounds
            own = ((1.0 - share) * low + share * high).astype(self._dtype)
        # Rounding to the dtype may have carried it outside.
        return np.minimum(np.maximum(own, self._low), self._high).reshape(self._shape)


class Choices(gym.ActionWrapper[Any, Any, Any]):
    """Takes choices from 0 to n - 1, and hands on those that the environment numbers otherwise.

    Args:
        env: with Discrete actions.
        actions: what they are.
    """

    def __init__(self, env: gym.Env[Any, Any], actions: DiscreteActions) -> None:
        super().__init__(env)
        self.action_space = spaces.Discrete(actions.n)
        self._start = actions.start

    def action(self, action: Any) -> int:
        """The environment's own number."""
        return int(action) + self._start


TERMINATED = "terminated"
"""What ``env.success_key`` says where every end but a time limit's is a success."""

SUCCESS, FAULT, ADVICE = "success", "fault", "advice"
"""The entries of ``info`` that ``PlainSteps`` makes: whether the task is solved, and what is wrong
with an answer and what to do about it."""


class PlainSteps(gym.Wrapper[Any, Any, Any, Any]):
    """Answers with plain numbers, and with nothing but success in ``info``.

    Rewards, ends and success may come as Python numbers, as NumPy scalars, or as arrays or CPU
    tensors with one entry. The rest of ``info`` is left out, since a vector environment stacks what
    several environments say, and what they say may differ in shape from step to step.

    What cannot be read is told as ``info["fault"]`` and not raised: an exception of an environment
    in another process would come with that process's traceback.

    Args:
        env: whose observations are a vector, or what ``ReadObservations`` gives.
        success_key: the entry of ``info`` that says whether the task is solved; ``a.b`` is the
            entry ``b`` of the dictionary ``a`` unless there is an entry of that very name. Without
            an entry ``terminated`` that name says that the task is solved where it ends an episode.
            None: success is not looked for.
    """

    def __init__(self, env: gym.Env[Any, Any], success_key: str | None) -> None:
        super().__init__(env)
        self._key = success_key
        self._space = env.observation_space
        self._info_keys: set[Any] = set()
        self._told = False

    def heard(self) -> tuple[bool, list[str]]:
        """Whether ``info`` ever had the entry for success in a step, and all that it ever had."""
        return self._told, sorted(map(str, self._info_keys))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new episode."""
        try:
            observation, _ = self.env.reset(seed=seed, options=options)
            return self._read_observation(observation), {}
        except Unreadable as error:
            return self._nothing(), _as_info(error)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A step; ``info["success"]`` is a number in [0, 1], where it is told."""
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
            return (
                self._read_observation(observation),
                self._number(reward, "a reward"),
                bool(self._number(terminated, "terminated")),
                bool(self._number(truncated, "truncated")),
                self._read_success(info, terminated),
            )
        except Unreadable as error:
            return self._nothing(), 0.0, False, False, _as_info(error)

    def _read_observation(self, observation: Any) -> Any:
        if not isinstance(self._space, spaces.Box):
            return observation
        array = np.asarray(observation)
        if array.shape != self._space.shape or array.dtype.kind not in "biuf":
            raise Unreadable(
                f"an observation of shape {list(array.shape)} and type {array.dtype}",
                f"its observation space is {shown(self._space)}: let both agree",
            )
        return array

    def _read_success(self, info: Any, terminated: Any) -> dict[str, Any]:
        if not isinstance(info, Mapping):
            return {}
        if not self._info_keys.issuperset(info):
            self._info_keys.update(info)
        if self._key is None:
            return {}
        found, value = _entry(info, self._key)
        if not found and self._key == TERMINATED:
            found, value = True, terminated
        if not found:
            return {}
        self._told = True
        if value is None:
            return {}
        number = self._number(value, f"info[{self._key!r}]")
        if math.isnan(number):
            return {}
        if not 0 <= number <= 1:
            raise Unreadable(
                f"info[{self._key!r}] = {number:g}",
                "success is true or false, or a number in [0, 1]: name another entry by "
                "env.success_key, or set env.success_key=null",
            )
        return {SUCCESS: number}

    def _number(self, value: Any, what: str) -> float:
        if isinstance(value, float | int):
            return float(value)
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return float(array.reshape(()))
        advice = "a single number was expected: mend the environment, or wrap it"
        if isinstance(value, Mapping):
            advice = (
                f"a number was expected: name one of {list(value)} by "
                f"env.success_key={self._key}.NAME"
            )
        kind = type(value).__name__ + (f" of shape {list(array.shape)}" if array.ndim else "")
        raise Unreadable(f"{what} of type {kind}", advice)

    def _nothing(self) -> Any:
        return _zeros(self._space)


def _zeros(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _zeros(part) for name, part in space.spaces.items()}
    assert space.shape is not None
    return np.zeros(space.shape, space.dtype)


def _as_info(error: Unreadable) -> dict[str, Any]:
    """What was wrong and what to do about it, as entries of ``info``."""
    return dict(zip((FAULT, ADVICE), error.args, strict=True))


def _entry(info: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Whether there is such an entry, and its value; ``a.b`` may be an entry of an entry."""
    if key in info:
        return True, info[key]
    first, dot, rest = key.partition(".")
    inner = info.get(first) if dot else None
    return _entry(inner, rest) if isinstance(inner, Mapping) else (False, None)
