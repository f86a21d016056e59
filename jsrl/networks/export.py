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
from jsrl.core.protocols import NormalisingPolicy, SavablePolicy
from jsrl.networks.deployment import ActionUnits
from jsrl.networks.export_modules import AnyInput, mode_in_units
from jsrl.networks.export_onnx import give_any_rank

TOLERANCE = 1e-5
"""The largest difference between an exported file and the policy, in half ranges of an action."""

DESCRIBED_ARGUMENTS = ("hidden", "activation", "layer_norm")
"""Arguments of a policy that its description repeats, where its class has them."""

UNITS = ("environment", "normalised")
"""Of exported actions: those that the environment's ``step`` takes, or [-1, 1]."""


def export_policy(
    policy: SavablePolicy,
    index: int,
    path_stem: Path,
    extra: Mapping[str, Any] | None = None,
    units: ActionUnits | None = None,
) -> dict[str, Any]:
    """Write the mode of one seed's policy as TorchScript, ONNX and a description.

    Both take one observation ``[O]`` or any number ``[n, O]`` and return float32 actions, in the
    environment's units and shape, ``[n, *units.shape]``, or ``[n, A]`` in [-1, 1]. TorchScript
    takes any real dtype; an input of ONNX has one type, and that is float32. Each is compared with
    ``policy`` on random observations before it gets its name.

    Args:
        policy: the policies of S seeds.
        index: which of them.
        path_stem: the path, without ``.torchscript.pt``, ``.onnx`` and ``.json``.
        extra: plain values for the description: the observation layout, the environment, the seed.
        units: of the actions; None for [-1, 1].

    Returns:
        The paths under ``torchscript``, ``onnx``, ``json``, and under ``max_error`` the largest
        difference of each of the first two, in half ranges of an action.

    Raises:
        UserError: if a file cannot be written, differs from the policy by more than 1e-5, or the
            ONNX packages are missing; the TorchScript file stands by then.
    """
    path_stem = Path(path_stem)
    paths = {
        "torchscript": path_stem.with_name(path_stem.name + ".torchscript.pt"),
        "onnx": path_stem.with_name(path_stem.name + ".onnx"),
        "json": path_stem.with_name(path_stem.name + ".json"),
    }
    module = mode_in_units(policy, index, units)
    observations, expected = _examples(policy, index, units)
    half = 1.0 if units is None else _half_ranges(units)
    writers = {"torchscript": _write_torchscript, "onnx": _write_onnx}
    readers = {"torchscript": _run_torchscript, "onnx": _run_onnx}
    errors: dict[str, float] = {}
    for kind, write in writers.items():
        with _as_user_errors(paths[kind]), replacing(paths[kind]) as beside, _quiet():
            write(module, observations, beside)
            found = readers[kind](beside, observations)
            errors[kind] = float((np.abs(found - expected) / half).max())
            if not errors[kind] <= TOLERANCE:
                raise UserError(
                    f"{paths[kind]} was not written: it differs from the policy by "
                    f"{errors[kind]:.2g}; expected at most {TOLERANCE:g}. Large weights amplify "
                    "rounding; see whether the policy is finite and its observations normalised"
                )
        description = _describe(policy, units, {**(extra or {}), "max_error": dict(errors)})
        write_whole(paths["json"], _as_json(description))
    return {**{kind: str(path) for kind, path in paths.items()}, "max_error": errors}


def _examples(
    policy: SavablePolicy, index: int, units: ActionUnits | None, rows: int = 257
) -> tuple[Float[np.ndarray, "n O"], Float[np.ndarray, "n *A"]]:
    """Random observations, in the range that the policy was trained on, and its actions there."""
    alone = policy.select(index).to(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(rows, alone.observation_size, generator=generator)
    if isinstance(alone, NormalisingPolicy):
        mean, std = alone.normaliser()
        observations = mean + std * observations
    actions = alone.act(observations.unsqueeze(0), None)[0].numpy()
    return observations.numpy(), actions if units is None else units.apply(actions)


def _half_ranges(units: ActionUnits) -> NDArray[np.float64]:
    """Half the range of each number of an action, in the environment's shape."""
    low, high = (np.array(bound, np.float64) for bound in (units.low, units.high))
    return ((high - low) / 2).reshape(*units.shape)


def _describe(
    policy: SavablePolicy, units: ActionUnits | None, extra: Mapping[str, Any]
) -> dict[str, Any]:
    described = policy.describe()
    # Of classes that have them: what the network is made of.
    arguments = {n: v for n, v in described["arguments"].items() if n in DESCRIBED_ARGUMENTS}
    size = policy.action_size
    own = units or ActionUnits([-1.0] * size, [1.0] * size, [size])
    return {
        "input": "observation [observation_size] or [n, observation_size], flat in the order of "
        "the layout; TorchScript: any real dtype; ONNX: float32, so cast float64 first",
        "output": "action, float32, action_shape or [n, *action_shape]: the mode",
        "units": UNITS[units is None],
        "action_shape": list(own.shape),
        "action_low": list(own.low),
        "action_high": list(own.high),
        "policy": described["class"],
        "normalised_action_clip": described["arguments"].get("action_clip", 1.0),
        "observation_size": policy.observation_size,
        "action_size": size,
        **arguments,
        **extra,
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
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX export needs {error.name}, which is not installed; pip install "
            "'jsrl-torch[onnx]'; the TorchScript file was written"
        ) from error
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
    give_any_rank(path, observations.shape[1])


def _run_onnx(path: Path, observations: Float[np.ndarray, "n O"]) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
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
