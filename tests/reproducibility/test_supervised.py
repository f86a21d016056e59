"""Supervised replicas: the data, the training against PyTorch's own, and the known effect."""

import numpy as np
import pytest
import torch
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.nondeterminism import Sources
from jsrl.core.streams import Streams
from jsrl.reproducibility.supervised import SupervisedSettings, train_replicas
from jsrl.reproducibility.tasks import TASKS, make_task
from jsrl.statistics import (
    mean_over_pairs,
    pair_means,
    ratio_interval,
    relative_differences,
    resampled_runs,
)

SMALL = SupervisedSettings(hidden=(16, 16), batch_size=16, updates=30, churn_updates=10)


@pytest.fixture(scope="module")
def teacher():
    return make_task("smooth_teacher", 0)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_drawn_from_its_seed_and_holds_examples_out(name: str) -> None:
    task, again, other = make_task(name, 0), make_task(name, 0), make_task(name, 1)
    np.testing.assert_array_equal(task.inputs, again.inputs)
    assert (task.inputs[:50] != other.inputs[:50]).any()
    assert len(task.inputs) == len(task.targets)
    assert len(task.held_out) == len(task.held_out_targets)
    assert abs(task.inputs.mean()) < 0.2 and 0.7 < task.inputs.std() < 1.3
    # Digits repeat, as vectors; whole sets do not.
    shared = {row.tobytes() for row in task.inputs} & {row.tobytes() for row in task.held_out}
    assert len(shared) < 3


def test_the_teacher_is_away_from_0_and_not_constant(teacher) -> None:
    assert teacher.targets.min() > 0.5 and teacher.targets.max() < 1.5
    assert teacher.targets.std() > 0.2


def test_a_replica_is_trained_as_pytorch_trains_it(teacher) -> None:
    trained = train_replicas(teacher, SMALL, Sources([4, 7], "all"), 2)
    # Seed 7 alone, of PyTorch's layers and optimiser, from the same draws.
    weights, order = Streams([7], ("supervised",)), Streams([7], ("supervised",))
    layers = [nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 1)]
    for layer, name in zip(layers, ("hidden_0", "hidden_1", "output"), strict=True):
        draws = weights.normal(f"network.{name}.weight", layer.weight.T.shape)[0]
        q, r = torch.linalg.qr(draws)
        layer.weight.data = (2**0.5 * q * torch.sign(torch.diagonal(r))).T.contiguous()
        layer.bias.data.zero_()
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    adam = torch.optim.Adam(network.parameters(), lr=SMALL.learning_rate)
    x, y = torch.from_numpy(teacher.inputs), torch.from_numpy(teacher.targets)
    for _ in range(SMALL.updates):
        chosen = order.integers("minibatch", len(x), (16,))[0]
        loss = (network(x[chosen])[:, 0] - y[chosen]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        expected = network(torch.from_numpy(teacher.held_out))[:, 0].numpy()
    np.testing.assert_allclose(trained.predictions[1], expected, atol=2e-4)
    loss = np.square(expected - teacher.held_out_targets).mean()
    assert trained.losses[1] == pytest.approx(loss, rel=1e-3)
    assert trained.choices is None and trained.alive.all()


def test_where_nothing_varies_replicas_agree_exactly(teacher) -> None:
    trained = train_replicas(teacher, SMALL, Sources([0, 1, 2], "none"), 3)
    assert (trained.predictions == trained.predictions[0]).all()
    assert relative_differences(trained.predictions).sum() == 0
    assert (trained.earlier != trained.predictions).any()
    for level in ("minibatch_order", "initialisation", "all"):
        other = train_replicas(teacher, SMALL, Sources([0, 1, 2], level), 3)
        assert relative_differences(other.predictions).min(where=~np.eye(3, dtype=bool), initial=1)


def test_classes_are_learnt_and_their_probabilities_compared() -> None:
    digits = make_task("digits", 0)
    settings = SupervisedSettings(hidden=(32,), updates=300, activation="gelu", layer_norm=True)
    trained = train_replicas(digits, settings, Sources([0, 1], "all"), 2)
    assert ((trained.predictions >= 0) & (trained.predictions <= 1)).all()
    right = (trained.choices == digits.held_out_targets).mean(1)
    assert (right > 0.85).all()
    expected = -np.log(trained.predictions.astype(float)).mean(1)
    np.testing.assert_allclose(trained.losses, expected, rtol=1e-4)


def test_the_loss_slice_passes_through_the_trained_weights(teacher) -> None:
    trained = train_replicas(teacher, SMALL, Sources([0, 1], "all"), 2)
    middle = len(trained.slice_distances) // 2
    assert trained.slice_distances[middle] == 0
    assert trained.slice_losses[middle] < trained.slice_losses[[0, -1]].min()


@pytest.mark.slow
def test_a_smooth_activation_makes_replicas_of_the_smooth_teacher_differ_less(teacher) -> None:
    """The known effect (Shamir et al. 2020), by the interval over replicas, at no more loss."""
    trained = {
        name: train_replicas(
            teacher,
            SupervisedSettings(activation=activation, updates=2000),
            Sources(list(range(8)), "all"),
            8,
        )
        for name, activation in (("relu", "relu"), ("smelu", {"name": "smelu", "beta": 1.0}))
    }
    counts = resampled_runs(8)
    pairs = {name: relative_differences(t.predictions) for name, t in trained.items()}
    _, high = ratio_interval(*(pair_means(pairs[n], counts) for n in ("smelu", "relu")))
    assert high < 0.9
    assert trained["smelu"].losses.mean() <= trained["relu"].losses.mean()
    assert mean_over_pairs(pairs["smelu"]) > 0.01  # and it did not collapse


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"supervised\.task='iris' is unknown; choose one of smooth_"
    ):
        make_task("iris", 0)
