"""Evaluation: every episode once, from start states that its key decides."""

import fakes
import numpy as np
import pytest
import torch
from fakes import CountingEnv, FakeGuide, FakePolicy, FixedSteps
from hypothesis import given, settings
from hypothesis import strategies as st

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.jumpstart.curricula import RandomCurriculum
from jsrl.rollout.evaluator import (
    Evaluation,
    Evaluator,
    evaluate_modes,
    guide_steps_of_episodes,
    modes_to_play,
    steps_to_success,
)

CPU = torch.device("cpu")


def make(seeds, num_envs, **kwargs):
    env_settings = EnvSettings(fakes.COUNTING, kwargs)
    return Evaluator(
        Environments(env_settings, len(seeds) * num_envs),
        describe_env(env_settings),
        Streams(seeds).child("evaluator"),
        CPU,
    )


def steps(*values, episodes):
    return np.tile(np.array(values)[:, None], (1, episodes))


def one_by_one(seed, episodes, key, h, lengths):
    """The same episodes, each in an environment that nothing else is done with."""
    policy, guide, results = FakePolicy(), FakeGuide(), []
    streams = Streams([seed]).child("evaluator", "evaluation", key)
    for episode in range(episodes):
        environment = CountingEnv(lengths=lengths)
        observation, _ = environment.reset(seed=streams.integer("reset", episode)[0])
        paid, length, over = 0.0, 0, False
        while not over:
            seen = Observation(torch.from_numpy(observation).view(1, 1, -1))
            by_guide = length < h
            mask = torch.ones(1, 1, dtype=torch.bool)
            action = guide.act(seen, None, mask) if by_guide else policy.act(seen, None)
            observation, reward, terminated, truncated, _ = environment.step(action[0, 0].numpy())
            paid, length, over = paid + np.float32(reward), length + 1, terminated or truncated
        results.append((paid, 1.0, length))
    return np.array(results).T


@settings(max_examples=25)
@given(
    episodes=st.integers(1, 9),
    num_envs=st.integers(1, 5),
    h=st.integers(0, 6),
    key=st.one_of(st.integers(0, 10**6), st.sampled_from(["guide", "final"])),
)
def test_every_episode_is_played_exactly_once_and_the_surplus_is_discarded(
    episodes, num_envs, h, key
):
    lengths = (1, 2, 5, 8)
    evaluator = make([4, 9], num_envs, lengths=lengths)
    guide_steps = steps(h, h, episodes=episodes)
    result = evaluator.evaluate(FakePolicy(), FakeGuide(), guide_steps, key)
    for index, seed in enumerate((4, 9)):
        returns, successes, counted = one_by_one(seed, episodes, key, h, lengths)
        np.testing.assert_allclose(result.returns[index], returns, rtol=1e-6)
        assert result.successes[index].tolist() == successes.tolist()
        assert result.lengths[index].tolist() == counted.tolist()


def test_no_episodes_seed_is_used_twice_within_an_evaluation():
    CountingEnv.made.clear()
    evaluator = make([4], 3, lengths=(1, 2, 5, 8))
    evaluator.evaluate(FakePolicy(), None, steps(0, episodes=10), 77)
    used = [seed for env in CountingEnv.made for seed in env.reset_seeds]
    streams = Streams([4]).child("evaluator", "evaluation", 77)
    expected = [streams.integer("reset", episode)[0] for episode in range(10)]
    # 0 is the seed of an environment that only keeps the others company.
    assert sorted(seed for seed in used if seed != 0) == sorted(expected)


def test_guide_combined_and_exploration_start_from_the_same_states():
    evaluator, guide, policy = make([0, 1], 4, lengths=(3,)), FakeGuide(), FakePolicy()
    policy.calls.clear()
    evaluate_modes(
        evaluator, ("guide", "combined", "exploration"), policy, guide, steps(2, 2, episodes=4), 5
    )
    first = policy.calls[0][..., 0]
    guide_starts = [obs[..., 0] for obs, mask in guide.calls if (obs[..., 1] == 0).all()]
    assert len(guide_starts) == 2  # combined and guide alone
    assert all(torch.equal(first, start) for start in guide_starts)


def test_the_same_key_gives_the_same_episodes_and_another_key_others():
    evaluator = make([0], 3, lengths=(2, 5))
    first, again, other = (
        evaluator.evaluate(FakePolicy(), None, steps(0, episodes=8), key) for key in (3, 3, 4)
    )
    assert np.array_equal(first.returns, again.returns)
    assert not np.array_equal(first.returns, other.returns)


def test_a_seed_is_evaluated_bitwise_the_same_alone_and_in_company():
    guide_steps = np.array([[2, 0, 3, 1, 4], [0, 0, 0, 0, 0], [1, 2, 0, 5, 2]])
    together = make([0, 1, 2], 2, lengths=(1, 4, 7))
    alone = make([2], 2, lengths=(1, 4, 7))
    expected = together.evaluate(FakePolicy(), FakeGuide(noise=0.3), guide_steps, 1)
    result = alone.evaluate(FakePolicy(), FakeGuide(noise=0.3), guide_steps[2:], 1)
    assert np.array_equal(expected.returns[2:], result.returns)
    assert np.array_equal(expected.lengths[2:], result.lengths)


def test_the_guide_acts_for_h_steps_of_each_episode_and_is_not_called_where_h_is_zero():
    evaluator, guide = make([0, 1], 2, lengths=(5,)), FakeGuide()
    evaluator.evaluate(FakePolicy(), guide, np.array([[1, 4, 0], [0, 0, 9]]), 1)
    assert guide.rows() == 1 + 4 + 0 + 0 + 0 + 5
    idle = FakeGuide()
    evaluator.evaluate(FakePolicy(), idle, steps(0, 0, episodes=3), 1)
    assert idle.calls == []


def test_a_guide_alone_acts_throughout():
    evaluator, guide = make([0], 2, lengths=(5,)), FakeGuide()
    evaluator.evaluate(None, guide, steps(evaluator.time_limit, episodes=4), 1)
    assert guide.rows() == 4 * 5


def test_the_exploration_policy_acts_by_its_mode():
    evaluator = make([0], 1, lengths=(4,))
    quiet = evaluator.evaluate(FakePolicy(noise=0.0), None, steps(0, episodes=3), 1)
    noisy = evaluator.evaluate(FakePolicy(noise=5.0), None, steps(0, episodes=3), 1)
    assert np.array_equal(quiet.returns, noisy.returns)


def test_a_seed_that_failed_stands_still_and_the_others_are_evaluated_as_ever():
    healthy = make([0, 1], 2).evaluate(FakePolicy(), None, steps(0, 0, episodes=3), 1)
    broken = make([0, 1], 2).evaluate(FakePolicy(broken=1), None, steps(0, 0, episodes=3), 1)
    assert np.array_equal(healthy.returns[0], broken.returns[0])
    # Rewards are the clock and the action: 1 + 2 + 3 + 4 + 5.
    assert broken.returns[1].tolist() == [15.0] * 3


def test_every_finished_episode_is_told_of_once():
    evaluator, told = make([0, 1], 3, lengths=(1, 2, 5)), []
    evaluator.told = told.append
    evaluator.evaluate(FakePolicy(), None, steps(0, 0, episodes=7), 1)
    assert sum(told) == 2 * 7
    assert min(told) == 0


@pytest.mark.parametrize("h", [0, 2])
@pytest.mark.parametrize("guide", [None, FakeGuide()])
@pytest.mark.parametrize(
    "modes", [("combined",), ("combined", "exploration"), ("guide", "combined")]
)
def test_it_is_known_beforehand_how_many_episodes_are_played(modes, guide, h):
    evaluator, told = make([0, 1], 2), []
    evaluator.told = told.append
    combined = steps(h, h, episodes=3)
    evaluate_modes(evaluator, modes, FakePolicy(), guide, combined, 1)
    assert sum(told) == len(modes_to_play(modes, guide, combined)) * combined.size


def test_a_longer_evaluation_begins_with_the_episodes_of_a_shorter_one():
    shorter, longer = (
        make([3, 4], 2, lengths=(1, 4, 7)).evaluate(
            FakePolicy(), FakeGuide(noise=0.3), steps(3, 3, episodes=n), "final"
        )
        for n in (5, 11)
    )
    first = longer.first(5)
    assert np.array_equal(first.returns, shorter.returns)
    assert np.array_equal(first.successes, shorter.successes)
    assert np.array_equal(first.lengths, shorter.lengths)


def test_success_is_undefined_only_where_no_key_is_set():
    def success(succeeds, key="success"):
        settings = EnvSettings(fakes.COUNTING, {"succeeds": succeeds}, success_key=key)
        spec = describe_env(settings)
        evaluator = Evaluator(Environments(settings, 2), spec, Streams([0]), torch.device("cpu"))
        return evaluator.evaluate(FakePolicy(), None, steps(0, episodes=3), 1).means()["success"]

    assert success(True) == [1.0]
    # Told as false, and not told at all.
    assert success(False) == success(None) == [0.0]
    # Told at the end of an episode only.
    assert success(None, key="finished") == [1.0]
    assert np.isnan(success(True, key=None)).all()


def test_modes_that_are_the_same_are_played_once():
    evaluator, guide, policy = make([0], 2), FakeGuide(), FakePolicy()
    none = steps(0, episodes=2)
    modes = ("guide", "combined", "exploration")
    without = evaluate_modes(evaluator, modes, policy, None, none, 1)
    assert set(without) == {"combined", "exploration"}
    at_zero = evaluate_modes(evaluator, modes, policy, guide, none, 1)
    assert at_zero["combined"] is at_zero["exploration"]
    assert set(evaluate_modes(evaluator, ("combined",), policy, guide, none, 1)) == {"combined"}
    mixed = evaluate_modes(evaluator, modes, policy, guide, steps(2, episodes=2), 1)
    assert list(mixed) == list(modes)
    assert not np.array_equal(mixed["combined"].returns, mixed["exploration"].returns)


def test_guide_steps_of_episodes_are_keyed_by_evaluation_and_episode():
    curricula = [RandomCurriculum(tuple(range(50))), FixedSteps(3)]
    streams = Streams([0, 1])
    drawn = guide_steps_of_episodes(curricula, streams, 6, 10)
    streams.integers("guide_steps", 50, ())
    assert np.array_equal(guide_steps_of_episodes(curricula, streams, 6, 10), drawn)
    assert np.array_equal(guide_steps_of_episodes(curricula, streams, 4, 10), drawn[:, :4])
    assert not np.array_equal(guide_steps_of_episodes(curricula, streams, 6, 11), drawn)
    assert drawn[1].tolist() == [3] * 6
    assert len(set(drawn[0].tolist())) > 1


@pytest.mark.parametrize(
    ("lengths", "successes", "expected"),
    [
        ([10, 20, 100], [1, 1, 0], (15, True)),
        ([10, 20, 60], [0, 0, 0], (30, False)),
        ([10, 20, 60], [np.nan] * 3, (30, False)),
        ([0, 0, 1], [1, 1, 0], (1, True)),
    ],
)
def test_h1_is_the_mean_length_of_successful_episodes_or_of_all(lengths, successes, expected):
    counted = np.array([lengths], np.int64)
    evaluation = Evaluation(np.zeros((1, 3)), np.array([successes], np.float64), counted)
    assert steps_to_success(evaluation) == ([expected[0]], [expected[1]])
