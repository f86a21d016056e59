"""Gymnasium environments as the package sees them: flat observations, actions in [-1, 1].

Any environment with Box or dictionary (goal) observations and Box actions can be made. Vector
environments never reset themselves: whoever steps them resets by mask, with seeds of its own, so
that the last observation of an episode and the seed of the next stay known.
"""

import contextlib
import difflib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from jsrl.errors import UserError
from jsrl.types import EnvSpec


@dataclass(frozen=True)
class EnvSettings:
    """Which environment, and how it is read.

    Args:
        id: a Gymnasium id; ``module:id`` imports the module first.
        kwargs: passed to ``gymnasium.make``.
        max_episode_steps: the time limit; None takes the registered one.
        success_key: the entry of ``info`` that says whether the task is solved; an episode
            succeeds if any of its steps does. None: success is undefined.
        vectorisation: ``sync`` steps in this process, ``async`` in a subprocess each.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    success_key: str | None = "success"
    vectorisation: str = "sync"


@dataclass(frozen=True)
class Step:
    """What one step of N environments gave. ``observations`` of ended episodes are their last.

    ``successes`` is NaN where ``info`` does not say.
    """

    observations: Float[NDArray[np.float32], "N O"]
    rewards: Float[NDArray[np.float32], " N"]
    terminated: Bool[NDArray[np.bool_], " N"]
    truncated: Bool[NDArray[np.bool_], " N"]
    successes: Float[NDArray[np.float32], " N"]


def register_known_environments() -> None:
    """Make gymnasium-robotics' environments known, without the notices that it prints.

    MuJoCo writes its warnings into MUJOCO_LOG.TXT in the working folder unless a handler takes
    them; here they become Python warnings.
    """
    import mujoco

    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gymnasium_robotics

        gym.register_envs(gymnasium_robotics)
    set_handler = getattr(mujoco, "set_mju_user_warning", None)
    if set_handler is not None:
        set_handler(_warn_of_simulator)


def _warn_of_simulator(message: str) -> None:
    warnings.warn(f"MuJoCo: {message}", RuntimeWarning, stacklevel=2)


def make_env(settings: EnvSettings) -> gym.Env[Any, Any]:
    """One environment with flat observations and actions in [-1, 1].

    Raises:
        UserError: if it is not registered, cannot be built, has no time limit, or has spaces that
            are not supported.
    """
    register_known_environments()
    try:
        with _temporary_files_removed(), warnings.catch_warnings():
            # Gymnasium warns of ids that are out of date; what matters is said by the error.
            warnings.simplefilter("ignore", DeprecationWarning)
            env = gym.make(
                settings.id,
                max_episode_steps=settings.max_episode_steps,
                disable_env_checker=True,
                **settings.kwargs,
            )
    except ModuleNotFoundError as error:
        raise UserError(
            f"env.id={settings.id!r} cannot be made: {error.msg.splitlines()[0]}; install the "
            "module, or run the command in the folder that holds it"
        ) from error
    except gym.error.Error as error:
        raise UserError(_unregistered(settings.id, error)) from error
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"env.id={settings.id!r} cannot be built with env.kwargs={dict(settings.kwargs)}: "
            f"{error}"
        ) from error
    _require_supported(env, settings)
    if isinstance(env.observation_space, spaces.Dict) or len(env.observation_space.shape or ()) > 1:
        env = gym.wrappers.FlattenObservation(env)
    assert isinstance(env.action_space, spaces.Box)
    if not (np.all(env.action_space.low == -1) and np.all(env.action_space.high == 1)):
        env = gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    return env


def describe_env(settings: EnvSettings) -> EnvSpec:
    """Sizes, layout, action bounds and time limit of an environment."""
    register_known_environments()
    env = make_env(settings)
    try:
        original = env.unwrapped
        space, action = original.observation_space, original.action_space
        assert isinstance(action, spaces.Box) and env.spec is not None
        parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
        layout, start = [], 0
        for name, part in parts.items():
            stop = start + spaces.flatdim(part)
            layout.append((name, start, stop))
            start = stop
        limit = env.spec.max_episode_steps
        assert limit is not None
        return EnvSpec(
            id=settings.id,
            observation_size=start,
            action_size=int(np.prod(action.shape)),
            layout=tuple(layout),
            action_low=tuple(map(float, action.low.ravel())),
            action_high=tuple(map(float, action.high.ravel())),
            max_episode_steps=limit,
        )
    finally:
        env.close()


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
            return make_env(settings) if wrap is None else wrap(make_env(settings))

        makers: list[Callable[[], gym.Env[Any, Any]]] = [make] * count
        mode = AutoresetMode.DISABLED
        self._envs: gym.vector.VectorEnv[Any, Any, Any] = (
            AsyncVectorEnv(makers, autoreset_mode=mode)
            if settings.vectorisation == "async"
            else SyncVectorEnv(makers, autoreset_mode=mode)
        )
        self._success_key = settings.success_key
        self._action_shape = self._envs.action_space.shape
        self.count = count

    def reset(
        self, mask: Bool[NDArray[np.bool_], " N"], seeds: list[int]
    ) -> Float[NDArray[np.float32], "N O"]:
        """Begin new episodes where ``mask``.

        Args:
            mask: which environments.
            seeds: N seeds; those outside the mask are not looked at.

        Returns:
            The observations of all N environments.
        """
        observations, _ = self._envs.reset(
            seed=seeds,  # type: ignore[arg-type]  # lists are taken, the base class does not say so
            options={"reset_mask": mask},
        )
        return self._flat(observations)

    def step(self, actions: Float[NDArray[np.float32], "N A"]) -> Step:
        """Step all environments with actions in [-1, 1]."""
        observations, rewards, terminated, truncated, infos = self._envs.step(
            actions.reshape(self._action_shape)
        )
        return Step(
            self._flat(observations),
            rewards.astype(np.float32),
            terminated,
            truncated,
            self._successes(infos),
        )

    def close(self) -> None:
        self._envs.close()

    def _flat(self, observations: NDArray[Any]) -> Float[NDArray[np.float32], "N O"]:
        return np.asarray(observations, dtype=np.float32).reshape(self.count, -1)

    def _successes(self, infos: dict[str, Any]) -> Float[NDArray[np.float32], " N"]:
        key = self._success_key
        if key is None or key not in infos:
            return np.full(self.count, np.nan, np.float32)
        values = np.asarray(infos[key], dtype=np.float32)
        return np.where(infos[f"_{key}"], values, np.float32(np.nan))


@contextlib.contextmanager
def _temporary_files_removed() -> Iterator[None]:
    """Remove what an environment leaves among the temporary files while it is built.

    The mazes of gymnasium-robotics write their model there, read it once, and never remove it.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="jsrl-env-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def _require_supported(env: gym.Env[Any, Any], settings: EnvSettings) -> None:
    space, action = env.observation_space, env.action_space
    parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    for name, part in parts.items():
        if not isinstance(part, spaces.Box):
            raise UserError(
                f"env.id={settings.id!r} observes {part} as {name!r}; Box observations, or a "
                "dictionary of them, were expected: flatten it with a Gymnasium wrapper"
            )
    if not isinstance(action, spaces.Box):
        raise UserError(
            f"env.id={settings.id!r} has actions {action}, but the learners of jsrl act in a Box "
            "of real numbers: choose an environment with continuous actions"
        )
    if not (np.all(np.isfinite(action.low)) and np.all(np.isfinite(action.high))):
        raise UserError(
            f"env.id={settings.id!r} has unbounded actions {action}; finite bounds were expected: "
            "wrap it in gymnasium.wrappers.RescaleAction or ClipAction"
        )
    if env.spec is None or env.spec.max_episode_steps is None:
        raise UserError(f"env.id={settings.id!r} has no time limit; set env.max_episode_steps=N")


def _unregistered(env_id: str, error: Exception) -> str:
    names = list(gym.registry)
    near = difflib.get_close_matches(env_id, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    reason = str(error).strip().splitlines()[0]
    return f"env.id={env_id!r} cannot be made: {reason}{hint}"
