"""Observations of any environment: one vector and images by name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.specs import ImagePart, ObservationSpec, VectorPart


@dataclass(frozen=True)
class Observation:
    """What environments observe, in the order of an ``ObservationSpec``.

    The leading axes are the same of all: ``[S, E]`` while acting, ``[S, B]`` in a minibatch.

    Args:
        vector: float32; O may be 0.
        images: uint8 by name; nothing turns them into real numbers before the encoder.
    """

    vector: Float[Tensor, "... O"]
    images: Mapping[str, UInt8[Tensor, "... C H W"]]


def read_observation(spec: ObservationSpec, raw: Any, batch: tuple[int, ...] = ()) -> Observation:
    """What a Gymnasium environment gave, as an observation.

    Args:
        spec: of the environment.
        raw: an observation of one environment, or, with ``batch``, of a vectorised one: then its
            arrays have a leading axis of N environments.
        batch: the leading axes of the result, such as ``(S, E)`` with N = S * E environments, those
            of seed 0 first.

    Raises:
        UserError: if a part is missing, has another shape, or is outside of its range.
    """
    columns = [_columns(part, _array(part, raw, batch), batch) for part in spec.vector]
    joined = np.concatenate(columns, -1) if columns else np.zeros((*batch, 0), np.float32)
    images = {part.name: _image(part, _array(part, raw, batch), batch) for part in spec.images}
    return Observation(torch.from_numpy(joined), images)


def _array(
    part: VectorPart | ImagePart, raw: Any, batch: tuple[int, ...]
) -> np.ndarray[Any, np.dtype[Any]]:
    """The part as an array with the axes ``[*batch, *part.shape]``."""
    found = raw
    for key in part.path:
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"an observation has no part {part.name!r}, which the environment's observation "
                "space declares; give observations of that space"
            ) from None
    array = np.asarray(found)
    expected = ((math.prod(batch),) if batch else ()) + part.shape
    if array.shape != expected:
        raise UserError(
            f"part {part.name!r} of an observation has the shape {array.shape}; {expected} was "
            "expected: give observations of the space that the environment declares"
        )
    return array.reshape((*batch, *part.shape))


def _columns(
    part: VectorPart, array: np.ndarray[Any, np.dtype[Any]], batch: tuple[int, ...]
) -> Float32[np.ndarray, "... n"]:
    if not part.counts:
        return array.reshape(*batch, part.size).astype(np.float32)
    values = array.reshape(*batch, len(part.counts)).astype(np.int64) - np.array(part.starts)
    outside = (values < 0) | (values >= np.array(part.counts))
    if outside.any():
        index = int(np.argwhere(outside)[0][-1])
        first, count = part.starts[index], part.counts[index]
        wrong = int(values[outside][0]) + first
        raise UserError(
            f"part {part.name!r} of an observation is {wrong}; {first} to {first + count - 1} was "
            "expected: give observations of the space that the environment declares"
        )
    one_hot = np.zeros((*batch, part.size), np.float32)
    offsets = np.cumsum([0, *part.counts[:-1]])
    np.put_along_axis(one_hot, values + offsets, np.float32(1), -1)
    return one_hot


def _image(
    part: ImagePart, array: np.ndarray[Any, np.dtype[Any]], batch: tuple[int, ...]
) -> UInt8[Tensor, "... C H W"]:
    if array.dtype != np.uint8:
        raise UserError(
            f"image {part.name!r} of an observation holds {array.dtype}; uint8 was expected: give "
            "observations of the space that the environment declares"
        )
    if part.axes is not None:
        leading = range(len(batch))
        array = array.transpose(*leading, *(len(batch) + axis for axis in part.axes))
    # A copy, since environments may write into the array that they gave.
    return torch.from_numpy(array.reshape(*batch, *part.image_shape).copy())
