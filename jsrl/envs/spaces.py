"""Which spaces of a Gymnasium environment the package takes, and what it reads from them.

Everything is asked of the space that the outermost wrapper declares, since that is the layer that
the package acts in: a wrapper may stack frames, add the time or take other actions.
"""

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from jsrl.core.errors import UserError

LARGEST_FLATTENED = 2_000
"""An array with more entries than this is taken for an image if it also has two long sides."""
LONG_SIDE = 24
"""Fewer rows than this are a stack of frames rather than the height of an image."""


def observation_parts(space: spaces.Space[Any], env_id: str) -> dict[str, spaces.Box]:
    """The parts of a dictionary by name, in the dictionary's order; a Box is one ``observation``.

    Raises:
        UserError: if a part is no Box of numbers, is empty, or is an image.
    """
    found = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    parts: dict[str, spaces.Box] = {}
    for name, part in found.items():
        if not isinstance(part, spaces.Box):
            raise UserError(
                f"env.id={env_id!r} observes {shown(part)} as {name!r}; Box observations, or a "
                "dictionary of them, were expected: register the environment wrapped in "
                "gymnasium.wrappers.FlattenObservation"
            )
        if is_image(part):
            raise UserError(
                f"env.id={env_id!r} observes an image, {shown(part)}, as {name!r}; jsrl has no "
                "encoder for images, and a plain network does not learn from so many pixels: "
                "choose an environment that observes a vector, or, if these are no pixels, "
                "register it wrapped in gymnasium.wrappers.FlattenObservation"
            )
        parts[str(name)] = part
    if not parts or sum(size(part) for part in parts.values()) == 0:
        raise UserError(
            f"env.id={env_id!r} observes {shown(space)}, which holds no number; choose an "
            "environment that observes at least one"
        )
    return parts


def require_actions(space: spaces.Space[Any], env_id: str) -> spaces.Box:
    """The action space, if it is a Box of real numbers with finite bounds that differ.

    Raises:
        UserError: if it is not.
    """
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"env.id={env_id!r} has actions {shown(space)}, but the learners of jsrl act in a Box "
            "of real numbers: choose an environment with continuous actions"
        )
    if space.dtype.kind != "f":
        raise UserError(
            f"env.id={env_id!r} has actions of whole numbers, {shown(space)}, but the learners of "
            "jsrl act in real numbers: choose an environment with continuous actions, or register "
            "it wrapped in a gymnasium.wrappers.TransformAction that takes real numbers and rounds"
        )
    if size(space) == 0:
        raise UserError(f"env.id={env_id!r} has actions {shown(space)}: there is nothing to choose")
    # Networks compute in float32, so that what is infinite or equal there is of no use.
    with np.errstate(over="ignore"):
        low, high = (np.ravel(b).astype(np.float32) for b in (space.low, space.high))
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        raise UserError(
            f"env.id={env_id!r} has unbounded actions, {shown(space)}; finite bounds were "
            "expected: register the environment as gymnasium.wrappers.TransformAction(env, lambda "
            f"action: action, gymnasium.spaces.Box(-1, 1, {space.shape})), with the bounds that it "
            "takes in place of -1 and 1"
        )
    if not (low < high).all():
        index = int(np.argmin(low < high))
        raise UserError(
            f"env.id={env_id!r} has actions {shown(space)} whose dimension {index} goes from "
            f"{low[index]:g} to {high[index]:g}; a lower bound below the upper one was expected: "
            "leave the dimension out with gymnasium.wrappers.TransformAction"
        )
    return space


def is_image(space: spaces.Box) -> bool:
    """Whether a Box holds pixels: bytes in rows and columns, or any large array with two sides.

    Frames that are stacked, and pixels scaled to real numbers, are images too.
    """
    if len(space.shape) < 2:
        return False
    sides = sorted(space.shape)
    large = math.prod(space.shape) > LARGEST_FLATTENED and sides[-2] >= LONG_SIDE
    return space.dtype == np.uint8 or large


def size(space: spaces.Box) -> int:
    """How many numbers it holds; a Box without axes holds one."""
    return math.prod(space.shape)


def layout(parts: dict[str, spaces.Box]) -> tuple[tuple[str, int, int], ...]:
    """For each part its name and its [start, stop) columns in the flat observation."""
    found, start = [], 0
    for name, part in parts.items():
        stop = start + size(part)
        found.append((name, start, stop))
        start = stop
    return tuple(found)


def is_plain(space: spaces.Space[Any]) -> bool:
    """Whether observations are vectors of real numbers already, so that nothing is flattened."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"


def observation_line(space: spaces.Space[Any], env_id: str) -> str | None:
    """How the networks see the observations, or None if they see them as they are."""
    if is_plain(space):
        return None
    parts = observation_parts(space, env_id)
    named = ", ".join(f"{name} {part.dtype} {list(part.shape)}" for name, part in parts.items())
    total = sum(size(part) for part in parts.values())
    return (
        f"observations: {env_id} gives {named}, which the networks see as one vector of {total} "
        f"{'number' if total == 1 else 'numbers'}, float32"
    )


def shown(space: spaces.Space[Any]) -> str:
    """A space in one line; arrays of bounds are left out."""
    if isinstance(space, spaces.Box):
        low, high = np.ravel(space.low), np.ravel(space.high)
        bounds = ""
        if low.size and (low == low[0]).all() and (high == high[0]).all():
            bounds = f"{low[0]:g}, {high[0]:g}, "
        return f"Box({bounds}{space.shape}, {space.dtype})"
    text = " ".join(str(space).split())
    return text if len(text) <= 200 else f"{text[:200]} ..."
