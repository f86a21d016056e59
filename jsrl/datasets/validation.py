"""Checks of single arrays of a dataset: rank, type, finite values, bounds.

Every check names the dataset, the array, the value and the first index where it went wrong.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from jsrl.errors import UserError

ActionBound = int | float | Sequence[int | float] | np.ndarray
"""A bound of all action dimensions, or one of each, on the environment's scale."""

ACTION_TOLERANCE = 1e-3
"""How far an action may lie outside [-1, 1] and still be taken as rounding."""


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


def checked_actions(
    actions: Float[np.ndarray, "N A"],
    low: ActionBound | None,
    high: ActionBound | None,
    clip: bool,
    source: str,
) -> Float[np.ndarray, "N A"]:
    """Actions in [-1, 1], rescaled from [low, high] if bounds are given, and clipped.

    Raises:
        UserError: if bounds are not finite, not ascending or not of size A, or, unless ``clip``,
            if an action lies outside of them by more than ``ACTION_TOLERANCE`` on the scale of
            [-1, 1].
    """
    bounds = "[-1, 1]"
    original = actions
    if low is not None or high is not None:
        lower, upper = _checked_bounds(low, high, actions.shape[1], source)
        bounds = "the environment's action bounds"
        # In float64, so that the bounds themselves become -1 and 1 exactly.
        actions = (2 * (actions - lower) / (upper - lower) - 1).astype(np.float32)
    outside = np.abs(actions) > 1 + ACTION_TOLERANCE
    if outside.any() and not clip:
        row, column = (int(i) for i in np.argwhere(outside)[0])
        raise dataset_error(
            source,
            f"actions holds {original[row, column]} at index [{row}, {column}], outside {bounds}; "
            "give the environment's bounds as action_low and action_high, or clip_actions if the "
            "environment clipped them",
        )
    clipped: Float[np.ndarray, "N A"] = np.clip(actions, -1, 1)
    return clipped


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


def _checked_bounds(
    low: ActionBound | None, high: ActionBound | None, size: int, source: str
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    if low is None or high is None:
        given, absent = (
            ("action_high", "action_low") if low is None else ("action_low", "action_high")
        )
        raise dataset_error(source, f"{given} is given without {absent}; give both or neither")
    result = []
    for name, value in (("action_low", low), ("action_high", high)):
        bound = np.asarray(value, dtype=np.float64)
        if bound.shape not in ((), (size,)):
            raise dataset_error(
                source,
                f"{name} has shape {list(bound.shape)}; expected a number or one for each of the "
                f"{size} action dimensions",
            )
        result.append(np.broadcast_to(bound, (size,)))
    lower, upper = result
    usable = np.isfinite(lower) & np.isfinite(upper) & (lower < upper)
    if not usable.all():
        index = int(np.argmin(usable))
        raise dataset_error(
            source,
            f"the bounds of action dimension {index} are [{lower[index]}, {upper[index]}]; "
            "expected finite ascending ones, so that actions can be rescaled to [-1, 1]; "
            "use a dataset of an environment with bounded actions",
        )
    return lower, upper
