"""Guides from NumPy's npz files, in the two layouts of D4RL's behaviour policies.

Loading one runs no code. Which layout a file has is told by the arrays in it:

- with ``observation_shift``: an expert of the Adroit tasks (Rajeswaran et al. 2018, arXiv
  1709.10087), a tanh network with normaliser, action scale and state-independent noise;
- with ``log_std_weight``: D4RL's goal-reaching ant, which needs an AntMaze of ``jsrl`` for its way.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least
from jsrl.core.specs import EnvSpec
from jsrl.envs.make import make_env
from jsrl.guides.ant import AntNavigator, GoalReachingAnt
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import FileOptions, GuideInputs, guides
from jsrl.guides.view import GuideView

Arrays = Mapping[str, np.ndarray]

ANT_INPUTS = 29
ANT_ACTIONS = 8


class ExpertPolicy:
    """An expert of the Adroit tasks: acts by its mean, or with its Gaussian noise, clipped.

    Args:
        arrays: as ``read_npz`` checked them.
    """

    stochastic = True

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = {name: np.array(array, np.float32) for name, array in arrays.items()}
        self._depth = _depth(arrays)

    def __call__(
        self,
        observations: Float[np.ndarray, "n O"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Float[np.ndarray, "n A"]:
        """Actions in [-1, 1]."""
        a = self._arrays
        x = (observations - a["observation_shift"]) / (a["observation_scale"] + 1e-8)
        for index in range(self._depth):
            x = np.tanh(x @ a[f"hidden_{index}_weight"].T + a[f"hidden_{index}_bias"])
        x = x @ a["mean_weight"].T + a["mean_bias"]
        actions = x * a["action_scale"] + a["action_shift"]
        if generator is not None:
            actions = actions + np.exp(a["log_std"]) * generator.standard_normal(actions.shape)
        clipped: np.ndarray = actions.clip(-1, 1).astype(np.float32)
        return clipped


def npz_guide(
    path: Path, env: Any, view: GuideView, spec: EnvSpec, num_seeds: int, noise: float = 0.0
) -> ForeignGuide:
    """The guide in the npz file ``path``.

    Args:
        path: the file.
        env: one environment; the ant finds its way in its maze.
        view: of the observation and actions.
        spec: of the environment.
        num_seeds: S.
        noise: of the ant: standard deviation of Gaussian noise on its actions.

    Raises:
        UserError: if the file is missing, is none of the two layouts, or does not fit the
            environment.
    """
    arrays = read_npz(path)
    if is_ant(arrays):
        policy: Any = ant_navigator(path, arrays, env, noise)
        return ForeignGuide(policy, view, spec, num_seeds, str(path), policy.fingerprint)
    expert = ExpertPolicy(arrays)
    sizes = arrays["observation_shift"].size, arrays["mean_bias"].size
    expected = view.bind(spec).size, spec.actions.size
    if sizes != expected:
        raise UserError(
            f"guide.path={str(path)!r} takes {sizes[0]} observations and gives {sizes[1]} actions, "
            f"but env.id={spec.id} has {expected[0]} and {expected[1]}; choose the expert of this "
            "task, or see guide.observation"
        )
    fingerprint = combine(Path(path).read_bytes())
    return ForeignGuide(expert, view, spec, num_seeds, str(path), fingerprint)


def ant_navigator(path: Path, arrays: Arrays, env: Any, noise: float) -> AntNavigator:
    """The goal-reaching ant on its way to the goal cell of ``env``.

    Raises:
        UserError: if ``env`` is no AntMaze of this package.
    """
    # Here, so that MuJoCo is imported only where it is needed.
    from jsrl.envs.antmaze import AntMazeEnv, mean_goal

    maze = env.unwrapped
    if not isinstance(maze, AntMazeEnv):
        raise UserError(
            f"guide.path={str(path)!r} is the goal-reaching ant, which walks through jsrl's "
            f"AntMaze; env is {type(maze).__name__}: choose env=antmaze_umaze or another of them"
        )
    return AntNavigator(GoalReachingAnt(arrays), maze.maze, mean_goal(maze), noise)


def is_ant(arrays: Arrays) -> bool:
    """Whether these are the arrays of the goal-reaching ant, and not of an expert."""
    return "log_std_weight" in arrays


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a policy, their shapes checked against each other.

    Raises:
        UserError: if the file is missing, broken, of another layout or of another size.
    """
    arrays = _load(Path(path))
    expected = _expected_shapes(path, arrays)
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise UserError(
                f"guide.path={str(path)!r}: {name} has shape {arrays[name].shape}; expected "
                f"{shape}; the layers of this file do not fit each other, or it is another policy"
            )
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"guide.path={str(path)!r}: {name} holds a number that is not finite")
    return {name: arrays[name] for name in expected}


def _load(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(
            f"guide.path={str(path)!r} does not exist; expected an npz file of a behaviour policy; "
            "any other guide can take its place, for example guide=run guide.path=DIR"
        )
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"guide.path={str(path)!r} is no npz file, or truncated ({error}); expected one that "
            "numpy.savez writes"
        ) from error


def _expected_shapes(path: Path, arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """The shape that every array should have, taken from the first layer and the actions."""
    depth = _depth(arrays)
    needed = {f"hidden_{i}_{part}" for i in range(depth) for part in ("weight", "bias")}
    needed |= {"mean_weight", "mean_bias"}
    needed |= {"hidden_0_weight"}
    extra = {"observation_shift", "observation_scale", "action_shift", "action_scale", "log_std"}
    needed |= {"log_std_weight", "log_std_bias"} if is_ant(arrays) else extra
    missing = sorted(needed - set(arrays))
    if missing:
        raise UserError(
            f"guide.path={str(path)!r} has no {', '.join(missing)}; expected the arrays of an "
            "Adroit expert or of D4RL's goal-reaching ant; it has "
            f"{', '.join(sorted(arrays)) or 'none'}"
        )
    inputs = ANT_INPUTS if is_ant(arrays) else arrays["observation_shift"].size
    actions = ANT_ACTIONS if is_ant(arrays) else arrays["mean_bias"].size
    shapes: dict[str, tuple[int, ...]] = {}
    width = inputs
    for index in range(depth):
        size = arrays[f"hidden_{index}_bias"].size
        shapes |= {f"hidden_{index}_weight": (size, width), f"hidden_{index}_bias": (size,)}
        width = size
    shapes |= {"mean_weight": (actions, width), "mean_bias": (actions,)}
    if is_ant(arrays):
        return shapes | {"log_std_weight": (actions, width), "log_std_bias": (actions,)}
    shapes |= {"observation_shift": (inputs,), "observation_scale": (inputs,)}
    return shapes | dict.fromkeys(("action_shift", "action_scale", "log_std"), (actions,))


def _depth(arrays: Arrays) -> int:
    depth = 0
    while f"hidden_{depth}_weight" in arrays:
        depth += 1
    return depth


@dataclass
class NpzOptions(FileOptions):
    """Of ``guide=npz``."""

    # Of the goal-reaching ant: standard deviation of Gaussian noise on its actions.
    noise: float = 0.0

    WANTED = "an npz file"
    neutral = (("noise", 0),)

    def check(self) -> None:
        super().check()
        at_least("guide.noise", self.noise, 0)


@guides.register("npz", NpzOptions)
def make_npz(options: NpzOptions, inputs: GuideInputs) -> ForeignGuide:
    """The policy in the file. An ant's reads the maze from an environment of its own."""
    options.check()
    example = make_env(inputs.env)
    try:
        return npz_guide(
            Path(str(options.path)),
            example,
            options.view(),
            inputs.spec,
            len(inputs.seeds),
            options.noise,
        )
    finally:
        example.close()
