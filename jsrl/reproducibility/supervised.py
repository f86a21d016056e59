"""Train replicas of a network on a supervised task, side by side along the seed axis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.nondeterminism import Sources
from jsrl.learners.common import SeedOptimiser
from jsrl.networks.activations import Activation
from jsrl.networks.layers import INITIALISATIONS, SeedMLP
from jsrl.reproducibility.tasks import SupervisedTask

SLICE_POINTS = 81


@dataclass(frozen=True)
class SupervisedSettings:
    """How a network is trained.

    Args:
        hidden: sizes of the hidden layers.
        activation: what follows each of them.
        layer_norm: normalise them.
        batch_size: B, drawn at random for each update.
        learning_rate: of Adam.
        updates: how many.
        churn_updates: predictions this many updates before the end are compared with the final.
        initialisation: ``orthogonal``, ``pytorch`` or ``variance_scaling``.
    """

    hidden: Sequence[int] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = False
    batch_size: int = 64
    learning_rate: float = 1e-3
    updates: int = 5000
    churn_updates: int = 500
    initialisation: str = "orthogonal"


@dataclass(frozen=True)
class Trained:
    """What M replicas came to.

    Args:
        predictions: of the held-out examples.
        earlier: the same, ``churn_updates`` before the end.
        choices: the most probable class of each; None in a regression.
        losses: mean over the held-out examples.
        slice_distances: how far along a random direction the weights are moved,
        slice_losses: and the first replica's loss there.
        alive: False for a replica whose loss was not finite.
    """

    predictions: Float[NDArray[np.float32], "M H"]
    earlier: Float[NDArray[np.float32], "M H"]
    choices: NDArray[np.int64] | None
    losses: Float[NDArray[np.float64], " M"]
    slice_distances: NDArray[np.float64]
    slice_losses: NDArray[np.float64]
    alive: NDArray[np.bool_]


def train_replicas(
    task: SupervisedTask,
    settings: SupervisedSettings,
    sources: Sources,
    replicas: int,
    report: Callable[[int], None] = lambda done: None,
) -> Trained:
    """Train M replicas and predict the held-out examples.

    Args:
        task: what is learnt.
        settings: how.
        sources: of chance; see ``nondeterminism``.
        replicas: M.
        report: called with the number of updates done, now and then.
    """
    learner = _Learner(task, settings, sources, replicas)
    earlier = learner.predictions()
    for done in range(1, settings.updates + 1):
        learner.update()
        if done == settings.updates - settings.churn_updates:
            earlier = learner.predictions()
        if done % 100 == 0 or done == settings.updates:
            report(done)
    outputs = learner.outputs(learner.held_out)
    distances, losses = learner.loss_slice()
    return Trained(
        learner.predictions(),
        earlier,
        outputs.argmax(-1).numpy() if task.classifies else None,
        task.losses(outputs, learner.held_out_targets.expand(replicas, -1))
        .double()
        .mean(1)
        .numpy(),
        distances,
        losses,
        learner.optimiser.alive.numpy().copy(),
    )


class _Learner:
    """The networks of all replicas, and the examples."""

    def __init__(
        self, task: SupervisedTask, settings: SupervisedSettings, sources: Sources, replicas: int
    ) -> None:
        self._task, self._settings = task, settings
        self._inputs = torch.from_numpy(task.inputs)
        self._targets = torch.from_numpy(task.targets)
        self.held_out = torch.from_numpy(task.held_out)
        self.held_out_targets = torch.from_numpy(task.held_out_targets)
        self._replicas = replicas
        self._network = SeedMLP(
            (replicas,),
            task.inputs.shape[1],
            settings.hidden,
            task.outputs,
            settings.activation,
            settings.layer_norm,
        )
        self._network.initialise(
            INITIALISATIONS[settings.initialisation],
            sources.streams("initialisation", "supervised"),
            "network",
        )
        self._order = sources.streams("minibatch_order", "supervised")
        self.optimiser = SeedOptimiser(
            {"network": list(self._network.parameters())}, settings.learning_rate, replicas
        )

    def update(self) -> None:
        """One gradient step of every replica, each on a minibatch of its own."""
        size = (self._settings.batch_size,)
        indices = self._order.integers("minibatch", len(self._inputs), size)
        losses = self._task.losses(self._network(self._inputs[indices]), self._targets[indices])
        self.optimiser.prepare("network")
        self.optimiser.descend(losses.mean(1), "network")

    @torch.no_grad()
    def outputs(self, inputs: Float[Tensor, "H O"]) -> Float[Tensor, "M H K"]:
        """What every replica says of the same examples."""
        result: Tensor = self._network(inputs.expand(self._replicas, *inputs.shape))
        return result

    def predictions(self) -> Float[NDArray[np.float32], "M H"]:
        """Of the held-out examples."""
        outputs = self.outputs(self.held_out)
        answers: NDArray[np.float32] = self._task.predictions(
            outputs, self.held_out_targets
        ).numpy()
        return answers

    @torch.no_grad()
    def loss_slice(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The loss of the examples along a random line through the weights.

        The direction has in every layer the length of the weights (Li et al. 2018, arXiv
        1712.09913), and its draws are the same for all activations.
        """
        start = {name: p.clone() for name, p in self._network.named_parameters()}
        draws = torch.Generator().manual_seed(0)
        direction: dict[str, Any] = {}
        for name, parameter in start.items():
            step = torch.randn(parameter.shape[1:], generator=draws)
            norm = parameter[0].norm()
            direction[name] = step * (norm / step.norm().clamp(min=1e-12))
        distances = np.linspace(-1, 1, SLICE_POINTS)
        losses = []
        targets = self._targets.expand(self._replicas, -1)
        for distance in distances:
            for name, parameter in self._network.named_parameters():
                parameter.copy_(start[name] + distance * direction[name])
            losses.append(float(self._task.losses(self.outputs(self._inputs), targets)[0].mean()))
        for name, parameter in self._network.named_parameters():
            parameter.copy_(start[name])
        return distances, np.array(losses)
