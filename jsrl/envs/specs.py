"""From a Gymnasium environment's spaces to what the package keeps of them."""

from typing import Any

import numpy as np
from gymnasium import spaces

from jsrl.core.errors import UserError
from jsrl.core.specs import (
    ActionSpec,
    BoxActions,
    DiscreteActions,
    ImagePart,
    Key,
    ObservationSpec,
    VectorPart,
    path_name,
)
from jsrl.envs.spaces import is_image, require_actions, shown

SPACES = "Box, Discrete, MultiBinary and MultiDiscrete, and dictionaries and tuples of them"


def observation_spec(space: spaces.Space[Any], env_id: str) -> ObservationSpec:
    """How observations of this space become a vector and images.

    The vector has the order of ``gymnasium.spaces.flatten``: the entries of dictionaries in their
    space's order, Discrete and MultiDiscrete parts one-hot, MultiBinary parts as 0 and 1.

    Raises:
        UserError: for a space of another kind, an image of real numbers, an image whose channels
            cannot be told, two parts of one name, or a space that holds no number.
    """
    vector: list[VectorPart] = []
    images: list[ImagePart] = []
    for path, part in _leaves(space, ()):
        if isinstance(part, spaces.Box) and is_image(part):
            images.append(_image_part(part, path, env_id))
        else:
            vector.append(_vector_part(part, path, env_id))
    names = [part.name for part in vector] + [part.name for part in images]
    # In names of modules and of exported inputs there is no dot.
    keys = [part.name.replace(".", "_") for part in images]
    clash = next((k for k in keys if keys.count(k) > 1 or k == "vector"), None)
    if clash is not None and len(set(names)) == len(names):
        raise UserError(
            f"env.id={env_id!r} observes images {', '.join(p.name for p in images)}, of which one "
            f"would be called {clash!r} beside something else of that name; give it another name "
            "with gymnasium.wrappers.TransformObservation"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"env.id={env_id!r} observes two parts that are both called {twice!r}; give one of "
            "them another name with gymnasium.wrappers.TransformObservation"
        )
    spec = ObservationSpec(tuple(vector), tuple(images))
    if spec.size == 0 and not images:
        raise UserError(
            f"env.id={env_id!r} observes {shown(space)}, which holds no number; choose an "
            "environment that observes at least one"
        )
    return spec


def action_spec(space: spaces.Space[Any], env_id: str) -> ActionSpec:
    """What actions of this space are to the package.

    Raises:
        UserError: for MultiDiscrete and other spaces, and for a Box that ``require_actions``
            refuses.
    """
    if isinstance(space, spaces.Discrete):
        return DiscreteActions(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        raise UserError(
            f"env.id={env_id!r} has actions {shown(space)}, several choices at once, for which no "
            "learner has a distribution; Box or Discrete was expected: register the environment "
            "wrapped in a gymnasium.wrappers.TransformAction that numbers the combinations in one "
            "Discrete space"
        )
    box = require_actions(space, env_id)
    low, high = (tuple(map(float, np.ravel(bound))) for bound in (box.low, box.high))
    return BoxActions(low, high, tuple(box.shape))


def _leaves(
    space: spaces.Space[Any], path: tuple[Key, ...]
) -> list[tuple[tuple[Key, ...], spaces.Space[Any]]]:
    """The parts of nested dictionaries and tuples, each with the keys that lead to it."""
    entries: list[tuple[Key, spaces.Space[Any]]]
    if isinstance(space, spaces.Dict):
        entries = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        entries = list(enumerate(space.spaces))
    else:
        return [(path, space)]
    return [leaf for key, part in entries for leaf in _leaves(part, (*path, key))]


def _vector_part(space: spaces.Space[Any], path: tuple[Key, ...], env_id: str) -> VectorPart:
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return VectorPart(path, tuple(space.shape))
    if isinstance(space, spaces.Discrete):
        return VectorPart(path, (), (int(space.n),), (int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        counts, starts = (tuple(map(int, np.ravel(v))) for v in (space.nvec, space.start))
        return VectorPart(path, tuple(space.shape), counts, starts)
    raise UserError(
        f"env.id={env_id!r} observes {shown(space)} as {path_name(path)!r}, whose size is not "
        f"fixed; {SPACES} were expected: register the environment wrapped in a "
        "gymnasium.wrappers.TransformObservation that gives one of them"
    )


def _image_part(space: spaces.Box, path: tuple[Key, ...], env_id: str) -> ImagePart:
    shape = tuple(space.shape)
    what = f"env.id={env_id!r} observes an image, {shown(space)}, as {path_name(path)!r}"
    if space.dtype != np.uint8:
        raise UserError(
            f"{what}; images of bytes were expected, which take a quarter of the memory: register "
            "the environment wrapped in a gymnasium.wrappers.TransformObservation that gives uint8"
        )
    if 0 in shape:
        raise UserError(
            f"{what}, which holds no pixel; choose an environment that observes at least one, or "
            "leave the image out with gymnasium.wrappers.FilterObservation"
        )
    if len(shape) == 2:
        return ImagePart(path, shape, None, (1, shape[0], shape[1]))
    channel = _channel_axis(shape[-3:]) if len(shape) in (3, 4) else None
    if channel is None:
        raise UserError(
            f"{what}, of which it cannot be told which axis holds the channels; (height, width), "
            "(channels, height, width), (height, width, channels), or a stack of such frames was "
            "expected, with fewer channels than rows and columns: register the environment wrapped "
            "in a gymnasium.wrappers.TransformObservation that gives that"
        )
    frame = (0, 1, 2) if channel == 0 else (2, 0, 1)
    channels, height, width = (shape[-3:][axis] for axis in frame)
    if len(shape) == 3:
        return ImagePart(path, shape, frame, (channels, height, width))
    axes = (0, *(axis + 1 for axis in frame))
    return ImagePart(path, shape, axes, (shape[0] * channels, height, width))


def _channel_axis(frame: tuple[int, ...]) -> int | None:
    """The axis that is shorter than both others, if it is the first or the last."""
    if frame[0] < min(frame[1:]):
        return 0
    return 2 if frame[2] < min(frame[:2]) else None
