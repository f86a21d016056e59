"""Gymnasium environments as the package sees them.

They observe a vector, or a vector and images; they take actions in [-1, 1], or choices from 0. Any
environment can be made whose observations are numbers, choices, bits and images of bytes, alone or
in dictionaries and tuples, and whose actions are a Box or one choice. Its sizes and bounds are
those of its outermost wrapper, the layer that is acted in. Vector environments never reset
themselves: whoever steps them resets by mask, with seeds of its own, so that the last observation
of an episode and the seed of the next stay known.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.envs.lookup import make_registered
from jsrl.envs.observing import IMAGES, VECTOR, ReadObservations
from jsrl.envs.spaces import is_plain, observation_line
from jsrl.envs.specs import action_spec, observation_spec
from jsrl.envs.steps import ADVICE, FAULT, SUCCESS, Choices, PlainSteps, UnitActions

LONGEST = 10**15
"""The largest time limit. Clocks count in 64 bits, and some are multiplied."""


FRAMES = "rgb_array"
"""Gymnasium's name for rendering to arrays ``[H, W, 3]`` of bytes."""

LIKELY_SUCCESS = re.compile("succe|solved|reached|goal_achieved|is_complete", re.IGNORECASE)
"""Names of entries of ``info`` that may say whether the task is solved."""


@dataclass(frozen=True)
class EnvSettings:
    """Which environment, and how it is read.

    Args:
        id: a Gymnasium id; ``module:id`` imports the module first.
        kwargs: passed to ``gymnasium.make``.
        max_episode_steps: the time limit; None takes the registered one.
        success_key: the entry of ``info`` that says whether the task is solved; an episode
            succeeds if any of its steps does, and has not succeeded if none says so. ``a.b`` is
            the entry ``b`` of the dictionary ``a``. None: success is undefined.
        vectorisation: ``sync`` steps in this process, ``async`` in a subprocess each.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    success_key: str | None = "success"
    vectorisation: str = "sync"


@dataclass(slots=True)
class Step:
    """What one step of N environments gave. The observations of ended episodes are their last.

    ``successes`` is NaN where ``info`` does not say.
    """

    observation: Observation
    rewards: Float[NDArray[np.float32], " N"]
    terminated: Bool[NDArray[np.bool_], " N"]
    truncated: Bool[NDArray[np.bool_], " N"]
    successes: Float[NDArray[np.float32], " N"]


def with_frames(settings: EnvSettings, who: str) -> EnvSettings:
    """Settings of the same environment, whose ``render`` gives pictures as arrays.

    Args:
        settings: of the environment.
        who: wants to see it, for the message.

    Raises:
        UserError: if the settings already ask for something else.
    """
    mode = settings.kwargs.get("render_mode", FRAMES)
    if mode != FRAMES:
        raise UserError(
            f"env.kwargs.render_mode={mode} shows the environment elsewhere, and {who} needs its "
            f"pictures (render_mode={FRAMES}); leave env.kwargs.render_mode out"
        )
    return replace(settings, kwargs={**settings.kwargs, "render_mode": FRAMES})


def make_env(settings: EnvSettings) -> gym.Env[Any, Any]:
    """One environment with actions ``[A]`` in [-1, 1], or choices from 0.

    It observes one vector, or a dictionary of a vector and images, see ``ReadObservations``.

    Raises:
        UserError: if it is not registered, cannot be built, has no time limit, or has spaces that
            are not supported.
    """
    env = _made(settings)
    actions = action_spec(env.action_space, settings.id)
    if not is_plain(env.observation_space):
        env = ReadObservations(env, observation_spec(env.observation_space, settings.id))
    if isinstance(actions, DiscreteActions):
        return Choices(env, actions)
    return UnitActions(env, settings.id)


def describe_env(settings: EnvSettings) -> EnvSpec:
    """Observations, actions and time limit of an environment.

    They are those of its outermost wrapper.

    Raises:
        UserError: as ``make_env`` does.
    """
    env = _made(settings)
    try:
        observation = observation_spec(env.observation_space, settings.id)
        assert env.spec is not None and env.spec.max_episode_steps is not None
        return EnvSpec(
            id=settings.id,
            observation=observation,
            actions=action_spec(env.action_space, settings.id),
            max_episode_steps=env.spec.max_episode_steps,
            observation_line=observation_line(env.observation_space, observation, settings.id),
        )
    finally:
        env.close()


def _made(settings: EnvSettings) -> gym.Env[Any, Any]:
    """The environment as it is registered, with all of its wrappers, once it is checked."""
    env = make_registered(settings.id, settings.kwargs, settings.max_episode_steps)
    try:
        _require_supported(env, settings)
    except UserError:
        env.close()
        raise
    return env


class Environments:
    """N copies of an environment, stepped together and reset by mask.

    Args:
        settings: of the environment.
        count: N.
        wrap: put around each of them, if given.
    """

    def __init__(
        self, settings: EnvSettings, count: int, wrap: Callable[[Any], Any] | None = None
    ) -> None:
        def make() -> gym.Env[Any, Any]:
            env = make_env(settings) if wrap is None else wrap(make_env(settings))
            return PlainSteps(env, settings.success_key)

        makers: list[Callable[[], gym.Env[Any, Any]]] = [make] * count
        mode = AutoresetMode.DISABLED
        self._envs: AsyncVectorEnv[Any, Any] | SyncVectorEnv[Any, Any] = (
            AsyncVectorEnv(makers, autoreset_mode=mode)
            if settings.vectorisation == "async"
            else SyncVectorEnv(makers, autoreset_mode=mode)
        )
        self._settings = settings
        # Where each episode is, for messages.
        self._seeds = [0] * count
        self._clock = np.zeros(count, np.int64)
        self.count = count
        self.success_so_far = math.nan if settings.success_key is None else 0.0
        """The success of an episode that begins: 0 until a step says otherwise; NaN without key."""

    def reset(self, mask: Bool[NDArray[np.bool_], " N"], seeds: list[int]) -> Observation:
        """Begin new episodes where ``mask``.

        Args:
            mask: which environments.
            seeds: N seeds; those outside the mask are not looked at.

        Returns:
            The observations of all N environments.

        Raises:
            UserError: if one of them is not what its space says, or not finite.
        """
        for index in np.flatnonzero(mask):
            self._seeds[index] = seeds[index]
        self._clock[mask] = 0
        observations, infos = self._envs.reset(
            seed=seeds,  # type: ignore[arg-type]  # lists are taken, the base class does not say so
            options={"reset_mask": mask},
        )
        observation = self._read(observations)
        self._require_finite(infos, observation)
        return observation

    def step(self, actions: Shaped[NDArray[Any], "N *A"]) -> Step:
        """Step all environments with actions in [-1, 1], or with choices.

        Raises:
            UserError: if an environment answers with what is no number, or not finite.
        """
        observations, rewards, terminated, truncated, infos = self._envs.step(actions)
        self._clock += 1
        with np.errstate(over="ignore"):
            step = Step(
                self._read(observations),
                rewards.astype(np.float32),
                terminated,
                truncated,
                self._successes(infos),
            )
        self._require_finite(infos, step.observation, step.rewards)
        return step

    def render(self) -> list[Any]:
        """A picture of each environment, as its ``render`` gives it; see ``with_frames``."""
        return list(self._envs.call("render"))

    def success_line(self) -> str | None:
        """That no step's ``info`` has had ``env.success_key`` so far; None if one has, or none is.

        It is one line, with the entries that there were instead.
        """
        key = self._settings.success_key
        told, keys = zip(*self._envs.call("heard"), strict=True)
        if key is None or any(told):
            return None
        seen = sorted(set().union(*keys))
        likely = [name for name in seen if LIKELY_SUCCESS.search(name)]
        mend = (
            f"env.success_key={likely[0]} if that says so" if likely else "it to the one that does"
        )
        return (
            f"env.success_key={key!r} was in no info of {self._settings.id} so far, so that no "
            f"episode counts as solved; info had {', '.join(seen) or 'no entry at all'}: set "
            f"{mend}, or env.success_key=null if nothing says so"
        )

    def close(self) -> None:
        self._envs.close()

    def _read(self, observations: Any) -> Observation:
        images: dict[str, torch.Tensor] = {}
        if isinstance(observations, dict):
            images = {n: torch.from_numpy(image) for n, image in observations[IMAGES].items()}
            observations = observations[VECTOR]
        vector = np.asarray(observations, dtype=np.float32).reshape(self.count, -1)
        return Observation(torch.from_numpy(vector), images)

    def _successes(self, infos: dict[str, Any]) -> Float[NDArray[np.float32], " N"]:
        if SUCCESS not in infos:
            return np.full(self.count, np.nan, np.float32)
        values = np.asarray(infos[SUCCESS], dtype=np.float32)
        return np.where(infos[f"_{SUCCESS}"], values, np.float32(np.nan))

    def _require_finite(
        self,
        infos: dict[str, Any],
        observation: Observation,
        rewards: Float[NDArray[np.float32], " N"] | None = None,
    ) -> None:
        """Raise UserError for the first answer that cannot be learned from."""
        if FAULT in infos:
            index = int(np.flatnonzero(infos[f"_{FAULT}"])[0])
            raise self._fault(index, infos[FAULT][index], infos[ADVICE][index])
        advice = (
            "finite numbers of float32 were expected: mend the environment, or let it end the "
            "episode before"
        )
        if rewards is not None and not np.isfinite(rewards).all():
            index = int(np.argmin(np.isfinite(rewards)))
            raise self._fault(index, f"a reward of {rewards[index]:g}", advice)
        vector = observation.vector.numpy()
        if not np.isfinite(vector).all():
            index, column = map(int, np.argwhere(~np.isfinite(vector))[0])
            value = vector[index, column]
            raise self._fault(index, f"an observation with {value:g} in column {column}", advice)

    def _fault(self, index: int, what: str, advice: str) -> UserError:
        clock = self._clock[index]
        when = f"in step {clock} after" if clock else "by"
        return UserError(
            f"env.id={self._settings.id!r} returned {what} {when} "
            f"reset(seed={self._seeds[index]}); {advice}"
        )


def _require_supported(env: gym.Env[Any, Any], settings: EnvSettings) -> None:
    observation_spec(env.observation_space, settings.id)
    action_spec(env.action_space, settings.id)
    limit = None if env.spec is None else env.spec.max_episode_steps
    if limit is None or limit < 1:
        raise UserError(f"env.id={settings.id!r} has no time limit; set env.max_episode_steps=N")
    if limit > LONGEST:
        raise UserError(
            f"env.id={settings.id!r} has a time limit of {limit} steps; set "
            f"env.max_episode_steps to at most {LONGEST}"
        )
