"""Find an environment by its Gymnasium id and make it as it is registered.

Simulators are imported for the environments that need them alone, so that one that is broken or
missing is in nobody else's way.
"""

import contextlib
import difflib
import importlib
import io
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym

from jsrl.core.errors import UserError
from jsrl.core.loading import load_module

NEEDS_MUJOCO = (
    "gymnasium.envs.mujoco",
    "gymnasium_robotics",
    "jsrl.envs.antmaze",
    "jsrl.envs.adroit",
    "jsrl.envs.seen_maze",
)
"""Where environments of MuJoCo are that this package knows of."""


def make_registered(
    env_id: str, kwargs: Mapping[str, Any], max_episode_steps: int | None
) -> gym.Env[Any, Any]:
    """An environment as it is registered, with its wrappers.

    Args:
        env_id: a Gymnasium id; ``module:id`` or ``file.py:id`` imports the module or file first.
        kwargs: passed to ``gymnasium.make``.
        max_episode_steps: the time limit; None takes the registered one.

    Raises:
        UserError: if it is not registered or cannot be built.
    """
    place, colon, name = env_id.rpartition(":")
    if colon:
        load_module(place, f"env.id={env_id!r}")
    try:
        with _temporary_files_removed(), warnings.catch_warnings():
            # Gymnasium warns of ids that are out of date; what matters is said by the error.
            warnings.simplefilter("ignore", DeprecationWarning)
            return _make(env_id, name, dict(kwargs), max_episode_steps)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        advice = "; install it, or run the command in the folder that holds it" if missing else ""
        raise UserError(
            f"env.id={env_id!r} cannot be made: {_first_line(error)}{advice}"
        ) from error
    except gym.error.UnregisteredEnv as error:
        raise UserError(_unregistered(env_id, name, error)) from error
    except gym.error.Error as error:
        raise UserError(f"env.id={env_id!r} cannot be made: {_first_line(error)}") from error
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"env.id={env_id!r} cannot be built with env.kwargs={dict(kwargs)}: "
            f"{_first_line(error)}"
        ) from error


def register_robotics() -> None:
    """Make gymnasium-robotics' environments known, without the notices that it prints.

    Raises:
        UserError: if MuJoCo cannot be imported.
        ImportError: if gymnasium-robotics cannot.
    """
    if "gymnasium_robotics" in sys.modules:
        return
    import_mujoco("gymnasium-robotics")
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gym.register_envs(importlib.import_module("gymnasium_robotics"))


def import_mujoco(who: str) -> None:
    """Import the simulator, and let its warnings be Python's.

    It would write them into MUJOCO_LOG.TXT in the working folder.

    Args:
        who: needs it, for the message.

    Raises:
        UserError: if it cannot be imported.
    """
    try:
        mujoco = importlib.import_module("mujoco")
    # A library that is broken, for instance for want of a system library, may raise anything.
    except Exception as error:
        raise UserError(
            f"{who} needs mujoco, which cannot be imported ({type(error).__name__}: "
            f"{_first_line(error)}); install it again: pip install --force-reinstall mujoco"
        ) from error
    # Versions before 3 have no such function.
    if hasattr(mujoco, "set_mju_user_warning"):
        mujoco.set_mju_user_warning(_warn_of_simulator)


def _make(
    env_id: str, name: str, kwargs: dict[str, Any], max_episode_steps: int | None
) -> gym.Env[Any, Any]:
    def make() -> gym.Env[Any, Any]:
        entry_point = gym.registry[name].entry_point if name in gym.registry else None
        if isinstance(entry_point, str) and entry_point.startswith(NEEDS_MUJOCO):
            import_mujoco(f"env.id={env_id!r}")
        return gym.make(
            name, max_episode_steps=max_episode_steps, disable_env_checker=True, **kwargs
        )

    try:
        env = make()
    except gym.error.UnregisteredEnv as error:
        # Perhaps one of gymnasium-robotics, of which Gymnasium learns only now.
        _register_robotics_for(env_id, name, error)
        env = make()
    if "mujoco" in sys.modules:
        # A user's own environment may have imported it.
        import_mujoco(f"env.id={env_id!r}")
    return env


def _register_robotics_for(env_id: str, name: str, unknown: gym.error.UnregisteredEnv) -> None:
    try:
        register_robotics()
    except UserError as error:
        # A nearer name than this one may be among those that are not known.
        near = _nearest(name, cutoff=0.8)
        raise UserError(
            f"env.id={env_id!r} is none of the environments that are known{near}; {error}"
        ) from error
    except ImportError:
        # Not installed, or another version: the environment is not known, which is said.
        raise unknown from None


def _warn_of_simulator(message: str) -> None:
    warnings.warn(f"MuJoCo: {message}", RuntimeWarning, stacklevel=2)


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


def _unregistered(env_id: str, name: str, error: Exception) -> str:
    reason = _first_line(error).split(". Did you mean")[0].rstrip(".")
    package = (
        ""
        if name != env_id
        else "; if a package or a file of yours registers it, name that too: "
        f"env.id=package:{name} or env.id=file.py:{name}"
    )
    return f"env.id={env_id!r} cannot be made: {reason}{_nearest(name, cutoff=0.6)}{package}"


def _nearest(name: str, cutoff: float) -> str:
    near = difflib.get_close_matches(name, list(gym.registry), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
