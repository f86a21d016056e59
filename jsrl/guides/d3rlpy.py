"""Guides from the files of d3rlpy: ``algorithm.save("policy.d3")``.

A ``.d3`` file is pickled, but of text, numbers and bytes alone. It is read here first in a way that
takes nothing else, so that a file that would run code is refused before d3rlpy sees it.
``scripts/examples/guide_d3rlpy.py`` is an example in ten lines.
"""

import contextlib
import io
import json
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.installed import optional_module
from jsrl.core.specs import DiscreteActions, EnvSpec, ImagePart, ObservationSpec
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.file_spaces import fit_observations, plain_observations
from jsrl.guides.options import FileOptions, GuideInputs, guides
from jsrl.guides.torch_draws import draws_from
from jsrl.guides.trial import try_file
from jsrl.guides.view import GuideView, environment_range

INSTALL = (
    "pip install --no-deps d3rlpy, then pip install gym structlog dataclasses-json colorama "
    "(its own dependencies would replace gymnasium by an earlier version)"
)

SEQUENCES = ("decision_transformer", "discrete_decision_transformer", "tacr")
"""Algorithms whose policies look back at whole episodes."""

SAMPLING = ("awac", "bear", "cal_ql", "cql", "crr", "discrete_sac", "iql", "sac")
"""Algorithms whose policies are distributions; of the others d3rlpy gives the mode as a sample."""

IMAGE_AXES = 3


class D3rlpyPolicy:
    """A policy of d3rlpy as a ``RowPolicy``; it scales observations and actions itself.

    Args:
        algorithm: as d3rlpy loads it.
        sample: whether it draws its actions.
    """

    def __init__(self, algorithm: Any, *, sample: bool) -> None:
        self.algorithm = algorithm
        self.stochastic = sample

    def __call__(
        self, observations: Any, seed_index: int, generator: np.random.Generator | None
    ) -> Any:
        """Actions in the units of the data that it was trained on, or choices."""
        if generator is None:
            return self.algorithm.predict(observations)
        with draws_from(generator):
            return self.algorithm.sample_action(observations)


def d3rlpy_guide(
    path: Path, view: GuideView, spec: EnvSpec, num_seeds: int, *, sample: bool = False
) -> ForeignGuide:
    """The guide in the file ``path``, tried once on zeros.

    It answers in the environment's own bounds, unless ``view`` says otherwise.

    Args:
        path: the file, as ``save`` of d3rlpy writes it.
        view: the guide's observations and actions.
        spec: the environment's.
        num_seeds: S.
        sample: draw actions instead of taking the mode.

    Raises:
        UserError: if the file is missing, is no such file or of another version, or its spaces do
            not fit.
    """
    path = Path(path)
    key = f"guide.path={str(path)!r}"
    stored = read_d3_file(path)
    answers_in = environment_range(spec)
    shape = stored["shape"]
    given_as = fit_observations(
        view.bind(spec, answers_in), _observations(shape), key, f"of shape {shape}"
    )
    if sample and stored["kind"] not in SAMPLING:
        raise UserError(
            f"guide.sample=true: {path} is of {stored['kind']}, whose policy is no distribution "
            "that could be drawn from; set guide.sample=false"
        )
    algorithm = _load(path, stored["version"])
    _check_actions(algorithm, stored["actions"], spec, key)
    guide = ForeignGuide(
        *(D3rlpyPolicy(algorithm, sample=sample), view, spec, num_seeds),
        name=str(path),
        fingerprint=combine(path.read_bytes(), sample),
        answers_in=answers_in,
        takes_images=True,
        given_as=given_as,
    )
    try_file(guide)
    return guide


def read_d3_file(path: Path) -> dict[str, Any]:
    """The kind, version, observations' shape and number of actions of a file; it runs no code.

    Raises:
        UserError: if it is missing, or no file of d3rlpy whose policy acts on one observation.
    """
    key = f"guide.path={str(path)!r}"
    if not path.is_file():
        raise UserError(f"{key} does not exist; expected a file that save of d3rlpy wrote")
    try:
        with path.open("rb") as opened:
            stored = _PlainUnpickler(opened).load()
        described = json.loads(stored["config"])
        kind, version = described["config"]["type"], str(stored["version"])
        shape, actions = described["observation_shape"], int(described["action_size"])
    # Bytes of any kind may raise anything there.
    except Exception as error:
        raise UserError(
            f"{key} is not a file of d3rlpy 2, or truncated ({type(error).__name__}); expected one "
            "that save of an algorithm wrote, not save_model"
        ) from error
    if kind in SEQUENCES:
        raise UserError(
            f"{key} is of {kind}, which looks back at whole episodes; choose an algorithm whose "
            "policy acts on one observation, or use guide=python with its stateful wrapper"
        )
    if not all(isinstance(size, int) for size in shape):
        raise UserError(
            f"{key} was trained on tuples of observations, shapes {shape}; choose a policy of one "
            "array"
        )
    return {"kind": kind, "version": version, "shape": tuple(shape), "actions": actions}


class _PlainUnpickler(pickle.Unpickler):
    """Reads text, numbers, bytes and dictionaries of them; whatever else is there is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _observations(shape: tuple[int, ...]) -> ObservationSpec:
    """Arrays, or images with their channels first."""
    if len(shape) != IMAGE_AXES:
        return plain_observations(shape)
    channels, height, width = shape
    return ObservationSpec((), (ImagePart((), shape, (0, 1, 2), (channels, height, width)),))


def _load(path: Path, version: str) -> Any:
    """The algorithm on the CPU."""
    with contextlib.redirect_stderr(io.StringIO()):  # gym speaks of its age
        library = optional_module("d3rlpy", "guide=d3rlpy", INSTALL)
    installed = library.__version__
    if version.split(".")[0] != installed.split(".")[0]:
        raise _other_version(path, version, installed, "which keeps other objects")
    try:
        # Weights are drawn before they are read.
        with draws_from(None), _quiet():
            return library.load_learnable(str(path), device="cpu:0")
    # What is in the file decides what is raised.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise _other_version(path, version, installed, f"whose loading fails ({reason})") from error


def _other_version(path: Path, version: str, installed: str, why: str) -> UserError:
    return UserError(
        f"guide.path={str(path)!r} was saved by d3rlpy {version}, {why}; {installed} is installed: "
        "install that version, or export the policy by its save_policy as ONNX or TorchScript, and "
        "use guide=onnx or guide=torchscript"
    )


def _check_actions(algorithm: Any, size: int, spec: EnvSpec, key: str) -> None:
    chooses = algorithm.get_action_type().name == "DISCRETE"
    own = spec.actions
    if chooses != isinstance(own, DiscreteActions) or size != own.size:
        kinds = ("{} real numbers", "a choice among {}")
        raise UserError(
            f"{key} was trained with {kinds[chooses].format(size)} as actions; {spec.id} takes "
            f"{kinds[isinstance(own, DiscreteActions)].format(own.size)}; choose a guide that was "
            "trained with such actions"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what d3rlpy prints from the user; exceptions still pass."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@dataclass
class D3rlpyOptions(FileOptions):
    """Of ``guide=d3rlpy``."""

    # Whether it acts by samples instead of by the mode.
    sample: bool = False

    WANTED = "a file .d3 of d3rlpy"
    neutral = (("sample", False),)


@guides.register("d3rlpy", D3rlpyOptions)
def make_d3rlpy(options: D3rlpyOptions, inputs: GuideInputs) -> ForeignGuide:
    """The policy in a file of d3rlpy. Loading it runs no code."""
    options.check()
    path = Path(str(options.path))
    return d3rlpy_guide(path, options.view(), inputs.spec, len(inputs.seeds), sample=options.sample)
