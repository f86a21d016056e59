"""Exported files of policies that see images: the vector and each image are inputs of their own.

An image comes as the environment gives it, bytes in the environment's own order of axes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from jsrl.core.observations import Observation, image_of
from jsrl.core.specs import ImagePart, ObservationSpec
from jsrl.networks.export_onnx import onnx_session, require_onnx

VECTOR = "vector"
"""The name of the input that holds all numbers; it is left out where there are none."""

Inputs = tuple[Tensor, ...]


class SeenMode(nn.Module):
    """A policy's mode, called with the vector, if there is one, and images as they are given.

    Args:
        mode: takes float32 rows ``[n, O]`` and images uint8 ``[n, C, H, W]``.
        spec: of the observations.
    """

    def __init__(self, mode: nn.Module, spec: ObservationSpec) -> None:
        super().__init__()
        self.mode = mode
        self.vector_size = spec.size
        self.parts = spec.images

    def forward(self, *inputs: Shaped[Tensor, "n ..."]) -> Tensor:
        images = inputs[1:] if self.vector_size else inputs
        count = inputs[0].shape[0]
        rows = inputs[0] if self.vector_size else inputs[0].new_zeros(count, 0, dtype=torch.float32)
        moved = [_channels_first(part, i) for part, i in zip(self.parts, images, strict=True)]
        actions: Tensor = self.mode(rows, *moved)
        return actions


def input_names(spec: ObservationSpec) -> list[str]:
    """What the inputs are called, in their order."""
    vector = [VECTOR] if spec.size else []
    return [*vector, *(part.name.replace(".", "_") for part in spec.images)]


def example_inputs(spec: ObservationSpec, count: int) -> tuple[Inputs, Observation]:
    """Random inputs, and the observations ``[count]`` that they are."""
    draws = torch.Generator().manual_seed(0)
    vector = torch.randn(count, spec.size, generator=draws)
    given = {
        part.name: torch.randint(0, 256, (count, *part.shape), dtype=torch.uint8, generator=draws)
        for part in spec.images
    }
    images = {part.name: image_of(part, given[part.name].numpy(), (count,)) for part in spec.images}
    inputs = (*((vector,) if spec.size else ()), *given.values())
    return inputs, Observation(vector, images)


def write_torchscript(module: nn.Module, inputs: Inputs, path: Path) -> None:
    """Trace the module for any number of rows."""
    trace: Any = torch.jit.trace
    trace(module, inputs, check_trace=False).save(str(path))


def write_onnx(module: nn.Module, inputs: Inputs, names: list[str], path: Path) -> None:
    """Write the module for any number of rows.

    Raises:
        UserError: if a package for ONNX is not installed.
    """
    require_onnx()
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        module,
        inputs,
        str(path),
        dynamo=True,
        input_names=names,
        output_names=["action"],
        dynamic_shapes=(tuple({0: batch} for _ in inputs),),
        external_data=False,
        verbose=False,
    )


def run_torchscript(path: Path, inputs: Inputs) -> np.ndarray[Any, np.dtype[Any]]:
    """The actions of the file for one row, and then for the others."""
    load: Any = torch.jit.load
    module = load(str(path))
    return np.concatenate([module(*(x[rows] for x in inputs)).numpy() for rows in _batches()])


def run_onnx(path: Path, inputs: Inputs, names: list[str]) -> np.ndarray[Any, np.dtype[Any]]:
    """The actions of the file for one row, and then for the others."""
    session = onnx_session(path)
    found = [
        session.run(None, {n: x[rows].numpy() for n, x in zip(names, inputs, strict=True)})[0]
        for rows in _batches()
    ]
    return np.concatenate(found)


def _batches() -> tuple[slice, slice]:
    """A number of rows that was baked in on export fails on one of them."""
    return slice(0, 1), slice(1, None)


def _channels_first(part: ImagePart, image: Tensor) -> Tensor:
    if part.axes is not None:
        image = image.permute(0, *(axis + 1 for axis in part.axes))
    return image.reshape(image.shape[0], *part.image_shape)
