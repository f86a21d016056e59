"""Behaviour cloning: recovers a known policy, and keeps its seeds apart."""

import math
from dataclasses import replace

import pytest
import torch
from minibatches import changed, poisoned, random_batch
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.protocols import Phase
from jsrl.core.specs import DiscreteActions
from jsrl.core.streams import Streams
from jsrl.learners.bc import BC, BCOptions
from jsrl.learners.options import LearnerInputs
from jsrl.networks.hidden_layers import NetworkLayers

CPU = torch.device("cpu")
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
WEIGHT = torch.tensor([[0.2, -0.1], [0.05, 0.3], [-0.25, 0.1]])
SETTINGS = BCOptions(hidden=[16], batch_size=32, learning_rate=1e-2, dropout=0.1)


def batch(streams, size=32, spread=0.1):
    """Actions of a linear policy with Gaussian noise.

    Without a matrix product, which may round a row by how many there are of all seeds.
    """
    minibatch = random_batch(streams, size, OBSERVATION, ACTIONS)
    mean = (minibatch.observation.vector.unsqueeze(-1) * WEIGHT).sum(-2)
    return changed(minibatch, action=mean + spread * streams.normal("noise", (size, 2)))


def make(seeds, settings=SETTINGS, statistics=()):
    inputs = (Streams(seeds), OBSERVATION, ACTIONS, CPU, NetworkLayers())
    return BC(settings, LearnerInputs(*inputs, *statistics))


def train(learner, streams, updates, **changes):
    for _ in range(updates):
        metrics = learner.update(batch(streams, **changes), learner.draws(streams))
    return metrics


def test_a_linear_policy_and_its_spread_are_recovered():
    settings = replace(SETTINGS, hidden=(), dropout=0.0, tanh_mean=False, batch_size=128)
    learner, streams = make([0, 1], settings), Streams([0, 1]).child("batches")
    learner.start_phase(Phase.OFFLINE, 600)
    train(learner, streams, 600, size=128)
    actor = learner.policy()
    assert (actor.mlp.output.weight - WEIGHT).abs().max() < 0.01
    assert actor.mlp.output.bias.abs().max() < 0.01
    assert (actor.log_std - math.log(0.1)).abs().max() < 0.1


def test_the_loss_is_the_mean_negative_log_likelihood():
    learner = make([0, 1], replace(SETTINGS, dropout=0.0))
    minibatch = batch(Streams([0, 1]))
    log_prob = learner.policy().log_prob(minibatch.observation.vector, minibatch.action)
    loss = learner.update(minibatch, {})["loss/actor"]
    torch.testing.assert_close(loss, -log_prob.mean(-1).detach())


def test_it_is_bitwise_the_same_alone_and_in_company():
    together, alone = make([0, 1, 2]), make([2])
    train(together, Streams([0, 1, 2]).child("batches"), 50)
    train(alone, Streams([2]).child("batches"), 50)
    for name, value in alone.policy().named_parameters():
        assert torch.equal(dict(together.policy().named_parameters())[name][2:], value), name


def test_a_seed_that_is_not_finite_is_frozen_and_the_others_notice_nothing():
    healthy, learner = make([0, 1]), make([0, 1])
    streams = Streams([0, 1])
    for step in range(6):
        minibatch, draws = batch(streams), healthy.draws(streams)
        healthy.update(minibatch, draws)
        if step == 2:
            frozen = learner.policy().log_std[0].clone()
            minibatch = changed(minibatch, action=poisoned(minibatch.action, 0, 3))
        learner.update(minibatch, draws)
    assert learner.alive.tolist() == [False, True]
    assert torch.equal(learner.policy().log_std[0], frozen)
    for one, other in zip(
        learner.policy().parameters(), healthy.policy().parameters(), strict=True
    ):
        assert torch.equal(one[1], other[1])


def test_choices_are_cloned_by_the_cross_entropy():
    """Thirty steps against PyTorch's own layers, loss and optimiser, one network a seed."""
    choices, settings = DiscreteActions(4, start=7), replace(SETTINGS, dropout=0.0)
    learner = BC(settings, LearnerInputs(Streams([0, 1]), OBSERVATION, choices, CPU))
    networks = [plain_copy(learner.policy(), index) for index in range(2)]
    optimisers = [torch.optim.Adam(one.parameters(), settings.learning_rate) for one in networks]
    streams = Streams([0, 1]).child("batches")
    for _ in range(30):
        minibatch = random_batch(streams, 32, OBSERVATION, choices)
        assert sorted(minibatch.action.unique().tolist()) == [0, 1, 2, 3]
        said = learner.update(minibatch, learner.draws(streams))["loss/actor"]
        for index, (network, optimiser) in enumerate(zip(networks, optimisers, strict=True)):
            scores = network(minibatch.observation.vector[index])
            loss = torch.nn.functional.cross_entropy(scores, minibatch.action[index])
            torch.testing.assert_close(said[index], loss.detach())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for index, network in enumerate(networks):
        for ours, theirs in zip(
            plain_copy(learner.policy(), index).parameters(), network.parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def plain_copy(policy, index):
    """The network of one seed, in PyTorch's own layers."""
    layers = []
    for layer in (policy.mlp.hidden_0, policy.mlp.output):
        weight = layer.weight[index].detach()
        layers += [torch.nn.Linear(*weight.shape), torch.nn.ReLU()]
        layers[-2].weight.data.copy_(weight.mT)
        layers[-2].bias.data.copy_(layer.bias[index, 0].detach())
    return torch.nn.Sequential(*layers[:-1])


def test_choices_that_follow_from_the_vector_are_recovered():
    choices, settings = DiscreteActions(3), replace(SETTINGS, dropout=0.0)
    learner = BC(settings, LearnerInputs(Streams([0]), OBSERVATION, choices, CPU))
    streams = Streams([0]).child("batches")
    for _ in range(200):
        minibatch = random_batch(streams, 32, OBSERVATION, choices)
        largest = minibatch.observation.vector.argmax(-1)
        learner.update(changed(minibatch, action=largest), learner.draws(streams))
    seen = random_batch(streams, 400, OBSERVATION, choices).observation
    right = learner.policy().act(seen, None) == seen.vector.argmax(-1)
    assert right.float().mean() > 0.9


def rates(learner):
    return [group["lr"] for group in learner.state_dict()["optimiser"]["adam"]["param_groups"]]


def test_the_cosine_ends_with_the_offline_phase():
    learner, streams = make([0]), Streams([0])
    learner.start_phase(Phase.OFFLINE, 10)
    train(learner, streams, 5)
    assert rates(learner) == pytest.approx([0.5e-2])
    learner.start_phase(Phase.ONLINE, 10)
    train(learner, streams, 5)
    assert rates(learner) == [1e-2]


def test_a_saved_learner_continues_bitwise():
    learner, streams = make([0, 1]), Streams([0, 1])
    train(learner, streams, 5)
    restored, again = make([3, 4]), Streams([0, 1])
    restored.load_state_dict(learner.state_dict())
    again.load_state_dict(streams.state_dict())
    train(learner, streams, 5)
    train(restored, again, 5)
    for one, other in zip(
        learner.policy().parameters(), restored.policy().parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_observations_are_normalised_by_the_given_statistics():
    mean, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 3.0, 4.0])
    learner = make([0], replace(SETTINGS, normalise_observations=True), (mean, std))
    assert torch.equal(learner.policy().observation_mean, mean)
    assert torch.equal(learner.policy().observation_std, std)


def test_a_warm_start_copies_the_policy_seed_by_seed():
    guide, learner = make([5, 6]), make([6, 5])
    learner.start_from(guide.state_dict(), [1, 0], only_actor=False)
    for name, value in guide.policy().named_parameters():
        assert torch.equal(dict(learner.policy().named_parameters())[name], value[[1, 0]])
    with pytest.raises(UserError, match="start=warm"):
        make([0], replace(SETTINGS, hidden=[5])).start_from(
            guide.state_dict(), [0], only_actor=True
        )
