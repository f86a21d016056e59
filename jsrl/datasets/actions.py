"""Actions of data: from the range in which a file keeps them to the package's [-1, 1].

A file in D4RL's layout holds what ``env.step`` took, so that its actions are in the environment's
own units; so do Minari's and robomimic's. Files of this package hold [-1, 1] and say so.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from jsrl.core.conversions import action_line, is_unit_range, show_range
from jsrl.datasets.reading import ENVIRONMENT, NORMALISED, UNCHECKED, ActionBound, Reading
from jsrl.datasets.validation import dataset_error

ACTION_TOLERANCE = 1e-3
"""How far an action may lie outside [-1, 1] and still be taken as rounding."""

Bounds = tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]
"""Lower and upper, float64."""


@dataclass(frozen=True)
class ReadActions:
    """Actions as the package takes them, and how they came to be so.

    Args:
        values: in [-1, 1].
        meant_for: the environment's bounds that -1 and 1 were taken to stand for; None where the
            actions are relative to whatever bounds the environment has.
        lines: what was converted, one line each.
        doubts: what is possible, but should be looked at.
    """

    values: Shaped[np.ndarray, "N *A"]
    meant_for: tuple[tuple[float, ...], tuple[float, ...]] | None
    lines: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Range:
    """The range in which a file keeps its actions, and how that is known."""

    bounds: Bounds
    why: str
    relative: bool


def read_actions(actions: Float[np.ndarray, "N A"], reading: Reading, source: str) -> ReadActions:
    """Actions of a file, checked, and rescaled to [-1, 1] if they are not in that range.

    Args:
        actions: as the file has them.
        reading: says what is known of their range.
        source: what was read.

    Raises:
        UserError: if bounds are not finite, not ascending or not of size A, or, unless they are to
            be clipped, if an action lies outside of them by more than ``ACTION_TOLERANCE`` on the
            scale of [-1, 1].
    """
    if reading.action_units == UNCHECKED:
        return ReadActions(actions, None)
    own = _range_of(reading, actions.shape[1], source)
    lower, upper = own.bounds
    values = actions
    if not is_unit_range(lower, upper):
        # In float64, so that the bounds themselves become -1 and 1 exactly.
        values = (2 * (actions - lower) / (upper - lower) - 1).astype(np.float32)
    outside = np.abs(values) > 1 + ACTION_TOLERANCE
    lines = []
    if outside.any():
        if not reading.clip_actions:
            raise dataset_error(source, _refusal(actions, outside, own, reading))
        count = int(outside.any(axis=1).sum())
        lines.append(
            f"actions of dataset {source}: {count} of {len(actions)} rows lie outside "
            f"{show_range(lower, upper)} and are clipped to it (clip_actions)"
        )
    clipped: Float[np.ndarray, "N A"] = np.clip(values, -1, 1)
    lines = [*_mapping_lines(actions, own, reading, source), *lines]
    meant_for = None if own.relative else (tuple(map(float, lower)), tuple(map(float, upper)))
    return ReadActions(clipped, meant_for, tuple(lines), _doubts(actions, own, reading, source))


def _range_of(reading: Reading, size: int, source: str) -> _Range:
    spec = reading.spec
    if reading.action_low is not None or reading.action_high is not None:
        bounds = _checked_bounds(reading.action_low, reading.action_high, size, source)
        return _Range(bounds, "dataset.action_low and action_high", relative=True)
    if reading.action_units == NORMALISED:
        return _Range((-np.ones(size), np.ones(size)), "as the file says", relative=True)
    if reading.action_units not in (None, ENVIRONMENT):
        raise dataset_error(
            source,
            f"action units {reading.action_units!r} are unknown; expected {NORMALISED} or "
            f"{ENVIRONMENT}; correct that attribute of the file",
        )
    if spec is not None:
        bounds = _checked_bounds(spec.box.low, spec.box.high, size, source)
        return _Range(bounds, f"the bounds of {spec.id}", relative=False)
    if reading.recorded_bounds is not None:
        bounds = _checked_bounds(*reading.recorded_bounds, size, source)
        return _Range(bounds, "the data's own action space", relative=False)
    return _Range((-np.ones(size), np.ones(size)), "no environment is named", relative=False)


def _refusal(
    actions: Float[np.ndarray, "N A"], outside: np.ndarray, own: _Range, reading: Reading
) -> str:
    """What is wrong with actions outside their range, and two ways out."""
    row, column = (int(i) for i in np.argwhere(outside)[0])
    low, high = _likely_range(actions)
    if reading.spec is None:
        range_given, clip = f"action_low={low}, action_high={high}", "clip_actions=True"
    else:
        range_given = f"dataset.action_low={low} dataset.action_high={high}"
        clip = "dataset.clip_actions=true"
    if low == "LOW":
        range_given += " with its bounds, a number or a list of one for each action"
    else:
        range_given += f" if it is [{low}, {high}] for every action"
    columns = np.flatnonzero(outside.any(axis=0)).tolist()
    return (
        f"actions holds {actions[row, column]:.6g} at index [{row}, {column}], outside "
        f"{show_range(*own.bounds)} ({own.why}); columns with such actions: {columns}; all "
        f"actions span [{actions.min():.6g}, {actions.max():.6g}]; if the environment clipped "
        f"them, give {clip}; if the file keeps them in a range of its own, give {range_given}"
    )


def _likely_range(actions: Float[np.ndarray, "N A"]) -> tuple[str, str]:
    """A range that a file may well have: [-1, 1], or another one about 0; else words for it."""
    low, high = float(actions.min()), float(actions.max())
    if low >= -1 - ACTION_TOLERANCE and high <= 1 + ACTION_TOLERANCE:
        return "-1", "1"
    if low >= 0 or high <= 0:
        return "LOW", "HIGH"
    largest = max(-low, high)
    unit = 10.0 ** (math.floor(math.log10(largest)) - 1)
    bound = f"{math.ceil(largest / unit) * unit:.6g}"
    return f"-{bound}", bound


def _mapping_lines(
    actions: Float[np.ndarray, "N A"], own: _Range, reading: Reading, source: str
) -> list[str]:
    if reading.spec is None:
        return []
    lower, upper = own.bounds
    line = action_line(f"dataset {source}", lower, upper, own.why, reading.spec, "read")
    if line is None:
        return []
    line += f"; they span [{actions.min():.6g}, {actions.max():.6g}]"
    recorded, spec = reading.recorded_bounds, reading.spec
    if recorded is not None and not own.relative:
        theirs, ours = show_range(*recorded), show_range(spec.box.low, spec.box.high)
        if theirs != ours:
            line += (
                f"; the data were recorded in an action space of {theirs}: if that range stands "
                f"for {ours}, give {_as_keys(recorded)}"
            )
    return [line]


def _as_keys(bounds: Bounds) -> str:
    """Bounds as they are written on the command line."""
    words = []
    for key, bound in zip(("action_low", "action_high"), bounds, strict=True):
        values = [f"{value:.9g}" for value in np.ravel(bound)]
        text = values[0] if len(set(values)) == 1 else f"'[{','.join(values)}]'"
        words.append(f"dataset.{key}={text}")
    return " ".join(words)


def _doubts(
    actions: Float[np.ndarray, "N A"], own: _Range, reading: Reading, source: str
) -> tuple[str, ...]:
    """Whether actions that are taken in the environment's units look as if in [-1, 1]."""
    if own.relative or reading.spec is None or np.all(np.abs(own.bounds) <= 1):
        return ()
    low, high = float(actions.min()), float(actions.max())
    if not (abs(low + 1) <= ACTION_TOLERANCE and abs(high - 1) <= ACTION_TOLERANCE):
        return ()
    return (
        f"dataset {source}: its actions span exactly [-1, 1], while {reading.spec.id} takes "
        f"{show_range(*own.bounds)}, in which they are read; if the file keeps them in [-1, 1] for "
        "the whole range, give dataset.action_low=-1 dataset.action_high=1",
    )


def _checked_bounds(
    low: ActionBound | None, high: ActionBound | None, size: int, source: str
) -> Bounds:
    if low is None or high is None:
        given, absent = (
            ("action_high", "action_low") if low is None else ("action_low", "action_high")
        )
        raise dataset_error(source, f"{given} is given without {absent}; give both or neither")
    result = []
    for name, value in (("action_low", low), ("action_high", high)):
        try:
            bound = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise dataset_error(
                source,
                f"{name}={value!r} is no number; expected one, or a list of one for each of the "
                f"{size} action dimensions",
            ) from error
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
            "give action_low and action_high, or use data of an environment with bounded actions",
        )
    return lower, upper
