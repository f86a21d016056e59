"""The arrays of D4RL's layout: which there have to be, and that they belong together."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from jsrl.datasets.validation import checked_floats, dataset_error

REQUIRED_ARRAYS = ("observations", "actions", "rewards", "terminals")
OPTIONAL_ARRAYS = ("timeouts", "next_observations")


def known_arrays(arrays: Mapping[str, Any], source: str) -> dict[str, np.ndarray]:
    """The required and optional arrays, all there and of one length."""
    missing = [name for name in REQUIRED_ARRAYS if name not in arrays]
    if missing:
        raise dataset_error(
            source,
            f"{' and '.join(missing)} not found; expected the arrays "
            f"{', '.join(REQUIRED_ARRAYS)} of D4RL's layout; choose another file or add them",
        )
    known = {
        name: np.asarray(arrays[name])
        for name in REQUIRED_ARRAYS + OPTIONAL_ARRAYS
        if name in arrays
    }
    _check_lengths(known, source)
    return known


def _check_lengths(arrays: dict[str, np.ndarray], source: str) -> None:
    for name, array in arrays.items():
        if array.ndim == 0:
            raise dataset_error(
                source, f"{name} is a single value; expected an array with one row a transition"
            )
    expected = len(arrays["observations"])
    for name, array in arrays.items():
        if len(array) != expected:
            raise dataset_error(
                source,
                f"{name} has {len(array)} rows, but observations has {expected}; expected equal "
                "lengths; the file may have been cut or mixed up: make or fetch it again",
            )
    if expected == 0:
        raise dataset_error(source, "0 transitions; expected at least 1; choose another file")


def checked_vectors(
    array: np.ndarray, name: str, arrays: Mapping[str, Any], source: str
) -> Float[np.ndarray, "N O"]:
    """Vectors as ``checked_floats`` has them; without a column only where there are images."""
    if array.ndim == 2 and array.shape[1] == 0 and "images" in arrays:
        return array.astype(np.float32)
    return checked_floats(array, name, 2, source)


def checked_successors(
    arrays: dict[str, np.ndarray], size: int, source: str
) -> Float[np.ndarray, "N O"] | None:
    """The stored next observations, if there are any."""
    if "next_observations" not in arrays:
        return None
    successors = arrays["next_observations"]
    if size or successors.shape[-1]:
        successors = checked_floats(successors, "next_observations", 2, source)
    if successors.shape[1] != size:
        raise dataset_error(
            source,
            f"next_observations have size {successors.shape[1]}, but observations have size "
            f"{size}; expected equal sizes; check how the file was made",
        )
    return successors
