"""Adversarial training: by hand on a linear policy, off by default, and seed by seed."""

from dataclasses import replace

import pytest
import torch
from iql_cases import BASE, make, train
from minibatches import random_batch, seen
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.learners.bc import BC, BCOptions
from jsrl.learners.options import LearnerInputs
from jsrl.learners.robustness import AdversarialTraining

CPU = torch.device("cpu")
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
STD = torch.tensor([2.0, 0.5, 1.0])
OPTIONS = BCOptions(hidden=[8], batch_size=16, adversarial_epsilon=0.1)


def inputs(seeds, actions=ACTIONS, std=STD):
    return LearnerInputs(
        Streams(seeds), OBSERVATION, actions, CPU, observation_mean=std, observation_std=std
    )


def test_half_of_the_loss_is_at_the_corner_where_it_is_largest():
    """Of w·x the corner is x + εσ·sign(w), and the loss there is larger by Σ εσ|w|."""
    weight = torch.tensor([1.0, -2.0, 0.0])
    rows = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]])

    def loss_of(observation):
        return (observation.vector @ weight).mean(-1)

    found = AdversarialTraining(OPTIONS, inputs([0])).loss(loss_of, Observation(rows))
    clean = (1 - 4 + 0 - 2) / 2
    torch.testing.assert_close(found, torch.tensor([clean + 0.5 * 0.1 * (2.0 + 0.5 * 2)]))
    # Without a dataset the unit is the column's own.
    own = AdversarialTraining(OPTIONS, inputs([0], std=None)).loss(loss_of, Observation(rows))
    torch.testing.assert_close(own, torch.tensor([clean + 0.5 * 0.1 * (1.0 + 2.0)]))


def cloned(seeds, options, updates=20, actions=ACTIONS):
    learner, streams = BC(options, inputs(seeds, actions)), Streams(seeds).child("batches")
    for _ in range(updates):
        batch = random_batch(streams, 16, OBSERVATION, actions)
        metrics = learner.update(batch, learner.draws(streams))
    return learner, metrics["loss/actor"]


def parameters(learner):
    return dict(learner.policy().named_parameters())


@pytest.mark.parametrize("actions", [ACTIONS, DiscreteActions(3)])
def test_behaviour_cloning_is_another_one_and_each_seed_keeps_to_itself(actions):
    together, loss = cloned([0, 4], OPTIONS, actions=actions)
    alone, loss_alone = cloned([4], OPTIONS, actions=actions)
    plain, _ = cloned([4], replace(OPTIONS, adversarial_epsilon=0.0), actions=actions)
    assert torch.equal(loss[1:], loss_alone)
    for name, value in parameters(alone).items():
        assert torch.equal(parameters(together)[name][1:], value), name
    assert any(
        not torch.equal(value, parameters(plain)[name]) for name, value in parameters(alone).items()
    )


def iql(seeds, epsilon):
    learner = make(seeds, replace(BASE, dropout=0.1, adversarial_epsilon=epsilon))
    return learner, train(learner, Streams(seeds).child("batches"), 10)


def test_in_iql_the_actor_alone_is_trained_against_an_attack():
    (together, _), (alone, metrics), (plain, without) = iql([0, 4], 0.2), iql([4], 0.2), iql([4], 0)
    for name, value in parameters(alone).items():
        assert torch.equal(parameters(together)[name][1:], value), name
    for name in ("loss/value", "loss/critic", "value/q"):
        assert torch.equal(metrics[name], without[name]), name
    assert not torch.equal(metrics["loss/actor"], without["loss/actor"])
    for network in ("critic", "value"):
        own, other = (getattr(each.networks, network).state_dict() for each in (alone, plain))
        assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.parametrize(
    "mistake, said",
    [
        (lambda: replace(OPTIONS, adversarial_epsilon=-1.0).check(), "adversarial_epsilon=-1.0"),
        (
            lambda: replace(BASE, adversarial_epsilon=0.1, compile=True).check(),
            "set learner.compile=false",
        ),
        (
            lambda: OPTIONS.check_environment(
                EnvSpec("task", seen(OBSERVATION, camera=(3, 64, 64)), ACTIONS, 10)
            ),
            "camera",
        ),
    ],
)
def test_a_mistake_is_told(mistake, said):
    with pytest.raises(UserError, match=said):
        mistake()
