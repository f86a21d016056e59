"""The mode of a policy as files that other programs load: TorchScript and ONNX."""

import contextlib
import copy
import io
import json
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.errors import UserError
from jsrl.files import replacing, write_whole
from jsrl.networks import GaussianPolicy, SeedLayerNorm, SeedLinear

TOLERANCE = 1e-5
"""The largest difference, in action units, between an exported file and the policy."""


class Normalise(nn.Module):
    """Observations in the units that the network was trained in."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, " O"], std: Float[Tensor, " O"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, obs: Float[Tensor, "n O"]) -> Float[Tensor, "n O"]:
        return (obs - self.mean) / self.std


class Clip(nn.Module):
    """Actions clipped to ± ``bound``."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, actions: Float[Tensor, "n A"]) -> Float[Tensor, "n A"]:
        return actions.clamp(-self.bound, self.bound)


def plain_module(policy: GaussianPolicy, index: int) -> nn.Sequential:
    """The mode of seed ``index`` of ``policy`` in PyTorch's own layers, without a seed axis.

    It maps observations ``[n, O]`` to actions ``[n, A]`` in [-1, 1]. Layers keep their names.
    """
    alone = policy.select(index).cpu()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if policy.normalise_observations:
        layers["normalise"] = Normalise(alone.observation_mean, alone.observation_std)
    with torch.no_grad():
        # The output layer was registered last, so that this is the order of the forward.
        for name, layer in alone.mlp.named_children():
            if isinstance(layer, SeedLinear):
                weight = layer.weight[0]
                linear = nn.Linear(weight.shape[0], weight.shape[1])
                linear.weight.copy_(weight.T)
                linear.bias.copy_(layer.bias[0, 0])
                layers[name] = linear
            elif isinstance(layer, SeedLayerNorm):
                norm = nn.LayerNorm(layer.weight.shape[-1])
                norm.weight.copy_(layer.weight[0, 0])
                norm.bias.copy_(layer.bias[0, 0])
                layers[name] = norm
            else:
                layers[name] = copy.deepcopy(layer)
    if policy.tanh_mean:
        layers["tanh"] = nn.Tanh()
    layers["clip"] = Clip(policy.action_clip)
    return nn.Sequential(layers).requires_grad_(False).eval()


def export_policy(
    policy: GaussianPolicy,
    index: int,
    path_stem: Path,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the mode of one seed's policy as TorchScript, ONNX and a description.

    Both take float32 observations ``[n, O]``, any n, and return actions ``[n, A]`` in [-1, 1]. Each
    is compared with ``policy`` on random observations before it gets its name.

    Args:
        policy: the policies of S seeds.
        index: which of them.
        path_stem: the path, without ``.torchscript.pt``, ``.onnx`` and ``.json``.
        extra: plain values for the description: the observation layout, the environment, the seed.

    Returns:
        The paths under ``torchscript``, ``onnx``, ``json``, and under ``max_error`` the largest
        difference of each of the first two, in action units.

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
    module = plain_module(policy, index)
    observations, expected = _examples(policy, index)
    writers = {"torchscript": _write_torchscript, "onnx": _write_onnx}
    readers = {"torchscript": _run_torchscript, "onnx": _run_onnx}
    errors: dict[str, float] = {}
    for kind, write in writers.items():
        with _told_plainly(paths[kind]), replacing(paths[kind]) as beside, _quiet():
            write(module, observations, beside)
            found = readers[kind](beside, observations)
            errors[kind] = float(np.abs(found - expected).max())
            if not errors[kind] <= TOLERANCE:
                raise UserError(
                    f"{paths[kind]} was not written: it differs from the policy by "
                    f"{errors[kind]:.2g}; expected at most {TOLERANCE:g}. Large weights amplify "
                    "rounding; see whether the policy is finite and its observations normalised"
                )
        description = _describe(policy, {**(extra or {}), "max_error": dict(errors)})
        write_whole(paths["json"], (json.dumps(description, indent=2) + "\n").encode())
    return {**{kind: str(path) for kind, path in paths.items()}, "max_error": errors}


def _examples(
    policy: GaussianPolicy, index: int, rows: int = 257
) -> tuple[Float[np.ndarray, "n O"], Float[np.ndarray, "n A"]]:
    """Random observations, in the range that the policy was trained on, and its actions there."""
    alone = policy.select(index).cpu()
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(rows, alone.observation_mean.shape[0], generator=generator)
    observations = alone.observation_mean + alone.observation_std * draws
    return observations.numpy(), alone.act(observations.unsqueeze(0), None)[0].numpy()


def _describe(policy: GaussianPolicy, extra: Mapping[str, Any]) -> dict[str, Any]:
    arguments = policy.arguments
    sizes = ("observation_size", "action_size", "hidden", "activation", "layer_norm")
    return {
        "input": "observation, float32 [n, observation_size]",
        "output": "action, float32 [n, action_size]: the mode",
        "action_range": [-policy.action_clip, policy.action_clip],
        **{name: arguments[name] for name in sizes},
        **extra,
    }


def _write_torchscript(
    module: nn.Module, observations: Float[np.ndarray, "n O"], path: Path
) -> None:
    trace: Any = torch.jit.trace
    trace(module, torch.from_numpy(observations), check_trace=False).save(str(path))


def _run_torchscript(path: Path, observations: Float[np.ndarray, "n O"]) -> np.ndarray:
    load: Any = torch.jit.load
    return _in_two_sizes(lambda x: load(str(path))(torch.from_numpy(x)).numpy(), observations)


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
        input_names=["observation"],
        output_names=["action"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )


def _run_onnx(path: Path, observations: Float[np.ndarray, "n O"]) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    return _in_two_sizes(lambda x: session.run(None, {"observation": x})[0], observations)


def _in_two_sizes(run: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """``run`` on one row and on the others: a batch size that was baked in fails here."""
    return np.concatenate([run(x[:1]), run(x[1:])])


@contextlib.contextmanager
def _told_plainly(path: Path) -> Iterator[None]:
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
