"""Implicit Q-Learning against a second implementation, and what seeds may not do to each other."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learners.reference_iql import ReferenceIQL

from jsrl.core.errors import UserError
from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
from jsrl.core.transitions import Batch, TransitionLayout
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.options import LearnerInputs
from jsrl.networks.hidden_layers import NetworkLayers

CPU = torch.device("cpu")
OBS, ACT, B = 3, 2, 16
LAYOUT = TransitionLayout(OBS, ACT)
PARTS = ("value", "critic", "actor")
BASE = IQLOptions(hidden=[12, 10], batch_size=B, learning_rate=3e-3, target_rate=0.05)
PRESETS = {
    "official": replace(BASE, expectile=0.7, temperature=0.5, dropout=0.1),
    "corl": replace(
        BASE,
        expectile=0.8,
        temperature=3.0,
        dropout=0.1,
        initialisation="pytorch",
        log_std_range=(-20.0, 2.0),
        value_first=False,
        critic_reduction="mean",
        normalise_observations=True,
    ),
    "wsrl": replace(
        BASE,
        reward_scale=10.0,
        reward_shift=-5.0,
        initialisation="variance_scaling",
        log_std_range=(-11.5, 2.3),
        tanh_mean=False,
        actor_schedule="constant",
        value_first=False,
        critic_reduction="mean",
        online_action_clip=0.99999,
    ),
}


def make(seeds, settings, name="iql"):
    mean, std = torch.tensor([0.5, -0.5, 1.0]), torch.tensor([2.0, 0.5, 1.5])
    return IQL(
        settings,
        LearnerInputs(Streams(seeds).child(name), OBS, ACT, CPU, NetworkLayers(), mean, std),
    )


def batch(streams, size=B):
    """A random minibatch, with a few terminations and truncations."""
    rows = streams.normal("rows", (size, LAYOUT.width))
    rows[..., LAYOUT.action] = streams.uniform("actions", (size, ACT)) * 2 - 1
    rows[..., LAYOUT.terminated] = (streams.uniform("terminated", (size,)) < 0.2).float()
    rows[..., LAYOUT.truncated] = (streams.uniform("truncated", (size,)) < 0.2).float()
    return Batch(rows, LAYOUT)


def train(learner, streams, updates):
    metrics = {}
    for _ in range(updates):
        metrics = learner.update(batch(streams), learner.draws(streams))
    return metrics


def flat(state):
    """Every tensor of a nested state, by its path."""
    if isinstance(state, torch.Tensor):
        return {"": state}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {
        f"{key}/{path}": value
        for key, part in items
        if isinstance(part, dict | list | tuple | torch.Tensor)
        for path, value in flat(part).items()
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_thirty_updates_agree_with_a_second_implementation(preset):
    learner = make([0, 1], PRESETS[preset])
    # A target that differs from the critic, so that mistaking one for the other shows.
    with torch.no_grad():
        for parameter in learner.networks.target_critic.parameters():
            parameter.add_(0.1)
    learner.start_phase(Phase.OFFLINE, 30)
    references = [ReferenceIQL(learner, index, 30) for index in range(2)]
    streams = Streams([0, 1]).child("batches")
    for _ in range(30):
        minibatch, draws = batch(streams), learner.draws(streams)
        learner.update(minibatch, draws)
        for index, reference in enumerate(references):
            masks = [draws[f"dropout_{i}"][index] if draws else None for i in range(2)]
            reference.update(minibatch.rows[index], masks)
    for index, reference in enumerate(references):
        reference.assert_same_parameters(learner.networks, index)


def test_the_second_implementation_tells_the_orders_of_updates_apart():
    learner = make([0], PRESETS["official"])
    learner.start_phase(Phase.OFFLINE, 30)
    reference = ReferenceIQL(learner, 0, 30)
    reference.options = replace(reference.options, value_first=False)
    streams = Streams([0]).child("batches")
    for _ in range(30):
        minibatch, draws = batch(streams), learner.draws(streams)
        learner.update(minibatch, draws)
        reference.update(minibatch.rows[0], [mask[0] for mask in draws.values()])
    with pytest.raises(AssertionError):
        reference.assert_same_parameters(learner.networks, 0)


@pytest.mark.parametrize("hidden", [(16, 16), (12, 10)])
@pytest.mark.parametrize("preset", PRESETS)
def test_fifty_updates_are_bitwise_the_same_alone_and_in_company(preset, hidden):
    # Odd widths too: vector instructions round what does not fill their registers differently.
    settings = replace(PRESETS[preset], hidden=hidden)
    together, alone = make([0, 1, 2], settings), make([2], settings)
    for learner, seeds in ((together, [0, 1, 2]), (alone, [2])):
        learner.start_phase(Phase.OFFLINE, 50)
        metrics = train(learner, Streams(seeds).child("batches"), 50)
        if learner is together:
            in_company = metrics
    assert all(torch.equal(in_company[name][2:], metrics[name]) for name in metrics)
    expected, actual = flat(together.state_dict()), flat(alone.state_dict())
    assert expected.keys() == actual.keys()
    for path, value in actual.items():
        own = expected[path]
        assert torch.equal(own if own.shape == value.shape else own[2:], value), path
    assert any("exp_avg_sq" in path for path in actual)


def poisoned(minibatch, index):
    rows = minibatch.rows.clone()
    rows[index, 0, LAYOUT.reward] = torch.nan
    return Batch(rows, LAYOUT)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_seed_that_is_not_finite_is_frozen_and_reported_and_the_others_notice_nothing(preset):
    healthy, learner = make([0, 1, 2], PRESETS[preset]), make([0, 1, 2], PRESETS[preset])
    streams = Streams([0, 1, 2]).child("batches")
    for step in range(12):
        minibatch, draws = batch(streams), healthy.draws(streams)
        healthy.update(minibatch, draws)
        learner.update(poisoned(minibatch, 1) if step == 5 else minibatch, draws)
        if step == 4:
            assert learner.alive.tolist() == [True, True, True]
        if step == 5:
            frozen = {n: p[1].clone() for n, p in learner.networks.named_parameters()}
    assert learner.alive.tolist() == [True, False, True]
    assert healthy.alive.tolist() == [True, True, True]
    trained = dict(healthy.networks.named_parameters())
    for name, parameter in learner.networks.named_parameters():
        assert torch.equal(parameter[[0, 2]], trained[name][[0, 2]]), name
        assert parameter[1].isfinite().all(), name
        if parameter.requires_grad:
            assert torch.equal(parameter[1], frozen[name]), name
    restored = make([0, 1, 2], PRESETS[preset])
    restored.load_state_dict(learner.state_dict())
    assert restored.alive.tolist() == [True, False, True]


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
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def networks(learner):
    return {n: p.clone() for n, p in learner.networks.state_dict().items()}


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


def test_guide_and_exploration_policy_of_a_seed_begin_with_different_weights():
    one, other = make([0], BASE, "guide"), make([0], BASE, "exploration")
    assert not torch.equal(one.networks.value.output.weight, other.networks.value.output.weight)
    target, critic = one.networks.target_critic.state_dict(), one.networks.critic.state_dict()
    assert all(torch.equal(target[name], critic[name]) for name in critic)


def test_truncation_is_no_part_of_the_update():
    one, other = make([0], BASE), make([0], BASE)
    minibatch = batch(Streams([0]))
    flipped = minibatch.rows.clone()
    flipped[..., LAYOUT.truncated] = 1 - flipped[..., LAYOUT.truncated]
    one.update(minibatch, {})
    other.update(Batch(flipped, LAYOUT), {})
    assert all(torch.equal(networks(one)[name], value) for name, value in networks(other).items())


def test_dropout_masks_have_the_rate_and_keep_the_mean():
    learner = make([0, 1], replace(BASE, dropout=0.1, hidden=[200, 150], batch_size=64))
    draws = learner.draws(Streams([0, 1]))
    assert [tuple(mask.shape) for mask in draws.values()] == [(2, 64, 200), (2, 64, 150)]
    for mask in draws.values():
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
        # Standard error √(0.09/19200) = 0.0022; five of them.
        assert abs((mask == 0).float().mean().item() - 0.1) < 0.011
    assert make([0], BASE).draws(Streams([0])) == {}


def test_it_learns_the_values_of_a_chain_whose_optimum_is_known():
    """Five cells in a row, 1 for reaching the last; in each, the data go left as often as right."""
    cells, discount = 5, 0.9
    layout, rows = TransitionLayout(cells, 1), []
    for cell in range(cells - 1):
        for move in (-1, 1):
            after = max(cell + move, 0)
            solved = after == cells - 1
            states = torch.eye(cells)
            rest = torch.tensor([float(solved), float(solved), 0.0, 0.0, -1.0])
            rows.append(torch.cat([states[cell], torch.tensor([float(move)]), states[after], rest]))
    everything = Batch(torch.stack(rows).expand(2, -1, -1).contiguous(), layout)
    settings = IQLOptions(
        hidden=[32],
        batch_size=len(rows),
        learning_rate=1e-2,
        target_rate=0.1,
        discount=discount,
        expectile=0.99,
        temperature=10.0,
        reward_shift=0.0,
    )
    learner = IQL(settings, LearnerInputs(Streams([0, 1]), cells, 1, CPU))
    learner.start_phase(Phase.OFFLINE, 600)
    for _ in range(600):
        learner.update(everything, {})
    states = torch.eye(cells)[:-1].expand(2, -1, -1)
    values = learner.networks.value(states)[..., 0].detach()
    optimum = discount ** torch.arange(cells - 2, -1, -1.0)
    # The expectile of 0.99 lies a little below the maximum.
    assert (values - optimum).abs().max() < 0.05
    # The data's mean action is 0: what is above comes from the advantage weights.
    assert (learner.policy().act(states, None) > 0.2).all()


COMPILED = """
import functools, json, sys, torch
torch.compile = functools.partial(torch.compile, backend=sys.argv[1])
from dataclasses import replace
from jsrl.monitor.capture.layers import LayerCapture
from learners.test_iql import BASE, Phase, Streams, make, train
torch.set_num_threads(1)
settings = replace(BASE, hidden=[8], dropout=0.1, value_first=False)
learners = [make([0, 1], replace(settings, compile=compile)) for compile in (False, True)]
for learner in learners:
    learner.start_phase(Phase.OFFLINE, 200)
    train(learner, Streams([0, 1]).child("batches"), 3)
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
for learner in learners:
    streams = Streams([0, 1]).child("more")
    train(learner, streams, 48)
    # A monitor looks on while the policy acts, and is gone again.
    policy, seen = learner.policy(), {}
    with LayerCapture(policy, ".*").recorder(seen):
        policy.act(torch.zeros(2, 1, policy.arguments["observation_size"]), None)
    assert "mlp.activation_0" in seen
    train(learner, streams, 49)
pairs = zip(*(learner.networks.state_dict().values() for learner in learners))
print(json.dumps({
    "difference": max(float((a - b).abs().max()) for a, b in pairs),
    "compiled": graphs,
    "recompiled": torch._dynamo.utils.counters["stats"]["unique_graphs"] - graphs,
}))
"""


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_hundred_compiled_updates_agree_with_eager_ones_and_compile_once(backend):
    """``aot_eager`` traces and splits as ``inductor`` does, but makes no programs of it."""
    # In a process of its own: there the shape checks of the tests are not compiled along.
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, backend],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["difference"] < 1e-5
    assert result["compiled"] > 0
    assert result["recompiled"] == 0
