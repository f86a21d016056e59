"""Which spaces of a Gymnasium environment the package takes, and what it reads from them.

Everything is asked of the space that the outermost wrapper declares, since that is the layer that
the package acts in: a wrapper may stack frames, add the time or take other actions.
"""

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from jsrl.core.errors import UserError
from jsrl.core.specs import Key, ObservationSpec

LARGEST_FLATTENED = 2_000
"""An array with more entries than this is taken for an image if it also has two long sides."""
LONG_SIDE = 24
"""Fewer rows than this are a stack of frames rather than the height of an image."""


def require_actions(space: spaces.Space[Any], env_id: str) -> spaces.Box:
    """The action space, if it is a Box of real numbers with finite bounds that differ.

    Raises:
        UserError: if it is not.
    """
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"env.id={env_id!r} has actions {shown(space)}; a Box of real numbers or one Discrete "
            "choice was expected: choose an environment with such actions"
        )
    if space.dtype.kind != "f":
        raise UserError(
            f"env.id={env_id!r} has actions of whole numbers, {shown(space)}; a Box of real "
            "numbers or one Discrete choice was expected: choose an environment with continuous "
            "actions, or register it wrapped in a gymnasium.wrappers.TransformAction that takes "
            "real numbers and rounds"
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


def is_plain(space: spaces.Space[Any]) -> bool:
    """Whether observations are vectors of real numbers already, so that nothing is flattened."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"


def observation_line(space: spaces.Space[Any], spec: ObservationSpec, env_id: str) -> str | None:
    """How the networks see the observations, or None if they see them as they are."""
    if is_plain(space):
        return None
    seen = [
        f"{part.name} {_part_of(space, part.path).dtype} {list(part.shape)}" for part in spec.parts
    ]
    vector = f"one vector of {spec.size} {'number' if spec.size == 1 else 'numbers'}, float32"
    images = [
        f"image {name} of {' x '.join(map(str, shape))} bytes"
        for name, shape in spec.image_shapes.items()
    ]
    parts = [*([vector] if spec.size else []), *images]
    one_hot = ", choices one-hot" if any(part.counts for part in spec.vector) else ""
    return (
        f"observations: {env_id} gives {', '.join(seen)}, which the networks see as "
        f"{' and '.join(parts)}{one_hot}"
    )


def _part_of(space: spaces.Space[Any], path: tuple[Key, ...]) -> spaces.Space[Any]:
    """The part of nested dictionaries and tuples to which these keys lead."""
    for key in path:
        assert isinstance(space, spaces.Dict | spaces.Tuple)
        space = space[key]  # type: ignore[index]  # a name in a dictionary, a place in a tuple
    return space


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
