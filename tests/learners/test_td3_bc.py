"""TD3+BC: its actor's loss by hand and by a second implementation, online, and a task learnt."""

from dataclasses import replace

import pytest
import torch
from learners.plain_td3 import PlainTD3
from minibatches import changed, random_batch
from small_runs import different
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
from jsrl.learners.options import LearnerInputs
from jsrl.learners.td3_bc import TD3BC, TD3BCOptions

B = 24
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
BASE = TD3BCOptions(
    hidden=[12, 10], batch_size=B, learning_rate=3e-3, target_rate=0.05, normalise_observations=True
)


def make(seeds, options):
    mean, std = torch.tensor([0.5, -0.5, 1.0]), torch.tensor([2.0, 0.5, 1.5])
    streams, cpu = Streams(seeds).child("td3_bc"), torch.device("cpu")
    inputs = LearnerInputs(
        streams, OBSERVATION, ACTIONS, cpu, observation_mean=mean, observation_std=std
    )
    return TD3BC(options, inputs)


def train(learner, streams, updates):
    for _ in range(updates):
        batch = random_batch(streams, B, OBSERVATION, ACTIONS)
        learner.update(batch, learner.draws(streams))


@pytest.mark.parametrize("phase", [Phase.OFFLINE, Phase.ONLINE])
def test_thirty_updates_agree_with_a_second_implementation(phase):
    learner = make([4, 5], replace(BASE, alpha=1.7, online_behaviour=0.3))
    learner.start_phase(phase, 30)
    plain, streams = [PlainTD3(learner, i, 1.7) for i in range(2)], Streams([4, 5]).child("batches")
    for _ in range(30):
        batch = random_batch(streams, B, OBSERVATION, ACTIONS)
        draws = learner.draws(streams)
        found = learner.update(batch, draws)
        for i, one in enumerate(plain):
            one.behaviour = 0.3 if phase is Phase.ONLINE else 1.0
            for name, value in one.update(batch, draws["noise"]).items():
                torch.testing.assert_close(found[name][i].double(), value, rtol=1e-4, atol=1e-5)
    for one in plain:
        one.assert_same_parameters()


def test_the_loss_of_a_critic_whose_values_are_all_two_by_hand():
    learner = make([0], BASE)
    with torch.no_grad():
        for name, parameter in learner.networks.named_parameters():
            parameter.fill_(2.0 if name == "critic.output.bias" else 0.0)
    batch = random_batch(Streams([0]), B, OBSERVATION, ACTIONS)
    losses = learner.actor_losses(batch)
    # The actor does nothing, λ is 2.5 / 2, and so -λ·Q is -2.5.
    behaviour = batch.action.square().mean().item()
    assert losses["loss/behaviour"].item() == pytest.approx(behaviour)
    assert losses["loss/actor"].item() == pytest.approx(behaviour - 2.5)


def test_a_seed_learns_bitwise_the_same_alone_and_in_company():
    found = []
    for seeds in ([7], [3, 7, 11]):
        learner = make(seeds, BASE)
        train(learner, Streams(seeds).child("batches"), 10)
        found.append([p[seeds.index(7)].clone() for p in learner.networks.parameters()])
    for alone, together in zip(*found, strict=True):
        assert torch.equal(alone, together)


def test_a_saved_learner_continues_bitwise_with_the_weight_of_its_phase():
    options = replace(BASE, online_behaviour=0.25)
    learner, restored, streams = make([0], options), make([1], options), Streams([0])
    learner.start_phase(Phase.ONLINE, 9)
    train(learner, streams, 3)
    restored.load_state_dict(learner.state_dict())
    again = Streams([0])
    again.load_state_dict(streams.state_dict())
    train(learner, streams, 4)
    train(restored, again, 4)
    assert different(learner.state_dict(), restored.state_dict()) == []


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.0, -0.3, 0.3), (2.5, 0.4, 1.0)])
def test_it_takes_what_is_paid_of_the_data_where_the_value_counts(alpha, low, high):
    """In one state the data go up or down alike; up is paid, and the episode ends."""
    options = replace(BASE, alpha=alpha, discount=0.0, normalise_observations=False)
    learner, streams = make([0, 1], replace(options, learning_rate=1e-2)), Streams([0, 1])
    learner.start_phase(Phase.OFFLINE, 150)
    nowhere = Observation(torch.zeros(2, B, 3))
    for _ in range(150):
        batch = random_batch(streams, B, OBSERVATION, ACTIONS)
        action = batch.action.sign() * 0.5
        there = changed(batch, observation=nowhere, action=action, reward=action[..., 0])
        learner.update(there, learner.draws(streams))
    up = learner.policy().act(nowhere, None)[:, 0, 0]
    assert ((up > low) & (up < high)).all()


def test_a_weight_below_zero_is_told():
    with pytest.raises(UserError, match=r"learner.online_behaviour=-1 must be at least 0"):
        replace(BASE, online_behaviour=-1).check()
    with pytest.raises(UserError, match=r"learner.alpha=-1 must be at least 0"):
        replace(BASE, alpha=-1).check()


def test_critics_that_say_nothing_leave_the_imitation_of_the_data():
    learner = make([0], replace(BASE, policy_delay=1))
    with torch.no_grad():
        for parameter in learner.networks.critic.parameters():
            parameter.zero_()
    learner.start_phase(Phase.OFFLINE, 1)
    streams = Streams([0]).child("batches")
    metrics = learner.actor_losses(random_batch(streams, B, OBSERVATION, ACTIONS))
    assert torch.equal(metrics["loss/actor"], metrics["loss/behaviour"])
