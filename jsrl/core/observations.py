"""Observations of any environment: one vector and images by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
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
    images: Mapping[str, UInt8[Tensor, "... C H W"]] = field(default_factory=dict)

    @property
    def leading(self) -> tuple[int, ...]:
        """The axes before those of a single observation."""
        return tuple(self.vector.shape[:-1])

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.vector.device

    def __getitem__(self, index: Any) -> "Observation":
        """The observations at an index of the leading axes."""
        return self.for_each(lambda tensor: tensor[index])

    def for_each(self, change: Callable[[Tensor], Tensor]) -> "Observation":
        """The observation whose tensors are what ``change`` makes of these."""
        if not self.images:
            return Observation(change(self.vector))
        images = {name: change(image) for name, image in self.images.items()}
        return Observation(change(self.vector), images)

    def to(self, device: torch.device) -> "Observation":
        """The observation on another device."""
        if self.device == device:
            return self
        # To the CPU a copy has to be there before it is read.
        waits = device.type == "cpu"
        return self.for_each(lambda tensor: tensor.to(device, non_blocking=not waits))

    def arranged(self, *leading: int) -> "Observation":
        """The same observations, with other leading axes."""
        axes = self.vector.dim() - 1
        return self.for_each(lambda tensor: tensor.reshape(*leading, *tensor.shape[axes:]))

    def only(self, mask: Bool[Tensor, "..."]) -> "Observation":
        """The observations where ``mask``, and zeros elsewhere, whatever is there."""

        def masked(tensor: Tensor) -> Tensor:
            where = mask.reshape(*mask.shape, *[1] * (tensor.dim() - mask.dim()))
            return torch.where(where, tensor, 0)

        return self.for_each(masked)

    def copy(self) -> "Observation":
        """The observation in memory of its own."""
        return self.for_each(torch.clone)


def joined(observations: Sequence[Observation], axis: int = 0) -> Observation:
    """Observations with the same images, one after the other along a leading axis."""
    images = {
        name: torch.cat([each.images[name] for each in observations], axis)
        for name in observations[0].images
    }
    return Observation(torch.cat([each.vector for each in observations], axis), images)


def zeros_of(spec: ObservationSpec, *leading: int) -> Observation:
    """Observations of zeros."""
    images = {
        name: torch.zeros(*leading, *shape, dtype=torch.uint8)
        for name, shape in spec.image_shapes.items()
    }
    return Observation(torch.zeros(*leading, spec.size), images)


def read_observation(spec: ObservationSpec, raw: Any, batch: tuple[int, ...] = ()) -> Observation:
    """What a Gymnasium environment gave, as an observation.

    Args:
        spec: of the environment.
        raw: an observation of one environment, or, with ``batch``, of a vectorised one: then its
            arrays have a leading axis of N environments.
        batch: the leading axes of the result, such as ``(S, E)`` with N = S * E environments, those
            of seed 0 first.

    Raises:
        UserError: if a part is missing, has another shape, holds anything but numbers, or is
            outside of its range.
    """
    columns = [columns_of(part, _array(part, raw, batch), batch) for part in spec.vector]
    joined = np.concatenate(columns, -1) if columns else np.zeros((*batch, 0), np.float32)
    images = {part.name: image_of(part, _array(part, raw, batch), batch) for part in spec.images}
    return Observation(torch.from_numpy(joined), images)


def as_given(spec: ObservationSpec, observation: Observation) -> Any:
    """The observation as the environment gives it, with the same leading axes; NumPy throughout.

    Dictionaries and tuples are what they were, images have their own axes, and what is one-hot in
    the vector is a number again.
    """
    leading, start = observation.leading, 0
    vector = observation.vector.detach().cpu().numpy()
    found: list[tuple[tuple[Any, ...], Any]] = []
    for part in spec.vector:
        columns = vector[..., start : start + part.size]
        start += part.size
        found.append((part.path, _given_part(part, columns).reshape(*leading, *part.shape)))
    for image in spec.images:
        pixels = observation.images[image.name].detach().cpu().numpy()
        found.append((image.path, _given_image(image, pixels)))
    return _nested(found)


def _given_part(
    part: VectorPart, columns: np.ndarray[Any, np.dtype[Any]]
) -> np.ndarray[Any, np.dtype[Any]]:
    if not part.counts:
        return columns
    ends = np.cumsum(part.counts)
    hot = [columns[..., end - count : end] for count, end in zip(part.counts, ends, strict=True)]
    numbers = [one.argmax(-1) + first for one, first in zip(hot, part.starts, strict=True)]
    return np.stack(numbers, -1)


def _given_image(
    part: ImagePart, pixels: np.ndarray[Any, np.dtype[Any]]
) -> np.ndarray[Any, np.dtype[Any]]:
    leading = pixels.shape[:-3]
    if part.axes is None:
        return pixels.reshape(*leading, *part.shape)
    moved = pixels.reshape(*leading, *(part.shape[axis] for axis in part.axes))
    back = np.argsort(part.axes)
    return moved.transpose(*range(len(leading)), *(len(leading) + axis for axis in back))


def _nested(found: list[tuple[tuple[Any, ...], Any]]) -> Any:
    """Dictionaries, and tuples where the keys are places, of values with the paths to them."""
    if found[0][0] == ():
        return found[0][1]
    keys = list(dict.fromkeys(path[0] for path, _ in found))
    parts = {
        key: _nested([(path[1:], value) for path, value in found if path[0] == key]) for key in keys
    }
    if all(isinstance(key, int) for key in keys):
        return tuple(parts[key] for key in sorted(keys))
    return parts


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
    try:
        array = np.asarray(found)
    except ValueError:
        # Lists of different lengths.
        array = np.asarray(found, object)
    expected = ((math.prod(batch),) if batch else ()) + part.shape
    if array.shape != expected:
        raise UserError(
            f"part {part.name!r} of an observation has the shape {array.shape}; {expected} was "
            "expected: give observations of the space that the environment declares"
        )
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"part {part.name!r} of an observation holds {array.dtype}; numbers were expected: "
            "give observations of the space that the environment declares"
        )
    return array.reshape((*batch, *part.shape))


def columns_of(
    part: VectorPart, array: np.ndarray[Any, np.dtype[Any]], batch: tuple[int, ...]
) -> Float32[np.ndarray, "... n"]:
    """The columns of a part, from an array ``[*batch, *part.shape]``.

    Raises:
        UserError: if a number that is one-hot in the vector is outside of its range.
    """
    if not part.counts:
        return array.reshape(*batch, part.size).astype(np.float32)
    numbers = array.reshape(*batch, len(part.counts))
    if numbers.dtype.kind == "f" and not (numbers == np.rint(numbers)).all():
        wrong_number = float(numbers[numbers != np.rint(numbers)][0])
        raise UserError(
            f"part {part.name!r} of an observation is {wrong_number:g}; a whole number was "
            "expected: give observations of the space that the environment declares"
        )
    values = numbers.astype(np.int64) - np.array(part.starts)
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


def image_of(
    part: ImagePart, array: np.ndarray[Any, np.dtype[Any]], batch: tuple[int, ...]
) -> UInt8[Tensor, "... C H W"]:
    """An image with its channels first, from an array ``[*batch, *part.shape]``.

    Raises:
        UserError: if it holds anything but bytes.
    """
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
