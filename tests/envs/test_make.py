"""Gymnasium environments as the package sees them."""

import tempfile
import warnings
from pathlib import Path

import fakes
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from odd_envs import odd

from jsrl.core.errors import UserError
from jsrl.core.specs import DiscreteActions
from jsrl.envs.make import Environments, EnvSettings, describe_env, make_env

POINTMAZE = EnvSettings("PointMaze_UMaze-v3", {"continuing_task": False}, max_episode_steps=12)


def begun(settings, count, seeds=None):
    environments = Environments(settings, count)
    everywhere = np.ones(count, bool)
    seen = environments.reset(everywhere, seeds or list(range(1, count + 1)))
    return environments, seen.vector.numpy()


def test_a_box_observation_is_one_part():
    spec = describe_env(EnvSettings("Pendulum-v1"))
    assert spec.observation.layout == (("observation", 0, 3),)
    assert (spec.observation.size, spec.actions.size, spec.max_episode_steps) == (3, 1, 200)
    assert (spec.box.low, spec.box.high) == ((-2.0,), (2.0,))


def test_a_choice_of_actions_is_taken_and_steps_as_the_environment_itself():
    spec, raw = describe_env(EnvSettings("CartPole-v1")), gym.make("CartPole-v1")
    assert (spec.observation.size, spec.actions) == (4, DiscreteActions(2))
    assert spec.max_episode_steps == 500
    environments, observations = begun(EnvSettings("CartPole-v1"), 1, [7])
    np.testing.assert_array_equal(observations[0], raw.reset(seed=7)[0])
    for choice in (0, 1, 1, 0):
        step = environments.step(np.array([choice]))
        expected, reward, *_ = raw.step(choice)
        np.testing.assert_array_equal(step.observation.vector[0], expected)
        assert step.rewards[0] == reward
    environments.close()


def test_observations_that_are_numbered_are_one_hot():
    settings = EnvSettings("FrozenLake-v1", {"is_slippery": False})
    spec = describe_env(settings)
    assert (spec.observation.size, spec.actions) == (16, DiscreteActions(4))
    environments, observations = begun(settings, 2)
    np.testing.assert_array_equal(observations, np.eye(16)[[0, 0]])
    # 1 goes down by a row of four, 2 goes right.
    step = environments.step(np.array([1, 2]))
    np.testing.assert_array_equal(step.observation.vector, np.eye(16)[[4, 1]])
    environments.close()


def test_a_dictionary_is_flattened_in_the_order_of_its_space():
    spec = describe_env(EnvSettings(fakes.COUNTING, {"dictionary": True}))
    assert spec.observation.layout == (("clock", 0, 1), ("state", 1, 3))
    environments, flat = begun(EnvSettings(fakes.COUNTING, {"dictionary": True}), 2)
    raw = [fakes.CountingEnv(dictionary=True).reset(seed=seed)[0] for seed in (1, 2)]
    expected = [[*one["clock"], *one["state"]] for one in raw]
    assert flat.dtype == np.float32
    np.testing.assert_array_equal(flat, np.array(expected, np.float32))
    environments.close()


def test_the_layout_of_a_maze_finds_goal_and_position_in_the_flat_observation():
    spec = describe_env(POINTMAZE)
    places = {name: slice(start, stop) for name, start, stop in spec.observation.layout}
    assert list(places) == ["achieved_goal", "desired_goal", "observation"]
    env = make_env(POINTMAZE)
    flat, _ = env.reset(seed=4)
    raw, _ = env.unwrapped.reset(seed=4)
    for name, place in places.items():
        np.testing.assert_allclose(flat[place], raw[name])
    env.close()


def test_actions_in_minus_one_to_one_span_the_environments_own_range():
    settings, raw = EnvSettings("Pendulum-v1"), gym.make("Pendulum-v1")
    environments, observations = begun(settings, 1, [7])
    expected, _ = raw.reset(seed=7)
    np.testing.assert_array_equal(observations[0], expected)
    for action in (-1.0, 0.0, 0.25, 1.0):
        step = environments.step(np.array([[action]], np.float32))
        expected, reward, *_ = raw.step(np.array([2 * action], np.float32))
        np.testing.assert_allclose(step.observation.vector[0], expected, atol=1e-6)
        assert step.rewards[0] == pytest.approx(reward, abs=1e-6)
    environments.close()


def test_each_action_is_rescaled_by_its_own_bounds():
    box = spaces.Box(np.array([0.0, -3.0], np.float32), np.array([10.0, 1.0], np.float32))
    env = make_env(odd(action_space=box))
    env.reset(seed=0)
    env.step(np.array([0.0, 0.5], np.float32))
    np.testing.assert_allclose(env.unwrapped.taken, [[5.0, 0.0]])
    spec = describe_env(odd(action_space=box))
    assert (spec.box.low, spec.box.high) == ((0.0, -3.0), (10.0, 1.0))


def test_the_time_limit_can_be_set_and_truncates():
    settings = EnvSettings(fakes.COUNTING, {"lengths": (50,)}, max_episode_steps=4)
    assert describe_env(settings).max_episode_steps == 4
    environments, _ = begun(settings, 1)
    ends = [environments.step(np.zeros((1, 2), np.float32)) for _ in range(4)]
    assert [bool(step.truncated[0]) for step in ends] == [False, False, False, True]
    assert not any(step.terminated[0] for step in ends)
    environments.close()


def test_success_is_read_from_info_and_nan_where_it_does_not_say():
    def successes(**changes):
        options = {"lengths": (2,)} | changes.pop("kwargs", {})
        environments, _ = begun(EnvSettings(fakes.COUNTING, options, **changes), 2)
        steps = [environments.step(np.zeros((2, 2), np.float32)).successes for _ in range(2)]
        environments.close()
        return np.array(steps).tolist()

    assert successes() == [[0, 0], [1, 1]]
    assert successes(kwargs={"succeeds": False}) == [[0, 0], [0, 0]]
    assert np.isnan(successes(kwargs={"succeeds": None})).all()
    assert np.isnan(successes(success_key="solved")).all()
    assert np.isnan(successes(success_key=None)).all()


def test_success_is_undefined_for_those_environments_of_which_info_does_not_say():
    settings = EnvSettings(fakes.COUNTING, {"lengths": (2, 6)}, success_key="finished")
    # Seeds of a short and of a long episode.
    environments, _ = begun(settings, 2, [seed_of_length(2), seed_of_length(6)])
    environments.step(np.zeros((2, 2), np.float32))
    successes = environments.step(np.zeros((2, 2), np.float32)).successes
    np.testing.assert_array_equal(successes, [1.0, np.nan])
    environments.close()


def seed_of_length(length):
    environment = fakes.CountingEnv(lengths=(2, 6))
    for seed in range(100):
        environment.reset(seed=seed)
        if environment.length == length:
            return seed
    raise AssertionError("no seed of that length")


def test_only_the_masked_environments_are_reset_and_ended_ones_wait():
    environments, first = begun(EnvSettings(fakes.COUNTING, {"lengths": (3,)}), 2)
    environments.step(np.zeros((2, 2), np.float32))
    observations = environments.reset(np.array([True, False]), [9, 12345]).vector
    assert observations[:, 1].tolist() == [0, 1]
    assert observations[0, 0] != first[0, 0]
    assert observations[1, 0] == first[1, 0]
    for _ in range(2):
        step = environments.step(np.zeros((2, 2), np.float32))
    # The last observation is handed out as it is: nothing resets by itself.
    assert step.terminated.tolist() == [False, True]
    assert step.observation.vector[1, 1] == 3
    with pytest.raises(AssertionError):
        environments.step(np.zeros((2, 2), np.float32))


def test_steps_do_not_overwrite_the_observations_of_earlier_steps():
    environments, first = begun(EnvSettings(fakes.COUNTING), 2)
    kept = first.copy()
    second = environments.step(np.ones((2, 2), np.float32)).observation.vector.numpy()
    copied = second.copy()
    environments.step(np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(second, copied)


def test_environments_in_subprocesses_give_bitwise_the_same():
    rollouts = []
    for vectorisation in ("sync", "async"):
        settings = EnvSettings(
            POINTMAZE.id, POINTMAZE.kwargs, POINTMAZE.max_episode_steps, vectorisation=vectorisation
        )
        environments, observations = begun(settings, 2)
        generator, seen = np.random.default_rng(0), [observations]
        for step_number in range(25):
            step = environments.step(generator.uniform(-1, 1, (2, 2)).astype(np.float32))
            ended = step.terminated | step.truncated
            seen += [step.observation.vector, step.rewards, ended, step.successes]
            if ended.any():
                reset = environments.reset(ended, [100 + step_number, 200 + step_number])
                seen.append(reset.vector)
        rollouts.append(seen)
        environments.close()
    assert len(rollouts[0]) > 1 + 4 * 25
    for one, other in zip(*rollouts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (lambda: odd(action_space=spaces.MultiBinary(2)), ["env.id='jsrl-tests/Odd-v0'", "Box"]),
        (lambda: odd(endless=True), ["no time limit", "env.max_episode_steps"]),
        (lambda: EnvSettings("PointMaze_UMase-v3"), ["did you mean 'PointMaze_UMaze-v"]),
        (lambda: EnvSettings("Pendulum-v1", {"wings": 2}), ["env.kwargs={'wings': 2}"]),
        (lambda: EnvSettings("no_such_module:Env-v0"), ["env.id='no_such_module:Env-v0'"]),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(settings, words):
    for function in (make_env, describe_env):
        with pytest.raises(UserError) as caught:
            function(settings())
        message = str(caught.value)
        assert "\n" not in message
        assert [word for word in words if word not in message] == []


def test_a_time_limit_makes_an_endless_environment_usable():
    assert describe_env(odd(endless=True, max_episode_steps=7)).max_episode_steps == 7


def test_an_unstable_simulation_writes_no_log_into_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = make_env(POINTMAZE)
    env.reset(seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env.unwrapped.point_env.data.qvel[:] = np.nan
        env.step(np.zeros(2, np.float32))
    env.close()
    assert any("MuJoCo" in str(warning.message) for warning in caught)
    assert list(tmp_path.iterdir()) == []


def test_a_maze_leaves_no_file_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environments, _ = begun(POINTMAZE, 2)
    environments.step(np.zeros((2, 2), np.float32))
    environments.close()
    describe_env(POINTMAZE)
    assert [path.name for path in Path(tmp_path).iterdir()] == []
