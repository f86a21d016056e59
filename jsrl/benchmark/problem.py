"""What is measured: IQL at the sizes of D4RL's AntMaze, on synthetic offline data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.protocols import Phase
from jsrl.core.specs import BoxActions, ObservationSpec, VectorPart
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionData
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.options import LearnerInputs
from jsrl.networks.activations import Activation
from jsrl.networks.hidden_layers import HiddenLayers, NetworkLayers
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.replay import Replay

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
    def observed(self) -> ObservationSpec:
        return ObservationSpec((VectorPart((), (self.observation,)),))

    @property
    def actions(self) -> BoxActions:
        return BoxActions((-1.0,) * self.action, (1.0,) * self.action, (self.action,))


def synthetic_data(sizes: Sizes) -> TransitionData:
    """Offline transitions of random numbers: actions within (-1, 1), rare success and ends."""
    rng = np.random.default_rng(0)

    def draw(width: int) -> Float[NDArray[np.float32], "N width"]:
        return rng.standard_normal((sizes.transitions, width), dtype=np.float32)

    solved = rng.random(sizes.transitions) < 0.01
    return TransitionData(
        observations=draw(sizes.observation),
        actions=np.tanh(draw(sizes.action)),
        rewards=solved.astype(np.float32),
        next_observations=draw(sizes.observation),
        terminals=solved,
        timeouts=np.zeros_like(solved),
    )


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
        sizes.observed,
        sizes.actions,
        device,
        NetworkLayers(layers, layers, layers),
    )
    learner = IQL(options, inputs)
    learner.start_phase(Phase.OFFLINE, SCHEDULE)
    return learner


def make_replay(sizes: Sizes, data: TransitionData, device: torch.device = CPU) -> Replay:
    """Offline minibatches."""
    store = OfflineStore(data, sizes.observed, sizes.actions, discount=0.99, device=device)
    return Replay(store, None, sizes.batch, None, device)


def make_update(learner: IQL, replay: Replay) -> Callable[[], object]:
    """One update as the training loop makes it: draw indices, gather the batch, update."""
    streams = Streams(range(learner.num_seeds), ("learn",))
    return lambda: learner.update(replay.sample(streams), learner.draws(streams))
