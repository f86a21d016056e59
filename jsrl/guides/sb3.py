"""Guides from the zips of Stable-Baselines3 and sb3-contrib: ``model.save("policy.zip")``.

A zip holds pickled Python objects, and so do the statistics of ``VecNormalize``: loading one can
run code. Use files that you trust. ``scripts/examples/guide_sb3.py`` is an example in ten lines.
"""

import copy
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from jsrl.core.errors import UserError
from jsrl.core.installed import optional_module
from jsrl.core.observations import as_given, zeros_of
from jsrl.core.specs import EnvSpec, ObservationSpec
from jsrl.envs.spaces import shown
from jsrl.envs.specs import action_spec, observation_spec
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.file_spaces import fit_actions, fit_observations
from jsrl.guides.options import FileOptions, GuideInputs, guides
from jsrl.guides.row_memory import RemembersRows, RowMemory
from jsrl.guides.sb3_file import Sb3File, read_sb3_file
from jsrl.guides.torch_draws import draws_from
from jsrl.guides.trial import try_file
from jsrl.guides.trust import TrustedOptions
from jsrl.guides.view import GuideView, environment_range

INSTALL = "pip install 'jsrl-torch[sb3]'"

NOT_NEEDED: dict[str, Any] = {
    **dict.fromkeys(("seed", "_last_obs", "_last_original_obs", "_last_episode_starts")),
    **dict.fromkeys(("ep_info_buffer", "ep_success_buffer", "action_noise", "tensorboard_log")),
    **dict.fromkeys(("replay_buffer_class", "clip_range_vf", "target_kl")),
    **{"replay_buffer_kwargs": {}, "rollout_buffer_kwargs": {}, "optimize_memory_usage": False},
    **{"buffer_size": 1, "n_steps": 1, "n_envs": 1, "train_freq": 1, "verbose": 0},
    **{"learning_rate": 0.0, "clip_range": 0.0, "lr_schedule": None, "exploration_schedule": None},
}
"""Settings of training, which acting does not need, and what stands in for them: they are not
unpickled then, no replay buffer is allocated, and no global generator is seeded."""


class Sb3Policy(RemembersRows):
    """The policy of a zip as a ``RowPolicy``. Its library transposes images and divides by 255.

    Args:
        policy: of Stable-Baselines3; it answers in the bounds of its own action space.
        normaliser: a ``VecNormalize`` with statistics of observations, or None.
        sample: whether it draws its actions.
        recurrent: whether it is one of sb3-contrib with an LSTM.
    """

    def __init__(self, policy: Any, normaliser: Any, *, sample: bool, recurrent: bool) -> None:
        memory = None
        if recurrent:
            layers, _, size = policy.lstm_hidden_state_shape
            memory = RowMemory([np.zeros((layers, size), np.float32)] * 2)
        super().__init__(memory)
        self.policy = policy
        self.normaliser = normaliser
        self.stochastic = sample

    def __call__(
        self,
        observations: Any,
        seed_index: int,
        generator: np.random.Generator | None,
        rows: Int[np.ndarray, " n"] | None = None,
    ) -> Any:
        """Actions in the bounds of the policy's own action space, or choices."""
        if self.normaliser is not None:
            observations = self.normaliser.normalize_obs(observations)
        memory: dict[str, Any] = {}
        if rows is not None:
            # The rows are the second axis of an LSTM's state.
            state = tuple(self.memory.take(rows, axis=1))
            memory = {"state": state, "episode_start": np.zeros(len(rows), bool)}
        with draws_from(generator):
            actions, state = self.policy.predict(
                observations, **memory, deterministic=generator is None
            )
        if rows is not None:
            self.memory.keep(rows, state, axis=1)
        return actions


def sb3_guide(
    path: Path,
    view: GuideView,
    spec: EnvSpec,
    num_seeds: int,
    *,
    normaliser: Path | None = None,
    sample: bool = False,
) -> ForeignGuide:
    """The guide in the zip ``path``, tried once on zeros. Loading it can run code that is in it.

    Args:
        path: the zip.
        view: the guide's observations and actions; it answers in the bounds that it was trained
            with, unless the view says otherwise.
        spec: the environment's.
        num_seeds: S.
        normaliser: the file with the statistics of a ``VecNormalize``.
        sample: draw actions instead of taking the mode.

    Raises:
        UserError: if a file is missing, is no such file or of another version, or its algorithm or
            spaces do not fit.
    """
    file = read_sb3_file(Path(path))
    _check_sampling(file, sample)
    model = _load_model(file)
    key = f"guide.path={str(path)!r}"
    observed = _known(model.observation_space, observation_spec, key)
    bound = view.bind(spec, environment_range(spec))
    given_as = fit_observations(bound, observed, key, shown(model.observation_space))
    answers_in = fit_actions(
        _known(model.action_space, action_spec, key), spec, key, shown(model.action_space)
    )
    statistics = None if normaliser is None else _load_normaliser(Path(normaliser), observed, view)
    policy = Sb3Policy(model.policy, statistics, sample=sample, recurrent=file.recurrent)
    contents = [p.read_bytes() for p in (Path(path), normaliser) if p is not None]
    guide = ForeignGuide(
        *(policy, view, spec, num_seeds),
        name=str(path),
        fingerprint=combine(*contents, sample),
        answers_in=answers_in,
        takes_images=True,
        given_as=given_as,
    )
    try_file(guide)
    return guide


def _check_sampling(file: Sb3File, sample: bool) -> None:
    if not sample:
        return
    if not file.algorithm.samples:
        raise UserError(
            f"guide.sample=true: {file.path} is of {file.algorithm.name}, whose policy is no "
            "distribution that could be drawn from; set guide.sample=false"
        )
    if file.noisy_state:
        raise UserError(
            f"guide.sample=true: {file.path} explores by gSDE, whose noise lasts for many steps "
            "and is not in the file; set guide.sample=false"
        )


def _load_model(file: Sb3File) -> Any:
    """The model on the CPU."""
    installed = optional_module("stable_baselines3", "guide=sb3", INSTALL).__version__
    if file.version.split(".")[0] != installed.split(".")[0]:
        raise _other_version(file, installed, "which keeps other objects")
    package = file.algorithm.package
    module = optional_module(package, f"guide=sb3 with {file.algorithm.name}", INSTALL)
    try:
        # Weights are drawn before they are read.
        with draws_from(None), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            algorithm = getattr(module, file.algorithm.name)
            # A copy, since some algorithms write into it.
            replaced = copy.deepcopy(NOT_NEEDED)
            return algorithm.load(file.path, device="cpu", custom_objects=replaced)
    # Unpickling may raise anything.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise _other_version(file, installed, f"whose loading fails ({reason})") from error


def _other_version(file: Sb3File, installed: str, why: str) -> UserError:
    return UserError(
        f"guide.path={str(file.path)!r} was saved by Stable-Baselines3 {file.version}, {why}; "
        f"{installed} is installed: load and save it by a version that both can read, or export "
        "its policy as ONNX where it was trained, and use guide=onnx"
    )


def _known(space: Any, read: Any, key: str) -> Any:
    """What a space of the file is to this package."""
    try:
        return read(space, "guide")
    except UserError as error:
        reason = str(error).partition("; ")[0].replace("env.id='guide'", "the policy", 1)
        raise UserError(
            f"{key}: {reason}; choose a guide that was trained on spaces that jsrl takes"
        ) from error


def _load_normaliser(path: Path, observed: ObservationSpec, view: GuideView) -> Any:
    """The statistics of a ``VecNormalize``, tried on zeros."""
    key = f"guide.normaliser={str(path)!r}"
    if view.mean is not None or view.std is not None:
        raise UserError(
            f"{key} normalises observations, and so do guide.mean and guide.std; leave these out"
        )
    if not path.is_file():
        raise UserError(f"{key} does not exist; expected a file that VecNormalize.save wrote")
    kind = optional_module("stable_baselines3.common.vec_env", "guide=sb3", INSTALL).VecNormalize
    try:
        with path.open("rb") as opened:
            found = pickle.load(opened)
    # Unpickling may raise anything.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{key} cannot be read ({reason}); expected a file that VecNormalize.save wrote"
        ) from error
    if not isinstance(found, kind):
        raise UserError(
            f"{key} holds a {type(found).__name__}; expected a file that VecNormalize.save wrote"
        )
    found.training = False
    try:
        found.normalize_obs(as_given(observed, zeros_of(observed, 1)))
    except (ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
        raise UserError(
            f"{key} has the statistics of observations {shown(found.observation_space)}, which are "
            "not those of guide.path; give the file that was saved beside the policy"
        ) from error
    return found


@dataclass
class Sb3Options(TrustedOptions, FileOptions):
    """Of ``guide=sb3``: a policy of Stable-Baselines3 or sb3-contrib."""

    # The statistics of a VecNormalize, as its save(FILE) wrote them; null where there were none.
    normaliser: str | None = None
    # Whether it acts by samples instead of by the mode.
    sample: bool = False

    WANTED = "a zip of Stable-Baselines3"
    neutral = (("trusted", True), ("sample", False))


@guides.register("sb3", Sb3Options)
def make_sb3(options: Sb3Options, inputs: GuideInputs) -> ForeignGuide:
    """The policy in a zip. Loading it can run code."""
    options.check()
    path = Path(str(options.path))
    # Whatever needs no code to be seen is told before.
    read_sb3_file(path)
    beside = None if options.normaliser is None else Path(options.normaliser)
    what = str(path) if beside is None else f"{path} and {beside}"
    options.tell_of_code(what)
    return sb3_guide(
        *(path, options.view(), inputs.spec, len(inputs.seeds)),
        normaliser=beside,
        sample=options.sample,
    )
