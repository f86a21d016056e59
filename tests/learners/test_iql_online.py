"""IQL with exploration noise of its own: how it acts, what is saved, and a run without data."""

from dataclasses import replace

import pytest
import torch
from learners.iql_cases import BASE, make, networks, train
from small_runs import REACH, train_here

from jsrl import load_policy
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.saved_policies import build_policy, describe_policy

LOUD = replace(BASE, exploration_noise=0.2)


def spread_of(policy):
    """Of 20,000 samples, each number of the action's."""
    seen = Observation(torch.zeros(policy.num_seeds, 20_000, 3))
    return policy.act(seen, Streams(range(policy.num_seeds))).std(1)


def test_it_acts_by_its_mean_with_noise_of_the_size_given_whatever_its_own_spread_is():
    learner = make([0, 1], LOUD)
    with torch.no_grad():
        learner.networks.actor.log_std.fill_(-4.0)
    policy = learner.policy()
    # Standard error of a standard deviation of 20,000 draws: 0.5 %; five of them.
    assert spread_of(policy) == pytest.approx(torch.full((2, 2), 0.2), rel=0.025)
    seen = Observation(torch.zeros(2, 4, 3))
    mode = policy.act(seen, None)
    drawn = Streams([0, 1]).normal("action_noise", (4, 2))
    acted = policy.act(seen, Streams([0, 1]))
    torch.testing.assert_close(acted, (mode + 0.2 * drawn).clamp(-1, 1))
    assert torch.equal(policy.act(seen, None), mode)


def test_the_noise_is_no_part_of_what_is_learnt():
    learners = [make([0, 1], settings) for settings in (BASE, LOUD)]
    for learner in learners:
        train(learner, Streams([0, 1]), 5)
    one, other = map(networks, learners)
    assert all(torch.equal(other[name], value) for name, value in one.items())


def test_a_saved_policy_has_the_noise_and_one_without_is_described_as_before():
    policy = make([0], LOUD).policy()
    again = build_policy(describe_policy(policy), policy.state_dict())
    assert torch.equal(spread_of(again), spread_of(policy))
    assert torch.equal(spread_of(policy.select(0)), spread_of(policy))
    assert "exploration_noise" not in make([0], BASE).policy().describe()["arguments"]


def test_a_noise_below_zero_is_told():
    with pytest.raises(UserError, match=r"learner.exploration_noise=-0.1 must be at least 0"):
        replace(BASE, exploration_noise=-0.1).check()


def test_a_run_without_data_leaves_a_policy_that_acts(tmp_path):
    train_here(
        tmp_path, *REACH, "learner=iql_online", "learner.hidden=[8]", "seeds=[0]", "online.steps=80"
    )
    assert abs(load_policy(tmp_path, seed=0).predict([0.0] * 4)[0]).max() <= 1
