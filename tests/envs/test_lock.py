"""The combination lock: what opens it, what ends the chances, and what is no lock."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from jsrl.core.errors import UserError
from jsrl.envs.lock import combination_of
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.envs.registration import LOCK_ID, LONGEST_LOCK


def lock(**kwargs):
    return gym.make(LOCK_ID, **kwargs).unwrapped


def played(env, actions):
    """Observations, rewards, and ends of an episode."""
    seen = [env.reset()[0]]
    rewards, ends, successes = [], [], []
    for action in actions:
        state, reward, terminated, truncated, info = env.step(np.int64(action))
        assert not truncated
        seen.append(state)
        rewards.append(reward)
        ends.append(terminated)
        successes.append(info["success"])
    return list(map(int, seen)), rewards, ends, successes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kwargs", [{}, {"horizon": 1, "actions": 5, "render_mode": "ansi"}])
def test_gymnasiums_checker_has_nothing_to_say(kwargs):
    check_env(lock(**kwargs))


@pytest.mark.parametrize(("horizon", "actions"), [(1, 2), (3, 2), (3, 3), (4, 2)])
def test_one_sequence_of_all_opens_it_and_the_first_wrong_action_loses(horizon, actions):
    env = lock(horizon=horizon, actions=actions, combination_seed=7)
    opened = []
    for sequence in itertools.product(range(actions), repeat=horizon):
        seen, rewards, ends, successes = played(env, sequence)
        wrong = [t for t in range(horizon) if sequence[t] != env.combination[t]]
        first = wrong[0] if wrong else horizon
        assert seen == [t if t <= first else horizon + t for t in range(horizon + 1)]
        assert rewards == [0.0] * (horizon - 1) + [float(not wrong)]
        assert ends == [False] * (horizon - 1) + [True]
        assert successes == [False] * (horizon - 1) + [not wrong]
        opened += [] if wrong else [sequence]
    assert opened == [tuple(env.combination)]


def test_the_combination_follows_from_its_seed_alone():
    env, again, other = lock(horizon=50), lock(horizon=80), lock(horizon=50, combination_seed=1)
    before = env.combination.copy()
    env.reset(seed=3)
    np.testing.assert_array_equal(env.combination, before)
    np.testing.assert_array_equal(env.combination, again.combination[:50])
    assert (env.combination != other.combination).any()
    counts = np.bincount(combination_of(0, 6000, 3))
    assert len(counts) == 3 and (np.abs(counts - 2000) < 200).all()


def test_a_run_sees_one_of_the_states_and_no_time_limit_before_the_end():
    spec = describe_env(EnvSettings(LOCK_ID, {"horizon": LONGEST_LOCK}))
    assert spec.observation.size == 2 * LONGEST_LOCK + 1
    assert spec.max_episode_steps == LONGEST_LOCK
    settings = EnvSettings(LOCK_ID, {"horizon": 2})
    envs = Environments(settings, 1)
    seen = envs.reset(np.array([True]), [0]).vector.numpy()
    np.testing.assert_array_equal(seen, np.eye(5)[:1])
    combination = lock(horizon=2).combination
    seen = envs.step(combination[:1]).observation.vector.numpy()
    np.testing.assert_array_equal(seen, np.eye(5)[1:2])
    last = envs.step(combination[1:])
    envs.close()
    assert last.terminated.all() and not last.truncated.any()
    assert last.rewards == 1 and last.successes == 1


def test_it_says_how_far_it_is():
    env = lock(horizon=2, render_mode="ansi")
    played(env, [env.combination[0], 1 - env.combination[1]])
    assert env.render() == "step 2 of 2, lost"
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.int64(0))


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"horizon": 0}, "env.kwargs.horizon=0: a whole number from 1 to 10000 was expected"),
        ({"horizon": 10_001}, "env.kwargs.horizon=10001: a whole number from 1 to 10000"),
        ({"horizon": 2.5}, "env.kwargs.horizon=2.5: a whole number"),
        ({"horizon": True}, "env.kwargs.horizon=True: a whole number"),
        ({"actions": 1}, "env.kwargs.actions=1: a whole number from 2 on was expected"),
        ({"actions": "two"}, "env.kwargs.actions=two: a whole number"),
        ({"combination_seed": -1}, "env.kwargs.combination_seed=-1: a whole number from 0 on"),
    ],
)
def test_what_is_no_lock_is_refused(kwargs, says):
    with pytest.raises(UserError, match=says):
        lock(**kwargs)
