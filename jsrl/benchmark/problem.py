"""What is measured: IQL at the sizes of D4RL's AntMaze, on synthetic offline data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionLayout
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.options import LearnerInputs
from jsrl.networks.activations import Activation
from jsrl.networks.hidden_layers import HiddenLayers, NetworkLayers
from jsrl.rollout.replay import OfflineBuffer, Replay

CPU = torch.device("cpu")
SCHEDULE = 1_000_000
"""Updates of the actor's cosine decay: far more than are measured."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measured update; two hidden layers of ``hidden`` units."""

    observation: int = 29
    action: int = 8
    hidden: int = 256
    batch: int = 256
    transitions: int = 100_000

    @property
    def layout(self) -> TransitionLayout:
        return TransitionLayout(self.observation, self.action)


def synthetic_rows(sizes: Sizes) -> Float[NDArray[np.float32], "N width"]:
    """Offline transitions of random numbers: actions within (-1, 1), rare success and ends."""
    rng = np.random.default_rng(0)
    layout, n = sizes.layout, sizes.transitions
    rows = rng.standard_normal((n, layout.width), dtype=np.float32)
    rows[:, layout.action] = np.tanh(rows[:, layout.action])
    rows[:, layout.reward] = rng.random(n) < 0.01
    rows[:, layout.terminated] = rows[:, layout.reward]
    rows[:, layout.truncated] = 0
    return rows


def make_learner(
    sizes: Sizes,
    num_seeds: int,
    device: torch.device = CPU,
    *,
    compiled: bool = False,
    activation: Activation = "relu",
) -> IQL:
    """IQL by its official preset, in its offline phase."""
    options = IQLOptions(
        hidden=[sizes.hidden, sizes.hidden], batch_size=sizes.batch, compile=compiled
    )
    layers = HiddenLayers(activation)
    inputs = LearnerInputs(
        Streams(range(num_seeds)),
        sizes.observation,
        sizes.action,
        device,
        NetworkLayers(layers, layers, layers),
    )
    learner = IQL(options, inputs)
    learner.start_phase(Phase.OFFLINE, SCHEDULE)
    return learner


def make_replay(
    sizes: Sizes, rows: Float[NDArray[np.float32], "N width"], device: torch.device = CPU
) -> Replay:
    """Offline minibatches."""
    return Replay(sizes.layout, OfflineBuffer(rows, device), None, sizes.batch, None, device)


def make_update(learner: IQL, replay: Replay) -> Callable[[], object]:
    """One update as the training loop makes it: draw indices, gather the batch, update."""
    streams = Streams(range(learner.num_seeds), ("learn",))
    return lambda: learner.update(replay.sample(streams), learner.draws(streams))
