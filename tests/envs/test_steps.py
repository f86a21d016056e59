"""What an environment is given in a step, and what is read from its answer."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from odd_envs import odd

from jsrl.core.errors import UserError
from jsrl.envs.make import Environments, describe_env, make_env

RANGES = {
    "unit": spaces.Box(-1, 1, (3,), np.float32),
    "unit, float64": spaces.Box(-1, 1, (3,), np.float64),
    "unit, float16": spaces.Box(-1, 1, (3,), np.float16),
    "tenths": spaces.Box(-0.1, 0.3, (3,), np.float32),
    "tenths, float64": spaces.Box(-0.1, 0.3, (3,), np.float64),
    "tenths, float16": spaces.Box(-0.1, 0.3, (3,), np.float16),
    "far away": spaces.Box(1000.0, 1000.5, (3,), np.float32),
    "of all sizes": spaces.Box(
        np.array([-3e38, 1e-30, -7.1]), np.array([3e38, 3e-30, 0.0]), dtype=np.float64
    ),
    "rows": spaces.Box(-0.7, 3.3, (3, 2), np.float32),
    "a number": spaces.Box(-0.7, 3.3, (), np.float32),
}


@pytest.mark.parametrize("name", RANGES)
def test_what_step_receives_lies_in_the_space_that_it_declares(name):
    space = RANGES[name]
    spec, env = describe_env(odd(action_space=space)), make_env(odd(action_space=space))
    assert (spec.actions.size, spec.box.shape) == (max(1, np.prod(space.shape)), space.shape)
    env.reset(seed=0)
    draws = np.random.default_rng(0).uniform(-1, 1, (50, spec.actions.size))
    chosen = np.concatenate([np.full((1, spec.actions.size), v) for v in (-1, 1)] + [draws])
    for action in chosen.astype(np.float32):
        env.step(action)  # which asserts that the space contains what it is given
    taken = np.array([action.ravel() for action in env.unwrapped.taken])
    assert taken.dtype == space.dtype
    np.testing.assert_array_equal(taken[0], space.low.ravel())
    np.testing.assert_array_equal(taken[1], space.high.ravel())
    low, high = space.low.ravel().astype(np.longdouble), space.high.ravel().astype(np.longdouble)
    expected = low + (high - low) * (chosen.astype(np.float32).astype(np.longdouble) + 1) / 2
    scale = np.maximum(np.abs(low), np.abs(high))
    tolerance = 2 * np.finfo(space.dtype).eps + 1e-15
    assert (np.abs(taken - expected) <= tolerance * scale).all()
    env.close()


def test_actions_within_minus_one_and_one_are_passed_on_bitwise():
    env = make_env(odd(action_space=RANGES["unit"]))
    env.reset(seed=0)
    actions = np.random.default_rng(1).uniform(-1, 1, (20, 3)).astype(np.float32)
    for action in actions:
        env.step(action)
    np.testing.assert_array_equal(np.array(env.unwrapped.taken), actions)
    env.close()


@pytest.mark.parametrize("name", ["unit", "unit, float64", "tenths", "a number"])
def test_an_environment_that_writes_into_its_action_changes_nothing_outside(name):
    """What was chosen goes into the replay afterwards."""
    settings = odd(action_space=RANGES[name])
    environments = Environments(settings, 2)
    environments.reset(np.ones(2, bool), [1, 2])
    size = describe_env(settings).actions.size
    actions = np.full((2, size), 0.25, np.float32)
    environments.step(actions)
    assert (actions == 0.25).all()
    environments.close()


def answers(answer, count=2, steps=3, **changes):
    """Rewards and successes ``[steps, count]`` of environments that answer so."""
    environments = Environments(odd(answer=answer, **changes), count)
    try:
        environments.reset(np.ones(count, bool), [11, 12, 13][:count])
        taken = [environments.step(np.zeros((count, 2), np.float32)) for _ in range(steps)]
        rewards = np.array([step.rewards for step in taken])
        return rewards, np.array([step.successes for step in taken]), environments.success_line()
    finally:
        environments.close()


NUMBERS = [1, 1.0, True, np.float32(1), np.int64(1), np.bool_(True), np.array(1), np.array([1.0]),
           np.array([True]), np.array([[1]]), torch.tensor([1.0]), torch.tensor(True)]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "way"), [*((one, "sync") for one in NUMBERS), (np.array([True]), "async")], ids=repr
)
def test_a_number_is_a_number_in_whatever_wrapping(one, way):
    rewards, successes, line = answers(
        lambda step: (one, False, {"success": one}), vectorisation=way
    )
    np.testing.assert_array_equal(rewards, np.ones((3, 2)))
    np.testing.assert_array_equal(successes, np.ones((3, 2)))
    assert line is None


def test_an_end_may_be_an_array():
    environments = Environments(odd(answer=lambda step: (0.0, np.array([step == 2]), {})), 1)
    environments.reset(np.ones(1, bool), [1])
    ends = [environments.step(np.zeros((1, 2), np.float32)).terminated for _ in range(2)]
    assert [end.tolist() for end in ends] == [[False], [True]]
    environments.close()


def test_success_that_is_not_told_is_nan_in_a_step():
    for value in (None, np.nan, np.array([np.nan])):
        _, successes, line = answers(lambda step, v=value: (0.0, False, {"success": v}))
        assert np.isnan(successes).all()
        assert line is None
    _, successes, _ = answers(lambda step: (0.0, False, {"success": 0.25} if step == 2 else {}))
    np.testing.assert_array_equal(successes, [[np.nan] * 2, [0.25] * 2, [np.nan] * 2])
    _, successes, line = answers(lambda step: (0.0, False, {"success": 1}), success_key=None)
    assert np.isnan(successes).all() and line is None


@pytest.mark.parametrize("way", ["sync", "async"])
def test_what_else_is_in_info_does_not_matter(way):
    """Arrays whose length varies from step to step, and from environment to environment."""

    def answer(step):
        path = np.zeros((np.random.randint(1, 9), step))  # noqa: NPY002  varies in any case
        extra = {step: "x", "object": object} if step % 2 else {"path": None}
        return 1.0, False, {"path": path, "list": [path], "success": step == 3} | extra

    rewards, successes, _ = answers(answer, count=3, vectorisation=way)
    np.testing.assert_array_equal(successes, [[0] * 3, [0] * 3, [1] * 3])
    assert (rewards == 1).all()


def test_success_may_be_an_entry_of_an_entry():
    def answer(step):
        return 0.0, False, {"a.b": 0, "a": {"b": 1, "c": {"d": 0.5}}, "e": 3}

    for key, expected in (("a.b", 0), ("a.c.d", 0.5)):
        _, successes, line = answers(answer, success_key=key)
        np.testing.assert_array_equal(successes, np.full((3, 2), expected))
        assert line is None
    for key in ("e.f", "a.z", "z"):
        _, successes, line = answers(answer, success_key=key)
        assert np.isnan(successes).all() and f"env.success_key={key!r} was in no info" in line


def test_the_end_of_the_task_may_be_its_success():
    _, successes, line = answers(lambda step: (0.0, step == 3, {}), success_key="terminated")
    np.testing.assert_array_equal(successes, [[0] * 2, [0] * 2, [1] * 2])
    assert line is None
    # An entry of that very name goes first.
    _, successes, _ = answers(
        lambda step: (0.0, step == 3, {"terminated": step == 1}), success_key="terminated"
    )
    np.testing.assert_array_equal(successes, [[1] * 2, [0] * 2, [0] * 2])


def test_a_key_that_is_never_told_is_said_with_the_entries_that_are():
    line = answers(lambda step: (0.0, False, {"x": 1, "is_success": step == 2}))[2]
    for words in ("'success'", "info had is_success, x", "env.success_key=is_success", "=null"):
        assert words in line
    assert "no entry at all" in answers(lambda step: (0.0, False, {}))[2]
    assert "\n" not in line


def failing(observation=None, **arguments):
    """An environment whose third observation is this one."""

    class Wrong(gym.ObservationWrapper):
        seen = 0

        def observation(self, original):
            self.seen += 1
            return observation if self.seen == 3 else original

    return odd(wrap=Wrong, **arguments)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (float("nan"), ["a reward of nan"]),
        (np.array([np.inf]), ["a reward of inf"]),
        (1e300, ["a reward of inf", "float32"]),
        ("3", ["a reward of type str"]),
        (None, ["a reward of type NoneType"]),
        (np.ones(2), ["a reward of type ndarray of shape [2]"]),
        (1j, ["a reward of type complex"]),
    ],
)
def test_rewards_that_are_no_finite_number_stop_the_run_with_one_line(reward, words, way):
    with pytest.raises(UserError) as caught:
        answers(lambda step: (reward if step == 2 else 0.0, False, {}), vectorisation=way)
    message = str(caught.value)
    assert "env.id='jsrl-tests/Odd-v0'" in message and "in step 2 after reset(seed=11)" in message
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize(
    ("success", "words"),
    [
        ("yes", ["info['success'] of type str"]),
        (np.ones(2), ["shape [2]"]),
        (3.0, ["info['success'] = 3", "env.success_key"]),
        (-1, ["info['success'] = -1", "[0, 1]"]),
        ({"task": True}, ["of type dict", "'task'", "env.success_key=success.NAME"]),
    ],
)
def test_success_that_is_no_share_stops_the_run_with_one_line(success, words):
    with pytest.raises(UserError) as caught:
        answers(lambda step: (0.0, False, {"success": success}))
    message = str(caught.value)
    assert "in step 1 after reset(seed=11)" in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (np.array([0.5, np.nan]), "an observation with nan in column 1"),
        (np.array([-np.inf, 0.0]), "an observation with -inf in column 0"),
        (np.zeros(3), "an observation of shape [3] and type float64"),
        (np.array(["a", "b"]), "an observation of shape [2] and type <U1"),
    ],
)
def test_observations_that_are_not_what_the_space_says_stop_the_run_with_one_line(
    observation, words
):
    settings = failing(observation)
    environments = Environments(settings, 1)
    environments.reset(np.ones(1, bool), [5])
    environments.step(np.zeros((1, 2), np.float32))
    with pytest.raises(UserError) as caught:
        environments.step(np.zeros((1, 2), np.float32))
    assert f"returned {words} in step 2 after reset(seed=5)" in str(caught.value)
    environments = Environments(settings, 1)
    for _ in range(2):
        environments.reset(np.ones(1, bool), [5])
    with pytest.raises(UserError, match=r"by reset\(seed=6\)"):
        environments.reset(np.ones(1, bool), [6])


def image(shape=(8, 9, 3), dtype=np.uint8):
    return np.zeros(shape, dtype)


MIXED = spaces.Dict(
    {
        "gear": spaces.Discrete(3, start=1),
        "pixels": spaces.Box(0, 255, (8, 9, 3), np.uint8),
        "speed": spaces.Box(-1, 1, (2,), np.float32),
    }
)
RIGHT = {"gear": 2, "pixels": image(), "speed": np.zeros(2)}


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gear": 0}, ["part 'gear'", "is 0", "1 to 3 was expected"]),
        ({"gear": 4}, ["part 'gear'", "is 4", "1 to 3 was expected"]),
        ({"gear": None}, ["part 'gear'", "object"]),
        ({"pixels": image((9, 8, 3))}, ["'pixels'", "(9, 8, 3)", "(8, 9, 3) was expected"]),
        ({"pixels": image(dtype=np.float32)}, ["image 'pixels'", "float32", "uint8 was expected"]),
        ({"speed": np.zeros(3)}, ["part 'speed'", "(3,)", "(2,) was expected"]),
        ({"speed": np.array(["a", "b"])}, ["part 'speed'", "<U1"]),
        ({"speed": [[1], [2, 3]]}, ["part 'speed'"]),
        ({"speed": np.array([0, np.nan])}, ["an observation with nan in column 4"]),
        (None, ["no part 'gear'"]),
    ],
    ids=str,
)
def test_parts_of_observations_that_are_not_what_the_space_says_stop_the_run_with_one_line(
    changes, words, way
):
    observation = None if changes is None else RIGHT | changes
    environments = Environments(failing(observation, observation_space=MIXED, vectorisation=way), 1)
    environments.reset(np.ones(1, bool), [5])
    environments.step(np.zeros((1, 2), np.float32))
    with pytest.raises(UserError) as caught:
        environments.step(np.zeros((1, 2), np.float32))
    environments.close()
    message = str(caught.value)
    assert "\n" not in message and "returned an observation" in message
    assert "in step 2 after reset(seed=5)" in message
    assert [word for word in words if word not in message] == []
