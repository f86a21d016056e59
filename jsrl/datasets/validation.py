"""Checks of single arrays of a dataset: rank, type, finite values.

Every check names the dataset, the array, the value and the first index where it went wrong.
"""

import numpy as np
from jaxtyping import Bool, Float

from jsrl.core.errors import UserError


def dataset_error(source: str, what: str) -> UserError:
    """A one-line error that opens with what was read."""
    return UserError(f"dataset {source}: {what}")


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def checked_floats(
    array: np.ndarray, name: str, rank: int, source: str
) -> Float[np.ndarray, "..."]:
    """The array as contiguous float32 of ``rank`` dimensions; [N, 1] may stand for [N].

    Raises:
        UserError: for another rank, no columns, a type that is not a real number, or a value
            that is NaN or infinite (also one that float32 cannot hold).
    """
    array = _checked_rank(array, name, rank, source)
    with np.errstate(over="ignore", invalid="ignore"):
        floats = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(floats)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        index = where[0] if rank == 1 else list(where)
        raise dataset_error(
            source,
            f"{name} holds {array[where]} at index {index}; expected finite float32 values; "
            "repair or leave out that episode",
        )
    return floats


def checked_flags(array: np.ndarray, name: str, source: str) -> Bool[np.ndarray, " N"]:
    """The array as booleans ``[N]``, a copy.

    Raises:
        UserError: for another rank, or a value other than 0 and 1.
    """
    array = _checked_rank(array, name, 1, source)
    flags: Bool[np.ndarray, " N"] = array.astype(bool)
    wrong = flags != array
    if wrong.any():
        index = int(np.argmax(wrong))
        raise dataset_error(
            source,
            f"{name} holds {array[index]} at index {index}; expected only 0 and 1, or booleans; "
            "check how the file was made",
        )
    return flags


def _checked_rank(array: np.ndarray, name: str, rank: int, source: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise dataset_error(
            source, f"{name} has type {array.dtype}; expected numbers; check how the file was made"
        )
    # D4RL's own files hold some rewards and terminals as a column.
    if rank == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != rank or (rank == 2 and array.shape[1] == 0):
        expected = "[transitions]" if rank == 1 else "[transitions, size]"
        raise dataset_error(
            source,
            f"{name} has shape {list(array.shape)}; expected {expected}; "
            "flatten or reshape it in the file",
        )
    return array
