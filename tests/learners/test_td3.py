"""TD3: a second implementation, seeds apart, exploration, starts, and whole runs."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learners.plain_td3 import PlainTD3
from minibatches import random_batch
from small_runs import REACH, assert_same_run, different, metrics, train_here
from specs import box, vector

from jsrl import load_policy
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, HasTwinValues, Phase, PredictsValues
from jsrl.core.streams import Streams
from jsrl.learners.options import LearnerInputs
from jsrl.learners.td3 import TD3, TD3Options
from jsrl.networks.hidden_layers import HiddenLayers, NetworkLayers

B = 24
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
BASE = TD3Options(
    hidden=[12, 10],
    batch_size=B,
    learning_rate=3e-3,
    target_rate=0.05,
    target_noise=0.4,
    reward_scale=2.0,
    reward_shift=-0.5,
)
KINDS = {
    "td3": BASE,
    "three critics": replace(BASE, critics=3, policy_delay=3),
    "normalised": replace(BASE, normalise_observations=True, policy_delay=1),
}


def make(seeds, options, layer_norm=False):
    mean, std = torch.tensor([0.5, -0.5, 1.0]), torch.tensor([2.0, 0.5, 1.5])
    layers = NetworkLayers(critic=HiddenLayers(layer_norm=layer_norm))
    streams, cpu = Streams(seeds).child("td3"), torch.device("cpu")
    return TD3(options, LearnerInputs(streams, OBSERVATION, ACTIONS, cpu, layers, mean, std))


def train(learner, streams, updates):
    found = {}
    for _ in range(updates):
        batch = random_batch(streams, B, OBSERVATION, ACTIONS)
        found = learner.update(batch, learner.draws(streams))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_thirty_updates_agree_with_a_second_implementation(kind):
    learner = make([4, 5], KINDS[kind])
    plain, streams = [PlainTD3(learner, i) for i in range(2)], Streams([4, 5]).child("batches")
    for _ in range(30):
        batch = random_batch(streams, B, OBSERVATION, ACTIONS)
        draws = learner.draws(streams)
        found = learner.update(batch, draws)
        for i, one in enumerate(plain):
            for name, value in one.update(batch, draws["noise"]).items():
                torch.testing.assert_close(found[name][i].double(), value, rtol=1e-4, atol=1e-5)
    for one in plain:
        one.assert_same_parameters()


def test_the_actor_and_all_targets_wait_for_the_policys_turn():
    learner, streams = make([0], replace(BASE, policy_delay=3)), Streams([0]).child("batches")
    moved = []
    for _ in range(6):
        before = {n: p.clone() for n, p in learner.networks.named_parameters()}
        train(learner, streams, 1)
        after = dict(learner.networks.named_parameters())
        moved.append({n.split(".")[0] for n in after if (after[n] != before[n]).any()})
    everything = {"critic", "actor", "target_critic", "target_actor"}
    assert moved == [{"critic"}, {"critic"}, everything] * 2
    learner.start_phase(Phase.CRITIC_WARMUP, 0)
    before = {n: p.clone() for n, p in learner.networks.named_parameters()}
    train(learner, streams, 3)
    for name, parameter in learner.networks.named_parameters():
        stays = name.startswith("actor.")
        assert torch.equal(parameter, before[name]) == stays, name


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_learns_bitwise_the_same_alone_and_in_company(kind, layer_norm):
    found = []
    for seeds in ([7], [3, 7, 11]):
        learner = make(seeds, KINDS[kind], layer_norm)
        train(learner, Streams(seeds).child("batches"), 10)
        found.append([p[seeds.index(7)].clone() for p in learner.networks.parameters()])
    for alone, together in zip(*found, strict=True):
        assert torch.equal(alone, together)


def test_it_explores_by_noise_of_this_size_within_the_bounds_and_not_in_its_mode():
    learner = make([0, 1], replace(BASE, exploration_noise=0.3))
    seen = Observation(torch.zeros(2, 20_000, 3))
    policy, streams = learner.policy(), Streams([0, 1])
    mode, noisy = policy.act(seen, None), policy.act(seen, streams)
    # Standard error of a standard deviation of 20,000 draws: 0.5 %; five of them.
    assert (noisy - mode).std(1) == pytest.approx(torch.full((2, 2), 0.3), rel=0.025)
    assert torch.equal(policy.act(seen, None), mode)
    drawn = Streams([0, 1]).normal("action_noise", (20_000, 2))
    torch.testing.assert_close(noisy, (mode + 0.3 * drawn).clamp(-1, 1))
    loud = make([0], replace(BASE, exploration_noise=5.0)).policy()
    assert loud.act(Observation(torch.zeros(1, 50, 3)), Streams([0])).abs().max() == 1
    assert policy.describe()["arguments"]["exploration_noise"] == 0.3


def test_the_first_steps_online_are_uniform_and_a_state_knows_how_many_are_left():
    options = replace(BASE, random_steps=5)
    learner, seen = make([0], options), Observation(torch.zeros(1, 2, 3))
    learner.start_phase(Phase.ONLINE, 10)
    streams, drawn = Streams([0]), Streams([0])
    for _ in range(2):
        expected = 2 * drawn.uniform("random_action", (2, 2)) - 1
        assert torch.equal(learner.policy().act(seen, streams), expected)
    restored = make([1], options)
    restored.load_state_dict(learner.state_dict())
    for policy in (learner.policy(), restored.policy()):
        assert policy.random_steps == 1
        policy.act(seen, streams)
        action = policy.act(seen, streams)
        assert (action - policy.act(seen, None)).abs().max() < 0.6


def test_a_saved_learner_continues_bitwise_between_two_turns_of_the_actor():
    learner, streams = make([0, 1], BASE), Streams([0, 1])
    learner.start_phase(Phase.ONLINE, 20)
    train(learner, streams, 7)
    state, restored = copy.deepcopy(learner.state_dict()), make([5, 6], BASE)
    restored.load_state_dict(state)
    again = Streams([0, 1])
    again.load_state_dict(streams.state_dict())
    # The next update has no turn of the actor, whose metrics stay.
    one, other = train(learner, streams, 2), train(restored, again, 2)
    assert one.keys() == other.keys() == {"loss/critic", "value/q", "loss/actor"}
    assert different(one, other) == []
    train(learner, streams, 5)
    train(restored, again, 5)
    assert different(learner.state_dict(), restored.state_dict()) == []


@pytest.mark.parametrize("only_actor", [False, True])
def test_a_start_copies_the_networks_and_the_actors_target_comes_with_the_actor(only_actor):
    guide, learner = make([7, 8], BASE), make([8], BASE)
    train(guide, Streams([7, 8]), 4)
    before = copy.deepcopy(learner.networks.state_dict())
    learner.start_from(guide.state_dict(), [1], only_actor=only_actor)
    theirs = guide.networks.state_dict()
    for name, value in learner.networks.state_dict().items():
        source = theirs
        if only_actor and "critic" in name:
            source = before
        elif only_actor:
            name = name.replace("target_actor", "actor")
        expected = source[name]
        alone = expected.dim() == value.dim() and expected.shape == value.shape
        assert torch.equal(value, expected if alone else expected[1:]), name


def test_it_says_what_it_needs_and_what_its_networks_predict():
    learner = make([0], replace(BASE, n_step=3, reward_shift=0.0, discount=0.9))
    needs = learner.needs
    assert (needs.data, needs.n_step, needs.discount) == (Consumes.N_STEP, 3, 0.9)
    batch = random_batch(Streams([0]), B, OBSERVATION, ACTIONS)
    assert isinstance(learner, HasTwinValues)
    assert isinstance(learner, PredictsValues)
    said = learner.predict(batch.observation, batch.action)
    twins = learner.twin_values(batch.observation, batch.action)
    torch.testing.assert_close(said["critic"], twins.amin(1))
    best = learner.policy().act(batch.observation, None)
    torch.testing.assert_close(said["value"], learner.twin_values(batch.observation, best).amin(1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"critics": 0}, "learner.critics=0 must be at least 1"),
        ({"policy_delay": 0}, "learner.policy_delay=0 must be at least 1"),
        ({"target_noise": -0.1}, "learner.target_noise=-0.1 must be at least 0"),
        ({"exploration_noise": float("nan")}, "learner.exploration_noise=nan must be a finite"),
        ({"random_steps": -1}, "learner.random_steps=-1 must be at least 0"),
        ({"n_step": 2}, "learner.reward_shift=-0.5 would be added once a sum"),
    ],
)
def test_what_is_out_of_range_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        replace(BASE, **changes).check()


def test_a_run_is_resumed_and_its_policy_acts(tmp_path: Path):
    own = (*REACH, "learner=td3", "learner.hidden=[8]", "learner.random_steps=65", "seeds=[0,3]")
    for folder, steps in (("whole", 100), ("parts", 61), ("parts", 100)):
        train_here(tmp_path / folder, *own, "learner.policy_delay=3", f"online.steps={steps}")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert any(record.name == "loss/actor" for record in metrics(tmp_path / "whole"))
    action, _ = load_policy(tmp_path / "whole", seed=3).predict([0.0] * 4)
    assert abs(action).max() <= 1
