"""The images of a dataset in an HDF5 file: each stored once, compressed, in chunks.

``images/NAME`` holds them, bytes with their channels first; ``image_at`` and ``image_after`` say
which of them each transition observed, and which its successor is.
"""

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from jsrl.core.specs import ObservationSpec
from jsrl.core.transitions import Frames
from jsrl.datasets.validation import dataset_error

IMAGES, AT, AFTER = "images", "image_at", "image_after"


def write_images(file: Any, frames: Frames) -> None:
    """Write images into a file that is open."""
    for name, images in frames.images.items():
        file.create_dataset(
            f"{IMAGES}/{name}", data=images, chunks=(1, *images.shape[1:]), compression="lzf"
        )
    file.create_dataset(AT, data=frames.at)
    file.create_dataset(AFTER, data=frames.after)


def images_in(file: Any) -> dict[str, Any]:
    """The entries of a file that are about images, as ``frames_of`` takes them."""
    if not isinstance(file.get(IMAGES), h5py.Group):
        return {}
    images = {str(name): file[IMAGES][name][()] for name in file[IMAGES]}
    return {IMAGES: images, **{name: file[name][()] for name in (AT, AFTER) if name in file}}


def frames_of(arrays: Mapping[str, Any], count: int, source: str) -> Frames | None:
    """The images of ``count`` transitions; None where there are none.

    Raises:
        UserError: if an array is missing, of another type or length, or leads to no image.
    """
    if IMAGES not in arrays:
        return None
    images: dict[str, np.ndarray] = {n: np.asarray(i) for n, i in arrays[IMAGES].items()}
    if not images:
        return None
    for name, stored in images.items():
        if stored.dtype != np.uint8 or stored.ndim != 4:
            raise dataset_error(
                source,
                f"images/{name} is {stored.dtype} {list(stored.shape)}; expected uint8 [images, "
                "channels, height, width]; convert it in the file",
            )
    held = min(map(len, images.values()))
    places = {}
    for name in (AT, AFTER):
        place = np.asarray(arrays.get(name, ()))
        fits = place.shape == (count,) and place.dtype.kind in "iu"
        if not fits or (count and not 0 <= int(place.min()) <= int(place.max()) < held):
            raise dataset_error(
                source,
                f"{name} is missing or does not lead to the {held} images of the file; expected "
                f"{count} whole numbers from 0 to {held - 1}, one a transition; make it again",
            )
        places[name] = place.astype(np.int64)
    return Frames(images, places[AT], places[AFTER])


def require_images(frames: Frames | None, spec: ObservationSpec, env_id: str, source: str) -> None:
    """Raise UserError if the images are not those that the environment observes."""
    there = spec.image_shapes
    here = {}
    if frames is not None:
        here = {name: tuple(images.shape[1:]) for name, images in frames.images.items()}
    if here != there:
        raise dataset_error(
            source,
            f"the images are {here or 'none'}, but environment '{env_id}' has {there or 'none'} "
            "(channels, height, width); choose a dataset and env.id that belong together",
        )
