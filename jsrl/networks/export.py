"""The mode of a policy as files that other programs load: TorchScript and ONNX."""

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.files import replacing, write_whole
from jsrl.core.observations import Observation
from jsrl.core.protocols import NormalisingPolicy, SavablePolicy, SeesImages
from jsrl.core.specs import ObservationSpec
from jsrl.networks import export_images
from jsrl.networks.deployment import ActionUnits, ChoiceUnits, Units
from jsrl.networks.export_modules import AnyInput, mode_in_units
from jsrl.networks.export_onnx import give_any_rank, onnx_session, require_onnx

TOLERANCE = 1e-5
"""The largest difference between an exported file and the policy, in half ranges of an action."""

DESCRIBED_ARGUMENTS = ("hidden", "activation", "layer_norm")
"""Arguments of a policy that its description repeats, where its class has them."""

IMAGE_ROWS = 9
"""Observations with images on which an exported file is compared."""

Formats = dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]]
"""How a file of each kind is written, and how it answers once it is read again."""

UNITS = ("environment", "normalised")
"""Of exported actions: those that the environment's ``step`` takes, or [-1, 1]."""


def export_policy(
    policy: SavablePolicy,
    index: int,
    path_stem: Path,
    extra: Mapping[str, Any] | None = None,
    units: Units | None = None,
    observation: ObservationSpec | None = None,
) -> dict[str, Any]:
    """Write the mode of one seed's policy as TorchScript, ONNX and a description.

    Both take one observation ``[O]`` or any number ``[n, O]`` and return float32 actions, in the
    environment's units and shape, ``[n, *units.shape]``, or ``[n, A]`` in [-1, 1]; or choices,
    int64 ``[n]``. TorchScript takes any real dtype; an input of ONNX has one type, and that is
    float32. A policy that sees images takes rows only, each image as an input of its own, see
    ``export_images``. Each file is compared with ``policy`` on random observations before it gets
    its name.

    Args:
        policy: the policies of S seeds.
        index: which of them.
        path_stem: the path, without ``.torchscript.pt``, ``.onnx`` and ``.json``.
        extra: plain values for the description: the observation layout, the environment, the seed.
        units: of the actions; None for [-1, 1], or choices from 0.
        observation: what the environment observes; needed for a policy that sees images.

    Returns:
        The paths under ``torchscript``, ``onnx``, ``json``, and under ``max_error`` the largest
        difference of each of the first two, in half ranges of an action; of choices, the share
        that differs.

    Raises:
        UserError: if a file cannot be written, differs from the policy by more than 1e-5, or the
            ONNX packages are missing; the TorchScript file stands by then.
    """
    endings = {"torchscript": ".torchscript.pt", "onnx": ".onnx", "json": ".json"}
    stem = Path(path_stem)
    paths = {kind: stem.with_name(stem.name + ending) for kind, ending in endings.items()}
    module = mode_in_units(policy, index, units)
    sees_images = isinstance(policy, SeesImages) and bool(policy.images)
    if sees_images and observation is not None:
        formats, observed = _with_images(module, observation)
    else:
        formats, observed = _of_vectors(module, policy, index)
    expected = _expected(policy, index, observed, units)
    errors: dict[str, float] = {}
    for kind, (write, run) in formats.items():
        with _as_user_errors(paths[kind]), replacing(paths[kind]) as beside, _quiet():
            write(beside)
            errors[kind] = _difference(run(beside), expected, units)
            if not errors[kind] <= TOLERANCE:
                raise UserError(
                    f"{paths[kind]} was not written: it differs from the policy by "
                    f"{errors[kind]:.2g}; expected at most {TOLERANCE:g}. Large weights amplify "
                    "rounding; see whether the policy is finite and its observations normalised"
                )
        about = {**(extra or {}), "max_error": dict(errors)}
        described = _describe(policy, units, observation, expected.dtype.kind == "i", about)
        write_whole(paths["json"], _as_json(described))
    return {**{kind: str(path) for kind, path in paths.items()}, "max_error": errors}


def _of_vectors(
    module: nn.Module, policy: SavablePolicy, index: int, rows: int = 257
) -> tuple[Formats, Observation]:
    """How files of a policy of vectors are written and run, and random observations for that.

    The observations are in the range that the policy was trained on.
    """
    alone = policy.select(index).to(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(rows, alone.observation_size, generator=generator)
    if isinstance(alone, NormalisingPolicy):
        mean, std = alone.normaliser()
        # Statistics of each seed have an axis of seeds, which is one long here.
        vectors = (mean + std * vectors).reshape(rows, -1)
    given = vectors.numpy()
    formats: Formats = {
        "torchscript": (
            lambda path: _write_torchscript(module, given, path),
            lambda path: _run_torchscript(path, given),
        ),
        "onnx": (
            lambda path: _write_onnx(module, given, path),
            lambda path: _run_onnx(path, given),
        ),
    }
    return formats, Observation(vectors)


def _with_images(module: nn.Module, spec: ObservationSpec) -> tuple[Formats, Observation]:
    """How files of a policy that sees images are written and run, and observations for that."""
    inputs, observed = export_images.example_inputs(spec, IMAGE_ROWS)
    seen = export_images.SeenMode(module, spec).eval()
    names = export_images.input_names(spec)
    formats: Formats = {
        "torchscript": (
            lambda path: export_images.write_torchscript(seen, inputs, path),
            lambda path: export_images.run_torchscript(path, inputs),
        ),
        "onnx": (
            lambda path: export_images.write_onnx(seen, inputs, names, path),
            lambda path: export_images.run_onnx(path, inputs, names),
        ),
    }
    return formats, observed


def _expected(
    policy: SavablePolicy, index: int, observed: Observation, units: Units | None
) -> np.ndarray[Any, np.dtype[Any]]:
    """The policy's own actions for observations ``[n]``."""
    alone = policy.select(index).to(torch.device("cpu"))
    actions: np.ndarray[Any, np.dtype[Any]] = alone.act(observed[None], None)[0].numpy()
    return actions if units is None else units.apply(actions)


def _difference(found: Any, expected: Any, units: Units | None) -> float:
    """How far actions are apart, in half ranges; of choices, which share differs."""
    if expected.dtype.kind == "i":
        return float((found != expected).mean())
    half = _half_ranges(units) if isinstance(units, ActionUnits) else 1.0
    return float((np.abs(found - expected) / half).max())


def _half_ranges(units: ActionUnits) -> NDArray[np.float64]:
    """Half the range of each number of an action, in the environment's shape."""
    low, high = (np.array(bound, np.float64) for bound in (units.low, units.high))
    return ((high - low) / 2).reshape(*units.shape)


def _describe(
    policy: SavablePolicy,
    units: Units | None,
    observation: ObservationSpec | None,
    chooses: bool,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    described = policy.describe()
    # Of classes that have them: what the network is made of.
    arguments = {n: v for n, v in described["arguments"].items() if n in DESCRIBED_ARGUMENTS}
    inputs: dict[str, Any] = {
        "input": "observation [observation_size] or [n, observation_size], flat in the order of "
        "the layout; TorchScript: any real dtype; ONNX: float32, so cast float64 first",
    }
    if isinstance(policy, SeesImages) and policy.images and observation is not None:
        shapes = {part.name: list(part.shape) for part in observation.images}
        inputs = {
            "input": "in this order: vector [n, observation_size] float32, flat in the order of "
            "the layout, unless that is 0; then each image [n, *shape] uint8, as the environment "
            "gives it",
            "inputs": export_images.input_names(observation),
            "image_shapes": shapes,
        }
    return {
        **inputs,
        **_described_actions(policy, units, chooses),
        "policy": described["class"],
        "normalised_action_clip": described["arguments"].get("action_clip", 1.0),
        "observation_size": policy.observation_size,
        "action_size": policy.action_size,
        **arguments,
        **extra,
    }


def _described_actions(policy: SavablePolicy, units: Units | None, chooses: bool) -> dict[str, Any]:
    """What the files answer in."""
    size = policy.action_size
    if isinstance(units, ChoiceUnits) or chooses:
        choices = units if isinstance(units, ChoiceUnits) else ChoiceUnits(size, 0)
        return {
            "output": "action, int64, a number or [n]: the most valuable or probable choice",
            "units": UNITS[units is None],
            "choices": [choices.start, choices.start + choices.n - 1],
        }
    own = units or ActionUnits([-1.0] * size, [1.0] * size, [size])
    return {
        "output": "action, float32, action_shape or [n, *action_shape]: the mode",
        "units": UNITS[units is None],
        "action_shape": list(own.shape),
        "action_low": list(own.low),
        "action_high": list(own.high),
    }


def _as_json(values: Mapping[str, Any]) -> bytes:
    """JSON has no infinite numbers and no NaN; they become null."""
    return (json.dumps(_finite(values), indent=2, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_torchscript(
    module: nn.Module, observations: Float[np.ndarray, "n O"], path: Path
) -> None:
    trace: Any = torch.jit.trace
    rows = trace(module, torch.from_numpy(observations), check_trace=False)
    # Traced alone, it would take inputs of one rank only.
    script: Any = torch.jit.script
    script(AnyInput(rows, observations.shape[1])).save(str(path))


def _run_torchscript(path: Path, observations: Float[np.ndarray, "n O"]) -> np.ndarray:
    load: Any = torch.jit.load
    module = load(str(path))
    return _in_all_ways(lambda x: module(torch.from_numpy(x)).numpy(), observations, np.float64)


def _write_onnx(module: nn.Module, observations: Float[np.ndarray, "n O"], path: Path) -> None:
    require_onnx()
    torch.onnx.export(
        module,
        (torch.from_numpy(observations),),
        str(path),
        dynamo=True,
        input_names=["rows"],
        output_names=["row_actions"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    with torch.no_grad():
        chooses = not module(torch.from_numpy(observations[:1])).is_floating_point()
    give_any_rank(path, observations.shape[1], chooses=chooses)


def _run_onnx(path: Path, observations: Float[np.ndarray, "n O"]) -> np.ndarray:
    session = onnx_session(path)
    return _in_all_ways(
        lambda x: session.run(None, {"observation": x})[0], observations, np.float32
    )


def _in_all_ways(
    run: Callable[[np.ndarray], np.ndarray], x: Float[np.ndarray, "n O"], dtype: type
) -> np.ndarray:
    """``run`` on one observation, on a batch of one, and on the others in another dtype.

    What was baked in on export fails on one of them.
    """
    return np.concatenate([run(x[0])[None], run(x[1:2]), run(x[2:].astype(dtype))])


@contextlib.contextmanager
def _as_user_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say of themselves from the user; exceptions still pass."""
    disabled = logging.root.manager.disable
    nowhere = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
