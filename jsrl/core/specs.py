"""What the rest of the package needs to know of an environment."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jsrl.core.errors import UserError

Key = str | int
"""Of a dictionary's entry, or the place of a tuple's."""


@dataclass(frozen=True)
class VectorPart:
    """A part of an observation that becomes columns of its vector.

    Args:
        path: the keys that lead to it; empty where the observation is this part.
        shape: as the environment gives it, without a batch.
        counts: how many values each of its numbers can take, if it is one-hot; empty for numbers
            that are used as they are, bits among them.
        starts: the smallest value of each of its numbers, if it is one-hot.
    """

    path: tuple[Key, ...]
    shape: tuple[int, ...]
    counts: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its path with dots between, or ``observation``."""
        return path_name(self.path)

    @property
    def size(self) -> int:
        """How many columns it takes."""
        return sum(self.counts) if self.counts else math.prod(self.shape)


@dataclass(frozen=True)
class ImagePart:
    """A part of an observation that is an image of bytes.

    Args:
        path: the keys that lead to it; empty where the observation is this part.
        shape: as the environment gives it, without a batch.
        axes: the order of the environment's axes that puts frames and channels first; None for an
            image of rows and columns only, which has one channel.
        image_shape: channels, height and width; the frames of a stack are channels too, the
            channels of the first frame first.
    """

    path: tuple[Key, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None
    image_shape: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Its path with dots between, or ``observation``."""
        return path_name(self.path)


@dataclass(frozen=True)
class ObservationSpec:
    """How an environment's observations become a vector and images by name.

    Args:
        vector: the parts of the vector, in its order.
        images: the image parts, in their order.
    """

    vector: tuple[VectorPart, ...]
    images: tuple[ImagePart, ...] = ()

    @property
    def size(self) -> int:
        """O, the number of columns of the vector; 0 for images alone."""
        return sum(part.size for part in self.vector)

    @property
    def parts(self) -> tuple[VectorPart | ImagePart, ...]:
        """All parts, images last."""
        return (*self.vector, *self.images)

    @property
    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """For each part of the vector its name and its [start, stop) columns."""
        found, start = [], 0
        for part in self.vector:
            found.append((part.name, start, start + part.size))
            start += part.size
        return tuple(found)

    @property
    def image_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Channels, height and width of each image by name."""
        return {part.name: part.image_shape for part in self.images}

    def describe(self) -> dict[str, Any]:
        """Plain values for a checkpoint, from which ``described`` makes an equal spec."""
        return {
            "vector": [asdict(part) for part in self.vector],
            "images": [asdict(part) for part in self.images],
        }

    @staticmethod
    def described(plain: Mapping[str, Any]) -> "ObservationSpec":
        """The spec that ``describe`` wrote down, also after a journey through JSON."""
        return ObservationSpec(
            tuple(VectorPart(**_with_tuples(part)) for part in plain["vector"]),
            tuple(ImagePart(**_with_tuples(part)) for part in plain["images"]),
        )


@dataclass(frozen=True)
class BoxActions:
    """Actions of A real numbers. Policies act in [-1, 1].

    Args:
        low: the environment's own lower bounds, ``[A]``.
        high: the upper ones.
        shape: of one action as the environment's ``step`` takes it.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """A."""
        return len(self.low)

    @property
    def chosen_shape(self) -> tuple[int, ...]:
        """Of one action as a policy gives it: A numbers."""
        return (self.size,)

    def describe(self) -> dict[str, Any]:
        """Plain values for a checkpoint, from which ``described_actions`` makes an equal spec."""
        return {"kind": "box", **asdict(self)}


@dataclass(frozen=True)
class DiscreteActions:
    """A choice among ``n``. Policies choose from 0 to n - 1.

    Args:
        n: how many there are.
        start: what the environment calls the first one.
    """

    n: int
    start: int = 0

    @property
    def size(self) -> int:
        """n, how many numbers a network gives to choose by."""
        return self.n

    @property
    def chosen_shape(self) -> tuple[int, ...]:
        """Of one choice: it is a number without axes."""
        return ()

    def describe(self) -> dict[str, Any]:
        """Plain values for a checkpoint, from which ``described_actions`` makes an equal spec."""
        return {"kind": "discrete", **asdict(self)}


ActionSpec = BoxActions | DiscreteActions


def described_actions(plain: Mapping[str, Any]) -> ActionSpec:
    """The spec that its ``describe`` wrote down, also after a journey through JSON."""
    arguments = _with_tuples({key: value for key, value in plain.items() if key != "kind"})
    return BoxActions(**arguments) if plain["kind"] == "box" else DiscreteActions(**arguments)


@dataclass(frozen=True)
class EnvSpec:
    """What the rest of the package needs to know of an environment.

    Args:
        id: the environment's name.
        observation: how its observations become a vector and images.
        actions: what it takes.
        max_episode_steps: the time limit H.
        observation_line: how observations become one vector, for the start of a run; None where
            they are one already.
    """

    id: str
    observation: ObservationSpec
    actions: ActionSpec
    max_episode_steps: int
    observation_line: str | None = None

    @property
    def box(self) -> BoxActions:
        """The actions, where they are real numbers.

        Raises:
            UserError: if they are choices.
        """
        if not isinstance(self.actions, BoxActions):
            raise UserError(
                f"env.id={self.id!r} takes a choice among {self.actions.n}, where real numbers "
                "were expected; choose an environment with continuous actions"
            )
        return self.actions

    @property
    def observation_size(self) -> int:
        """O, of the vector: as earlier versions called ``observation.size``."""
        return self.observation.size

    @property
    def action_size(self) -> int:
        """A, or n: as earlier versions called ``actions.size``."""
        return self.actions.size

    @property
    def layout(self) -> tuple[tuple[str, int, int], ...]:
        """As earlier versions called ``observation.layout``."""
        return self.observation.layout

    @property
    def action_low(self) -> tuple[float, ...]:
        """As earlier versions called ``box.low``."""
        return self.box.low

    @property
    def action_high(self) -> tuple[float, ...]:
        """As earlier versions called ``box.high``."""
        return self.box.high


def path_name(path: tuple[Key, ...]) -> str:
    """A path with dots between its keys; the empty path is called ``observation``."""
    return ".".join(map(str, path)) or "observation"


def _with_tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
