"""Phases of IQL, what a checkpoint keeps of it, and how it begins with another one's networks."""

import io
import math
from dataclasses import replace

import pytest
import torch
from learners.iql_cases import BASE, PRESETS, flat, make, networks, train

from jsrl.core.errors import UserError
from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams

PARTS = ("value", "critic", "actor")


def actor_rate(learner):
    """The learning rate that the next update of the actor takes."""
    groups = learner.state_dict()["optimiser"]["adam"]["param_groups"]
    rates = {name: {g["lr"] for g in groups if g["name"] == name} for name in PARTS}
    constant = {learner.options.learning_rate}
    assert rates["value"] == rates["critic"] == constant
    (rate,) = rates["actor"]
    return rate / learner.options.learning_rate


def test_the_actors_rate_falls_along_a_cosine_to_zero():
    learner, streams = make([0], BASE), Streams([0])
    learner.start_phase(Phase.OFFLINE, 20)
    for step in range(20):
        assert actor_rate(learner) == pytest.approx(0.5 * (1 + math.cos(math.pi * step / 20)))
        train(learner, streams, 1)
    assert actor_rate(learner) == 0.0
    train(learner, streams, 3)
    assert actor_rate(learner) == 0.0


@pytest.mark.parametrize("phase", [Phase.CRITIC_WARMUP, Phase.ONLINE])
def test_the_offline_schedule_does_not_run_on_into_a_later_phase(phase):
    learner, streams = make([0], BASE), Streams([0])
    learner.start_phase(Phase.OFFLINE, 20)
    train(learner, streams, 15)
    learner.start_phase(phase, 20)
    for _ in range(5):
        assert actor_rate(learner) == 1.0
        train(learner, streams, 1)


def test_a_constant_schedule_stays_constant_offline_too():
    learner = make([0], PRESETS["wsrl"])
    learner.start_phase(Phase.OFFLINE, 5)
    train(learner, Streams([0]), 5)
    assert actor_rate(learner) == 1.0


@pytest.mark.parametrize("value_first", [True, False])
def test_critic_warm_up_leaves_the_actor_bitwise_as_it_is(value_first):
    learner, streams = make([0, 1], replace(BASE, value_first=value_first)), Streams([0, 1])
    learner.start_phase(Phase.OFFLINE, 10)
    train(learner, streams, 5)  # so that the actor has momentum
    learner.start_phase(Phase.CRITIC_WARMUP, 0)
    before = {n: p.clone() for n, p in learner.networks.named_parameters()}
    metrics = train(learner, streams, 5)
    assert metrics["loss/actor"].tolist() == [0.0, 0.0]
    for name, parameter in learner.networks.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("actor."), name
    learner.start_phase(Phase.ONLINE, 10)
    train(learner, streams, 1)
    assert not torch.equal(learner.networks.actor.log_std, before["actor.log_std"])


@pytest.mark.parametrize("phase", list(Phase))
def test_a_saved_learner_continues_bitwise(phase):
    learner, streams = make([0, 1], PRESETS["official"]), Streams([0, 1])
    learner.start_phase(phase, 20)
    train(learner, streams, 7)
    state, drawn = learner.state_dict(), streams.state_dict()
    state = torch.load(saved(state), weights_only=True)
    train(learner, streams, 7)
    restored, again = make([5, 6], PRESETS["official"]), Streams([0, 1])
    restored.load_state_dict(state)
    again.load_state_dict(drawn)
    train(restored, again, 7)
    expected, actual = flat(learner.state_dict()), flat(restored.state_dict())
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[path], actual[path]) for path in expected)
    groups = [one.state_dict()["optimiser"]["adam"]["param_groups"] for one in (learner, restored)]
    assert groups[0] == groups[1]


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_a_warm_start_copies_actor_critic_target_and_value_seed_by_seed():
    guide = make([7, 8, 9], BASE)
    train(guide, Streams([7, 8, 9]), 3)
    learner = make([9, 7], BASE, "exploration")
    learner.start_from(guide.state_dict(), [2, 0], only_actor=False)
    for name, value in networks(guide).items():
        copied = networks(learner)[name]
        assert torch.equal(copied, value[[2, 0]] if value.dim() > 1 else value), name
    assert not flat(learner.state_dict()["optimiser"]["adam"]["state"])


def test_a_naive_start_copies_the_actor_alone():
    guide = make([7, 8], BASE)
    train(guide, Streams([7, 8]), 3)
    learner = make([7, 8], BASE, "exploration")
    before = networks(learner)
    learner.start_from(guide.state_dict(), [0, 1], only_actor=True)
    for name, value in networks(learner).items():
        source = networks(guide) if name.startswith("actor.") else before
        assert torch.equal(value, source[name]), name
    assert not torch.equal(
        before["actor.mlp.output.weight"], networks(learner)["actor.mlp.output.weight"]
    )


def test_a_warm_start_from_other_networks_is_refused():
    guide = make([0], replace(BASE, hidden=[12, 11]))
    with pytest.raises(UserError, match=r"start=warm.*learner\.hidden"):
        make([0], BASE).start_from(guide.state_dict(), [0], only_actor=False)
