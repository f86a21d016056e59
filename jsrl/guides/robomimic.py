"""Guides from the checkpoints of robomimic's behaviour cloning.

A checkpoint is pickled, and robomimic evaluates expressions of the configuration in it: loading one
can run code. Use files that you trust. ``scripts/examples/guide_robomimic.py`` is an example in ten
lines.
"""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int

from jsrl.core.errors import UserError
from jsrl.core.installed import optional_module
from jsrl.core.specs import BoxActions, EnvSpec, ImagePart, ObservationSpec, VectorPart
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.file_spaces import fit_observations, select_parts
from jsrl.guides.options import FileOptions, GuideInputs, guides
from jsrl.guides.torch_draws import draws_from
from jsrl.guides.trial import try_file
from jsrl.guides.trust import TrustedOptions
from jsrl.guides.view import GuideView, environment_range

INSTALL = (
    "pip install --no-deps robomimic, then pip install six termcolor torchvision (egl-probe, for "
    "renderers of its own, need not be built)"
)

IMAGES = "rgb"
"""The modality of pictures in robomimic's configuration."""


class RobomimicPolicy:
    """A cloned policy of robomimic as a ``RowPolicy``; it normalises observations itself.

    robomimic's policies act for one episode at a time: each row has one of its own, which shares
    the networks.

    Args:
        policy: a ``RolloutPolicy``.
        images: names of its images; they are given as bytes.
        process_image: makes of an image what the policy takes.
        recurrent: whether it remembers earlier steps.
        bounds: of its actions, if it draws them: what its noise carries beyond them is clipped.
    """

    def __init__(
        self,
        policy: Any,
        images: Sequence[str],
        process_image: Any,
        *,
        recurrent: bool,
        bounds: tuple[Any, Any] | None,
    ) -> None:
        self.policy = policy
        self.images = tuple(images)
        self.process_image = process_image
        self.stateful = recurrent
        self.stochastic = bounds is not None
        self.bounds = bounds
        self.of_row: dict[int, Any] = {}
        policy.start_episode()

    def __call__(
        self,
        observations: Mapping[str, Any],
        seed_index: int,
        generator: np.random.Generator | None,
        rows: Int[np.ndarray, " n"] | None = None,
    ) -> Any:
        """Actions in the units of the data that it was trained on."""
        given = {n: self._prepared(n, array) for n, array in observations.items()}
        count = len(next(iter(given.values())))
        policies = [self.policy] * count if rows is None else [self._of(int(r)) for r in rows]
        with torch.no_grad(), draws_from(generator):
            # Copies, since robomimic writes what it normalises into the dictionary.
            answers = [
                policy({name: array[index].copy() for name, array in given.items()})
                for index, policy in enumerate(policies)
            ]
        actions = np.stack(answers)
        return actions if self.bounds is None else actions.clip(*self.bounds)

    def reset(self, *, rows: Int[np.ndarray, " n"]) -> None:
        """New episodes begin in these rows."""
        for row in rows:
            self.of_row.pop(int(row), None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The networks are shared: they are large, and nothing changes them.
        copied = copy.copy(self)
        copied.of_row = {row: _alone(policy) for row, policy in self.of_row.items()}
        return copied

    def _of(self, row: int) -> Any:
        if row not in self.of_row:
            self.of_row[row] = _alone(self.policy)
            self.of_row[row].start_episode()
        return self.of_row[row]

    def _prepared(self, name: str, array: Any) -> Any:
        if name not in self.images:
            return array
        return np.stack([self.process_image(frame, obs_modality=IMAGES) for frame in array])


def robomimic_guide(path: Path, view: GuideView, spec: EnvSpec, num_seeds: int) -> ForeignGuide:
    """The guide in the checkpoint ``path``, tried once on zeros. Loading it can run code.

    It sees the parts of the observation that it was trained on, which it names, and answers in the
    environment's own bounds, unless ``view`` says otherwise.

    Args:
        path: the checkpoint.
        view: the guide's observations and actions.
        spec: the environment's.
        num_seeds: S.

    Raises:
        UserError: if the file is missing, is no checkpoint of behaviour cloning, or its spaces do
            not fit.
    """
    path = Path(path)
    key = f"guide.path={str(path)!r}"
    with _quiet():
        files = optional_module("robomimic.utils.file_utils", "guide=robomimic", INSTALL)
        observing = optional_module("robomimic.utils.obs_utils", "guide=robomimic", INSTALL)
    stored = _read(path, key)
    config = _configuration(stored, key)
    observed = _observations(config["observation"]["modalities"], stored, key)
    names = [part.name for part in observed.parts]
    view = select_parts(view, names, spec)
    answers_in = environment_range(spec)
    shapes = ", ".join(f"{part.name} {part.shape}" for part in observed.parts)
    bound = view.bind(spec, answers_in)
    given_as = fit_observations(bound, observed, key, shapes)
    _check_actions(int(stored["shape_metadata"]["ac_dim"]), spec, key)
    algorithm = config["algo"]
    draws = any(_enabled(algorithm, name) for name in ("gaussian", "gmm", "vae"))
    low, high = (np.asarray(b, np.float32) for b in (bound.answers_in.low, bound.answers_in.high))
    policy = RobomimicPolicy(
        _load(files, stored, key),
        [part.name for part in observed.images],
        observing.process_obs,
        recurrent=_enabled(algorithm, "rnn"),
        bounds=(low, high) if draws else None,
    )
    guide = ForeignGuide(
        *(policy, view, spec, num_seeds),
        name=str(path),
        fingerprint=combine(path.read_bytes()),
        answers_in=answers_in,
        takes_images=True,
        given_as=given_as,
    )
    try_file(guide)
    return guide


def _read(path: Path, key: str) -> Mapping[str, Any]:
    """The checkpoint's dictionary."""
    if not path.is_file():
        raise UserError(f"{key} does not exist; expected a checkpoint of robomimic")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=False)
    # Unpickling may raise anything.
    except Exception as error:
        raise UserError(
            f"{key} is not a checkpoint of robomimic, or truncated ({type(error).__name__})"
        ) from error
    needed = {"model", "config", "algo_name", "shape_metadata"}
    if not isinstance(stored, Mapping) or not needed <= set(stored):
        raise UserError(
            f"{key} is not a checkpoint of robomimic, which has the entries "
            f"{', '.join(sorted(needed))}"
        )
    return stored


def _configuration(stored: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The configuration of the policy, if it is one that can act here."""
    if stored["algo_name"] != "bc":
        raise UserError(
            f"{key} is of robomimic's {stored['algo_name']!r}; guide=robomimic takes behaviour "
            "cloning, 'bc': use guide=python with an object that loads it and has act(observations)"
        )
    try:
        config: dict[str, Any] = json.loads(stored["config"])
        modalities = config["observation"]["modalities"]
        goals = [name for names in (modalities.get("goal") or {}).values() for name in names]
        frames = (config.get("train") or {}).get("frame_stack", 1) or 1
        looks_back = frames > 1 or _enabled(config["algo"], "transformer")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{key} has a configuration that cannot be read ({type(error).__name__}: {error}); was "
            "it written by another version of robomimic?"
        ) from error
    if goals or looks_back:
        what = f"goals ({', '.join(goals)})" if goals else f"the last {frames} observations at once"
        raise UserError(
            f"{key} is given {what}, which guide=robomimic does not keep for it; use guide=python "
            "with an object that does, and has act(observations, rows)"
        )
    return config


def _enabled(algorithm: Mapping[str, Any], name: str) -> bool:
    return bool((algorithm.get(name) or {}).get("enabled", False))


def _observations(
    modalities: Mapping[str, Any], stored: Mapping[str, Any], key: str
) -> ObservationSpec:
    """What the policy was trained on: vectors and pictures by name."""
    shapes = stored["shape_metadata"]["all_shapes"]
    vector: list[VectorPart] = []
    images: list[ImagePart] = []
    for modality, names in (modalities.get("obs") or {}).items():
        for name in names:
            shape = tuple(int(size) for size in shapes[name])
            if modality == "low_dim":
                vector.append(VectorPart((name,), shape))
            elif modality == IMAGES and len(shape) == 3:
                channels, height, width = shape
                # As environments give them; robomimic itself puts channels first.
                place = (height, width, channels)
                images.append(ImagePart((name,), place, (2, 0, 1), (channels, height, width)))
            else:
                raise UserError(
                    f"{key} observes {name!r} of the modality {modality!r}; low_dim and {IMAGES} "
                    "were expected: choose a policy of these"
                )
    return ObservationSpec(tuple(vector), tuple(images))


def _check_actions(size: int, spec: EnvSpec, key: str) -> None:
    own = spec.actions
    if not isinstance(own, BoxActions) or own.size != size:
        takes = (
            f"{own.size} real numbers"
            if isinstance(own, BoxActions)
            else f"a choice among {own.size}"
        )
        raise UserError(
            f"{key} was trained with {size} real numbers as actions; {spec.id} takes {takes}; "
            "choose a guide that was trained with such actions"
        )


def _load(files: Any, stored: Mapping[str, Any], key: str) -> Any:
    """The policy on the CPU, ready to act."""
    try:
        # Weights are drawn before they are read.
        with draws_from(None), _quiet():
            policy, _ = files.policy_from_checkpoint(
                device=torch.device("cpu"), ckpt_dict=dict(stored)
            )
    # What is in the file decides what is raised.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{key} cannot be loaded by the robomimic that is installed ({reason}); install the "
            "version that wrote it"
        ) from error
    return policy


def _alone(policy: Any) -> Any:
    """A policy with a memory of its own and the same networks."""
    own = copy.copy(policy)
    own.policy = copy.copy(policy.policy)
    return own


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what robomimic prints from the user; exceptions still pass."""
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


@dataclass
class RobomimicOptions(TrustedOptions, FileOptions):
    """Of ``guide=robomimic``: a checkpoint of its behaviour cloning."""

    WANTED = "a checkpoint of robomimic"


@guides.register("robomimic", RobomimicOptions)
def make_robomimic(options: RobomimicOptions, inputs: GuideInputs) -> ForeignGuide:
    """The policy in a checkpoint of robomimic. Loading it can run code."""
    options.check()
    path = Path(str(options.path))
    if path.is_file():
        options.tell_of_code(str(path))
    guide = robomimic_guide(path, options.view(), inputs.spec, len(inputs.seeds))
    seen = guide.view.values.observation
    if options.observation is None and seen is not None:
        options.tell(f"{path} sees {' and '.join(map(str, seen))}, which it was trained on, alone")
    if guide.stochastic:
        options.tell(f"{path} draws its actions; what its noise carries out of bounds is clipped")
    return guide
