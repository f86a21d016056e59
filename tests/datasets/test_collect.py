"""Collected offline data: reproducible, whole episodes, exactly as many as asked for."""

import fakes
import numpy as np
import pytest
import torch
from fakes import FakeGuide, told_by
from hypothesis import given, settings
from hypothesis import strategies as st

from jsrl.datasets.collect import collect
from jsrl.envs.make import Environments, EnvSettings, describe_env, make_env
from jsrl.guides import waypoint_guide

POINTMAZE = EnvSettings("PointMaze_UMaze-v3", {"continuing_task": False}, max_episode_steps=30)


def collected(
    transitions,
    seed,
    num_envs=3,
    guide=None,
    report=lambda done: None,
    env_id=fakes.COUNTING,
    **kwargs,
):
    env_settings = EnvSettings(env_id, kwargs)
    environments = Environments(env_settings, num_envs)
    guide = guide or FakeGuide(noise=0.3)
    spec = describe_env(env_settings)
    return collect(environments, spec, guide, transitions, seed, report)


def same(one, other):
    others = other.arrays()
    return all(np.array_equal(array, others[name]) for name, array in one.arrays().items())


def test_the_data_follow_from_the_seed():
    assert same(collected(50, 3, lengths=(2, 4)), collected(50, 3, lengths=(2, 4)))
    assert not same(collected(50, 3, lengths=(2, 4)), collected(50, 4, lengths=(2, 4)))


@settings(max_examples=30)
@given(
    transitions=st.integers(1, 60),
    num_envs=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    end=st.sampled_from(["terminated", "truncated"]),
)
def test_there_are_exactly_as_many_transitions_in_unbroken_episodes(
    transitions, num_envs, lengths, end
):
    data = collected(transitions, 1, num_envs, lengths=tuple(lengths), end=end)
    assert len(data) == transitions
    assert all(len(array) == transitions for array in data.arrays().values())
    assert data.frames is None
    over = data.terminals | data.timeouts
    assert not (data.terminals & data.timeouts).any()
    assert over[-1]
    # Within an episode the start is kept, the clock counts and one observation leads to the next.
    start, clock = data.observations[:, 0], data.observations[:, 1]
    assert clock[0] == 0
    np.testing.assert_array_equal(clock[1:], np.where(over[:-1], 0, clock[:-1] + 1))
    inside = ~over[:-1]
    np.testing.assert_array_equal(start[1:][inside], start[:-1][inside])
    np.testing.assert_array_equal(
        data.next_observations[:-1][inside], data.observations[1:][inside]
    )
    # Also at an end the successor is the episode's own last observation.
    np.testing.assert_array_equal(data.next_observations[:, 1], clock + 1)
    np.testing.assert_array_equal(data.next_observations[:, 0], start)


def test_terminations_and_timeouts_are_told_apart():
    ended = collected(12, 0, lengths=(3,))
    assert ended.terminals.tolist() == [False, False, True] * 4
    assert not ended.timeouts.any()
    cut = collected(12, 0, lengths=(3,), end="truncated")
    assert cut.timeouts.tolist() == [False, False, True] * 4
    assert not cut.terminals.any()


def test_a_termination_in_the_last_step_before_the_time_limit_is_no_timeout():
    data = collected(2 * fakes.TIME_LIMIT, 0, lengths=(fakes.TIME_LIMIT,))
    assert data.terminals.sum() == 2
    assert not data.timeouts.any()


def test_the_episode_that_the_number_cuts_ends_in_a_timeout():
    data = collected(7, 0, lengths=(3,))
    assert data.terminals.tolist() == [False, False, True, False, False, True, False]
    assert data.timeouts.tolist() == [False] * 6 + [True]


def test_the_guide_acts_in_every_step_and_its_actions_are_stored():
    guide = FakeGuide(answer=0.25)
    data = collected(20, 0, guide=guide, lengths=(4,))
    assert (data.actions == 0.25).all()
    assert data.actions.dtype == np.float32
    assert all(mask.all() for _, mask in guide.calls)
    assert all(observations.dtype == torch.float32 for observations, _ in guide.calls)


def test_progress_is_reported_up_to_the_number_asked_for():
    reported = []
    collected(20, 0, report=reported.append, lengths=(4,))
    assert reported == sorted(reported)
    assert reported[-1] == 20
    assert max(reported) <= 20


@pytest.mark.parametrize("transitions", [1, 20, 23])
def test_images_before_and_after_each_transition_are_stored_once(transitions):
    plain = collected(transitions, 5, lengths=(2, 5))
    data = collected(transitions, 5, env_id=fakes.PICTURED, lengths=(2, 5))
    for name in ("actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(data.arrays()[name], plain.arrays()[name])
    pictures = torch.from_numpy(data.frames.images["picture"])
    # The picture says in float64 what the vector says in float32.
    before, after = (told_by(pictures[places]) for places in (data.frames.at, data.frames.after))
    np.testing.assert_array_equal(before.astype(np.float32), plain.observations)
    np.testing.assert_array_equal(after.astype(np.float32), plain.next_observations)
    episodes = int((data.terminals | data.timeouts).sum())
    assert len(pictures) == transitions + episodes
    assert torch.equal(data.observed(slice(None)).images["picture"], pictures[data.frames.at])


def test_choices_are_stored_as_whole_numbers():
    guide = FakeGuide(noise=0.9, chooses=True)
    data = collected(40, 2, guide=guide, env_id=fakes.CHOOSING, lengths=(4,))
    assert data.actions.shape == (40,) and data.actions.dtype == np.int64
    assert set(data.actions) <= set(range(fakes.CHOICES)) and len(set(data.actions)) > 1
    # The environment adds its choices up.
    moved = data.next_observations[:, 2] - data.observations[:, 2]
    np.testing.assert_array_equal(moved, data.actions)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_noisy_controller_in_a_real_maze_collects_the_same_again(seed):
    def maze_data():
        spec, example = describe_env(POINTMAZE), make_env(POINTMAZE)
        guide = waypoint_guide(example, spec, 1, noise=0.5)
        environments = Environments(POINTMAZE, 2)
        data = collect(environments, spec, guide, 70, seed)
        environments.close()
        return data

    data = maze_data()
    assert same(data, maze_data())
    assert len(data) == 70
    assert np.abs(data.actions).max() <= 1
