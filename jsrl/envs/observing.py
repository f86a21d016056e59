"""What an environment observes, as one vector, or as a vector and images of bytes."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation, read_observation
from jsrl.core.specs import ObservationSpec

VECTOR, IMAGES = "vector", "images"
"""The entries of an observation that has images."""


class Unreadable(Exception):
    """An environment answered what cannot be read: what it was, and what to do about it."""


class ReadObservations(gym.Wrapper[Any, Any, Any, Any]):
    """Gives the vector of an ``ObservationSpec``, or a dictionary of the vector and the images.

    Args:
        env: any whose observation space the package takes.
        spec: of its observations.
    """

    def __init__(self, env: gym.Env[Any, Any], spec: ObservationSpec) -> None:
        super().__init__(env)
        self._spec = spec
        # Without images and choices the numbers are put side by side as they are.
        self._plain = not spec.images and not any(part.counts for part in spec.vector)
        kind: Any = np.float64 if self._plain else np.float32
        vector = spaces.Box(-np.inf, np.inf, (spec.size,), kind)
        self.observation_space: spaces.Space[Any] = vector
        if spec.images:
            images: dict[str, spaces.Space[Any]] = {
                name: spaces.Box(0, 255, shape, np.uint8)
                for name, shape in spec.image_shapes.items()
            }
            self.observation_space = spaces.Dict({VECTOR: vector, IMAGES: spaces.Dict(images)})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new episode."""
        raw, info = self.env.reset(seed=seed, options=options)
        return self._read(raw), info

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """A step."""
        raw, reward, terminated, truncated, info = self.env.step(action)
        return self._read(raw), reward, terminated, truncated, info

    def _read(self, raw: Any) -> Any:
        if self._plain:
            read = side_by_side(self._spec, raw)
            if read is not None:
                return read
        try:
            with np.errstate(over="ignore"):
                observation = read_observation(self._spec, raw)
        except UserError as error:
            what, _, advice = str(error).rpartition("; ")
            raise Unreadable(
                f"an observation that cannot be read ({what})",
                advice.replace("give", "let it give", 1),
            ) from None
        return as_arrays(observation)


def side_by_side(spec: ObservationSpec, raw: Any) -> NDArray[np.float64] | None:
    """The numbers of all parts, float64 ``[O]``; None where a part is not what the spec says."""
    columns = []
    for part in spec.vector:
        found = raw
        for key in part.path:
            if not isinstance(found, dict) or key not in found:
                return None
            found = found[key]
        array = np.asarray(found)
        if array.shape != part.shape or array.dtype.kind not in "biuf":
            return None
        columns.append(array.ravel())
    joined: NDArray[np.float64] = np.concatenate(columns, dtype=np.float64)
    return joined


def as_arrays(observation: Observation) -> Any:
    """The vector, or the vector and the images in a dictionary, as NumPy has them."""
    vector = observation.vector.numpy()
    if not observation.images:
        return vector
    return {VECTOR: vector, IMAGES: {n: image.numpy() for n, image in observation.images.items()}}
