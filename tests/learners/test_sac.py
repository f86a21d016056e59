"""Soft actor-critic: a second implementation, seeds apart, and whole runs."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learners.reference_sac import PlainSAC, assert_same_networks
from minibatches import random_batch
from small_runs import REACH, metrics, newest_state, train_here
from specs import box, vector

from jsrl import load_policy
from jsrl.core.errors import UserError
from jsrl.core.protocols import Consumes, DataNeeds, HasTwinValues, Phase
from jsrl.core.streams import Streams
from jsrl.learners.options import LearnerInputs
from jsrl.learners.sac import SAC, SACOptions
from jsrl.networks.hidden_layers import HiddenLayers, NetworkLayers
from jsrl.rollout.learning import learn

B = 24
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
CPU = torch.device("cpu")
BASE = SACOptions(
    hidden=[12, 10],
    batch_size=B,
    learning_rate=3e-3,
    target_rate=0.05,
    initial_temperature=0.4,
    reward_scale=2.0,
    reward_shift=-0.5,
)
KINDS = {
    "sac": BASE,
    "redq": replace(BASE, critics=4, target_critics=2),
    "normalised": replace(BASE, normalise_observations=True, target_entropy=-0.3),
    "without entropy": replace(
        BASE,
        backup_entropy=False,
        entropy_per_dimension=-0.5,
        critic_hidden=[9, 8, 7],
        actor_learning_rate=1e-3,
    ),
}


def make(seeds, options, layer_norm=False):
    mean, std = torch.tensor([0.5, -0.5, 1.0]), torch.tensor([2.0, 0.5, 1.5])
    layers = NetworkLayers(critic=HiddenLayers(layer_norm=layer_norm))
    streams = Streams(seeds).child("sac")
    return SAC(options, LearnerInputs(streams, OBSERVATION, ACTIONS, CPU, layers, mean, std))


def batch(streams, discount=0.99):
    return random_batch(streams, B, OBSERVATION, ACTIONS, discount)


@pytest.mark.parametrize("kind", KINDS)
def test_thirty_updates_agree_with_a_second_implementation(kind):
    # With other seeds an input of a ReLU may be so near 0 that float32 and float64 disagree on it.
    learner = make([4, 5], KINDS[kind])
    plain, streams = [PlainSAC(learner, i) for i in range(2)], Streams([4, 5]).child("batches")
    for _ in range(30):
        transitions, draws = batch(streams), learner.draws(streams)
        learner.update(transitions, draws)
        for one in plain:
            one.update(transitions, draws)
    assert_same_networks(learner, plain)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_learns_the_same_alone_and_in_company(kind, layer_norm):
    found = []
    for seeds in ([7], [3, 7, 11]):
        learner = make(seeds, KINDS[kind], layer_norm)
        streams = Streams(seeds).child("batches")
        for _ in range(10):
            learner.update(batch(streams), learner.draws(streams))
        row = seeds.index(7)
        found.append([p[row].clone() for p in learner.networks.parameters()])
    for alone, together in zip(*found, strict=True):
        assert torch.equal(alone, together)


class Minibatches:
    """In place of a replay: random transitions over three steps each, all of which are kept."""

    def __init__(self):
        self.drawn = []

    def sample(self, streams):
        self.drawn.append(batch(streams, 0.99**3))
        return self.drawn[-1]


def test_several_minibatches_of_n_step_returns_train_what_they_say():
    options = replace(BASE, critics=3, target_critics=2, n_step=3, critic_updates=4, reward_shift=0)
    learner = make([4, 5], options)
    assert learner.needs == DataNeeds(
        Consumes.N_STEP,
        (("critic",), ("critic",), ("critic",), ("temperature", "critic", "actor")),
        n_step=3,
        discount=0.99,
    )
    plain, replay = [PlainSAC(learner, i) for i in range(2)], Minibatches()
    streams, again = (Streams([4, 5]).child("draws") for _ in range(2))
    for _ in range(8):
        learn(learner, replay, Streams([4, 5]).child("batches", len(replay.drawn)), streams)
        for number, transitions in enumerate(replay.drawn[-4:]):
            draws = learner.draws(again)
            for one in plain:
                one.update(transitions, draws, critic_alone=number < 3)
    assert len(replay.drawn) == 8 * 4
    assert_same_networks(learner, plain)


def test_parts_of_a_minibatch_train_the_critics_and_all_of_it_the_actor():
    """As in WSRL: every fourth transition is in the same part."""
    options = replace(BASE, critics=3, target_critics=2, critic_updates=4, split_batch=True)
    learner = make([4, 5], options)
    assert learner.needs.batches == (("temperature", "critic", "actor"),)
    plain, streams = [PlainSAC(learner, i) for i in range(2)], Streams([4, 5]).child("batches")
    for _ in range(8):
        transitions, draws = batch(streams), learner.draws(streams)
        learner.update(transitions, draws)
        for part in range(4):
            some = {n: d[:, part] if n == "ranks" else d[:, part::4] for n, d in draws.items()}
            for one in plain:
                one.update(transitions.part(part, 4), some, critic_alone=True)
        for one in plain:
            one.update(transitions, draws, actor_alone=True)
    assert_same_networks(learner, plain)
    learner.start_phase(Phase.CRITIC_WARMUP, 5)
    critics = {"critic", "target_critic"}
    assert moved_by(learner, learner.needs.batches[0], streams) == critics


def moved_by(learner, networks, streams):
    """The networks whose parameters one minibatch changes."""
    before = {name: value.clone() for name, value in learner.networks.named_parameters()}
    learner.train(networks, batch(streams), learner.draws(streams))
    after = dict(learner.networks.named_parameters())
    return {name.split(".")[0] for name in after if (after[name] != before[name]).any()}


def test_a_minibatch_for_the_critics_leaves_the_rest_bitwise():
    learner, streams = make([0], replace(BASE, critic_updates=2)), Streams([0]).child("batches")
    of_critics, of_all = learner.needs.batches
    critics = {"critic", "target_critic"}
    assert moved_by(learner, of_critics, streams) == critics
    assert moved_by(learner, of_all, streams) == critics | {"actor", "log_temperature"}
    # Once they have momentum, too.
    assert moved_by(learner, of_critics, streams) == critics
    learner.start_phase(Phase.CRITIC_WARMUP, 5)
    assert moved_by(learner, of_all, streams) == critics


def test_the_temperature_falls_where_there_is_more_entropy_than_is_aimed_at():
    for target, sign in ((-50.0, -1), (50.0, 1)):
        learner = make([0], replace(BASE, target_entropy=target))
        streams = Streams([0]).child("batches")
        learner.update(batch(streams), learner.draws(streams))
        after = learner.networks.log_temperature.item()
        # The first step of Adam is the learning rate.
        assert after - math.log(0.4) == pytest.approx(sign * 3e-3, rel=1e-3)


def test_while_the_critics_warm_up_the_policy_stays():
    learner, streams = make([0], BASE), Streams([0]).child("batches")
    learner.start_phase(Phase.CRITIC_WARMUP, 5)
    before = {name: value.clone() for name, value in learner.networks.named_parameters()}
    learner.update(batch(streams), learner.draws(streams))
    moved = {
        n.split(".")[0] for n, v in learner.networks.named_parameters() if (v != before[n]).any()
    }
    assert moved == {"critic", "target_critic"}
    assert isinstance(learner, HasTwinValues)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"target_critics": 3},
            "learner.target_critics=3 must lie between 1 and learner.critics=2",
        ),
        ({"critics": 0}, "learner.critics=0 must be at least 1"),
        ({"n_step": 0}, "learner.n_step=0 must be at least 1"),
        ({"n_step": 2}, "learner.reward_shift=-0.5 would be added once a sum"),
        ({"critic_updates": 0}, "learner.critic_updates=0 must be at least 1"),
        ({"critic_updates": 5, "split_batch": True}, "set learner.batch_size=25 or"),
        ({"critic_hidden": [8, 0]}, "learner.critic_hidden"),
        ({"actor_learning_rate": 0.0}, "learner.actor_learning_rate=0.0 must be above 0"),
        ({"initial_temperature": 0.0}, "learner.initial_temperature=0.0 must be above 0"),
        ({"discount": 1.5}, "learner.discount=1.5 must lie in"),
        ({"log_std_range": [1.0, 0.0]}, "learner.log_std_range"),
    ],
)
def test_what_is_out_of_range_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        replace(BASE, **changes).check()


@pytest.mark.parametrize("more", [(), ("learner.n_step=3", "learner.critic_updates=2")])
def test_a_run_is_resumed_and_its_policy_acts(tmp_path: Path, more):
    own = (*REACH, "learner=sac", "learner.hidden=[8]", *more, "seeds=[0,3]", "online.steps=120")
    short = tuple(word.replace("online.steps=120", "online.steps=70") for word in own)
    train_here(tmp_path / "whole", *own)
    train_here(tmp_path / "parts", *short)
    train_here(tmp_path / "parts", *own)
    whole, parts = newest_state(tmp_path / "whole"), newest_state(tmp_path / "parts")
    for name, value in whole["learner"]["networks"].items():
        assert torch.equal(value, parts["learner"]["networks"][name]), name
    assert any(record.name == "policy/temperature" for record in metrics(tmp_path / "whole"))
    policy = load_policy(tmp_path / "whole", seed=3)
    size = policy.mlp.hidden_0.weight.shape[-2]
    action, _ = policy.predict(np.zeros(size, np.float32))
    assert np.isfinite(action).all()
