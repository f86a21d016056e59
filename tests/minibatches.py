"""Minibatches of random transitions, laid out in memory as the stores of the package give them."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from jsrl.core.specs import ActionSpec, BoxActions, ImagePart, ObservationSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.networks.encoders.drq import DrqOptions
from jsrl.rollout.packing import PackedTransitions, RowLayout


def seen(spec: ObservationSpec, **shapes: tuple[int, int, int]) -> ObservationSpec:
    """The same observation with images of these channels, heights and widths beside its vector."""
    images = (ImagePart((name,), shape, (0, 1, 2), shape) for name, shape in shapes.items())
    return replace(spec, images=tuple(images))


def small_encoder(**changes: Any) -> DrqOptions:
    """DrQ's encoder with few channels and features, and shifts by two pixels.

    Its weights begin as PyTorch's do. From DrQ's kernels, which are zero but for their middles, so
    few channels may all be dead at the beginning, and then nothing behind them learns.
    """
    few = {"channels": 4, "features": 5, "shift": 2, "initialisation": "pytorch"}
    return DrqOptions(kind="drq", **{**few, **changes})


def random_batch(
    streams: Streams,
    size: int,
    observation: ObservationSpec,
    actions: ActionSpec,
    discount: float = 0.99,
) -> TransitionBatch:
    """B transitions of each seed, a fifth of which end an episode, and a fifth reach a limit.

    A seed's transitions depend on its own streams alone. Vectors and rewards are standard normal,
    actions are uniform in [-1, 1], or among the choices, and so are the bytes of the images.

    Args:
        streams: of the S seeds.
        size: B.
        observation: of the environment.
        actions: of the environment.
        discount: of one step.
    """
    layout = RowLayout.of(observation, actions)
    rows = streams.normal("rows", (size, layout.width))
    rows[..., layout.action] = random_actions(streams, size, actions).view(len(streams), size, -1)
    for name in ("terminated", "truncated"):
        rows[..., layout.column(name)] = (streams.uniform(name, (size,)) < 0.2).float()
    rows[..., layout.column("discount")] = discount * (1 - rows[..., layout.column("terminated")])
    images = random_images(streams, "image", size, observation)
    next_images = random_images(streams, "next_image", size, observation)
    return PackedTransitions(rows, images, next_images).unpack(layout)


def random_actions(streams: Streams, size: int, actions: ActionSpec) -> Tensor:
    """Float32 ``[S, B, A]`` in [-1, 1], or choices ``[S, B]`` from 0, int64."""
    if isinstance(actions, BoxActions):
        return streams.uniform("actions", (size, actions.size)) * 2 - 1
    return streams.integers("actions", actions.n, (size,))


def random_images(
    streams: Streams, name: str, size: int, observation: ObservationSpec
) -> dict[str, Tensor]:
    """Noise, uint8 ``[S, B, C, H, W]``, of each image by name."""
    return {
        image: streams.integers(f"{name}.{image}", 256, (size, *shape)).byte()
        for image, shape in observation.image_shapes.items()
    }


def changed(batch: TransitionBatch, **fields: Any) -> TransitionBatch:
    """The minibatch with other tensors in these fields."""
    return replace(batch, side_by_side=None, **fields)


def poisoned(tensor: Tensor, *place: int) -> Tensor:
    """A copy with NaN at one place."""
    bad = tensor.clone()
    bad[place] = torch.nan
    return bad


def one_seed(batch: TransitionBatch, index: int, dtype: torch.dtype = torch.float32) -> Any:
    """The transitions of one seed for a second implementation, which knows vectors alone.

    Tensors without the axis of seeds, called ``observation``, ``action``, ``reward``,
    ``next_observation`` and ``terminated``.
    """
    vectors = {
        name: getattr(batch, name).vector[index] for name in ("observation", "next_observation")
    }
    others = {name: getattr(batch, name)[index] for name in ("action", "reward", "terminated")}
    return SimpleNamespace(**{name: t.to(dtype) for name, t in (vectors | others).items()})
