"""Implicit Q-Learning against a second implementation, and what seeds may not do to each other."""

from dataclasses import replace

import pytest
import torch
from learners.iql_cases import BASE, CPU, PRESETS, batch, flat, make, networks, train
from learners.reference_iql import ReferenceIQL
from minibatches import changed, one_seed, poisoned
from specs import box, vector

from jsrl.core.observations import Observation
from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.options import LearnerInputs


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
            reference.update(one_seed(minibatch, index), masks)
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
        reference.update(one_seed(minibatch, 0), [mask[0] for mask in draws.values()])
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


@pytest.mark.parametrize("preset", PRESETS)
def test_a_seed_that_is_not_finite_is_frozen_and_reported_and_the_others_notice_nothing(preset):
    healthy, learner = make([0, 1, 2], PRESETS[preset]), make([0, 1, 2], PRESETS[preset])
    streams = Streams([0, 1, 2]).child("batches")
    for step in range(12):
        minibatch, draws = batch(streams), healthy.draws(streams)
        healthy.update(minibatch, draws)
        bad = changed(minibatch, reward=poisoned(minibatch.reward, 1, 0))
        learner.update(bad if step == 5 else minibatch, draws)
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


def test_guide_and_exploration_policy_of_a_seed_begin_with_different_weights():
    one, other = make([0], BASE, "guide"), make([0], BASE, "exploration")
    assert not torch.equal(one.networks.value.output.weight, other.networks.value.output.weight)
    target, critic = one.networks.target_critic.state_dict(), one.networks.critic.state_dict()
    assert all(torch.equal(target[name], critic[name]) for name in critic)


def test_truncation_is_no_part_of_the_update():
    one, other = make([0], BASE), make([0], BASE)
    minibatch = batch(Streams([0]))
    one.update(minibatch, {})
    other.update(changed(minibatch, truncated=1 - minibatch.truncated), {})
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
    pairs = [(cell, move) for cell in range(cells - 1) for move in (-1, 1)]
    after = torch.tensor([max(cell + move, 0) for cell, move in pairs])
    solved = (after == cells - 1).float().expand(2, -1)
    here = torch.tensor([cell for cell, _ in pairs])
    nothing = torch.zeros_like(solved)
    everything = TransitionBatch(
        observation=Observation(torch.eye(cells)[here].expand(2, -1, -1)),
        action=torch.tensor([[float(move)] for _, move in pairs]).expand(2, -1, -1),
        reward=solved,
        discount=discount * (1 - solved),
        next_observation=Observation(torch.eye(cells)[after].expand(2, -1, -1)),
        terminated=solved,
        truncated=nothing,
        by_guide=nothing,
        share=nothing + 1,
        stage=nothing - 1,
    )
    settings = IQLOptions(
        hidden=[32],
        batch_size=len(pairs),
        learning_rate=1e-2,
        target_rate=0.1,
        discount=discount,
        expectile=0.99,
        temperature=10.0,
        reward_shift=0.0,
    )
    learner = IQL(settings, LearnerInputs(Streams([0, 1]), vector(cells), box([-1], [1]), CPU))
    learner.start_phase(Phase.OFFLINE, 600)
    for _ in range(600):
        learner.update(everything, {})
    states = Observation(torch.eye(cells)[:-1].expand(2, -1, -1))
    values = learner.networks.v(states).detach()
    optimum = discount ** torch.arange(cells - 2, -1, -1.0)
    # The expectile of 0.99 lies a little below the maximum.
    assert (values - optimum).abs().max() < 0.05
    # The data's mean action is 0: what is above comes from the advantage weights.
    assert (learner.policy().act(states, None) > 0.2).all()
