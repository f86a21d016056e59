"""Which spaces are taken, and what is read from them: those of the outermost wrapper."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from odd_envs import BOX, odd, odd_observations

from jsrl.core.errors import UserError
from jsrl.core.specs import DiscreteActions
from jsrl.envs.make import Environments, describe_env, make_env


class FewerActions(wrappers.TransformAction):
    """Takes one number in [-2, 3] and gives it to both actions."""

    def __init__(self, env):
        super().__init__(env, lambda a: np.clip(np.resize(a, 2), -1, 1), spaces.Box(-2, 3, (1,)))


def with_time(env):
    return wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 10))


# Observation size, action size, lower and upper bounds, and parts, of Box(2) and Box(2) in [-1, 1].
WRAPPED = {
    "frames": (lambda e: wrappers.FrameStackObservation(e, 4), 8, 2, (-1, -1), (1, 1)),
    "time": (with_time, 3, 2, (-1, -1), (1, 1)),
    "one_action": (FewerActions, 2, 1, (-2,), (3,)),
    "rescaled": (lambda e: wrappers.RescaleAction(e, -7, 9), 2, 2, (-7, -7), (9, 9)),
    "both": (lambda e: FewerActions(wrappers.FrameStackObservation(e, 3)), 6, 1, (-2,), (3,)),
    "delayed": (lambda e: wrappers.DelayObservation(e, 2), 2, 2, (-1, -1), (1, 1)),
    "reshaped": (lambda e: wrappers.ReshapeObservation(e, (1, 2)), 2, 2, (-1, -1), (1, 1)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_sizes_and_bounds_are_those_of_the_outermost_wrapper(name):
    wrap, observed, acted, low, high = WRAPPED[name]
    settings = odd(wrap=wrap)
    spec, env = describe_env(settings), make_env(settings)
    assert (spec.observation.size, spec.actions.size) == (observed, acted)
    assert (spec.box.low, spec.box.high) == (low, high)
    assert spec.observation.layout == (("observation", 0, observed),)
    assert env.observation_space.shape == (observed,)
    assert env.action_space.shape == (acted,)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()
    env.close()
    environments = Environments(settings, 2)
    assert environments.reset(np.ones(2, bool), [1, 2]).vector.shape == (2, observed)
    step = environments.step(np.ones((2, acted), np.float32))
    assert step.observation.vector.shape == (2, observed)
    environments.close()


def test_a_wrapper_that_bounds_actions_makes_an_unbounded_environment_usable():
    """The advice that is given for unbounded actions, followed."""
    endless = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    with pytest.raises(UserError, match=r"TransformAction\(env, lambda action: action, gymnasium"):
        describe_env(odd(action_space=endless))
    bounded = odd(
        action_space=endless,
        wrap=lambda env: gym.wrappers.TransformAction(
            env, lambda action: action.astype(np.float64), gym.spaces.Box(-1, 1, (2,))
        ),
    )
    spec = describe_env(bounded)
    assert (spec.box.low, spec.box.high) == ((-1, -1), (1, 1))


@pytest.mark.parametrize(
    ("part", "size"),
    [
        (spaces.Box(-5, 5, (), np.float32), 1),
        (spaces.Box(0, 9, (3,), np.int64), 3),
        (spaces.Box(0, 1, (4,), np.int8), 4),
        (spaces.Box(0, 255, (128,), np.uint8), 128),
        (spaces.Box(-5, 5, (2, 3, 2), np.float64), 12),
        (spaces.Box(0, 255, (5, 5), np.int32), 25),
    ],
)
@pytest.mark.parametrize("in_dictionary", [False, True])
def test_numbers_of_any_shape_are_one_vector_and_a_line_says_so(part, size, in_dictionary):
    space = spaces.Dict({"a": BOX, "z": part}) if in_dictionary else part
    settings = odd(space)
    spec = describe_env(settings)
    total = size + 2 * in_dictionary
    assert spec.observation.size == total
    assert f"one vector of {total} number" in spec.observation_line
    assert str(part.dtype) in spec.observation_line
    environments = Environments(settings, 1)
    space.seed(3)
    first = space.sample()
    expected = (
        np.concatenate([np.ravel(first["a"]), np.ravel(first["z"])])
        if in_dictionary
        else (np.ravel(first))
    )
    seen = environments.reset(np.ones(1, bool), [3]).vector.numpy()
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen[0], expected.astype(np.float32))
    environments.close()


def test_a_vector_of_real_numbers_needs_no_line():
    for dtype in (np.float16, np.float32, np.float64):
        assert describe_env(odd(spaces.Box(-1, 1, (3,), dtype))).observation_line is None


def test_the_dtype_of_whole_numbers_is_real_before_anything_is_done_to_them():
    """So that a fault that adds noise to them is not rounded away."""
    env = make_env(odd(spaces.Box(0, 9, (3,), np.int64)))
    assert env.reset(seed=0)[0].dtype.kind == "f"
    env.close()


def test_observations_are_described_in_one_line_part_by_part():
    shown = spaces.Dict(
        {
            "camera": spaces.Dict({"eye": spaces.Box(0, 255, (9, 7, 3), np.uint8)}),
            "gear": spaces.Discrete(4),
            "lamps": spaces.MultiBinary(2),
            "speed": BOX,
        }
    )
    assert describe_env(odd(shown)).observation_line == (
        "observations: jsrl-tests/Odd-v0 gives gear int64 [], lamps int8 [2], speed float32 [2], "
        "camera.eye uint8 [9, 7, 3], which the networks see as one vector of 8 numbers, float32 "
        "and image camera.eye of 3 x 9 x 7 bytes, choices one-hot"
    )
    pair = spaces.Tuple((spaces.Box(0, 1, (), np.float32), spaces.Box(0, 255, (5, 5), np.uint8)))
    assert describe_env(odd(pair)).observation_line == (
        "observations: jsrl-tests/Odd-v0 gives 0 float32 [], 1 uint8 [5, 5], which the networks "
        "see as one vector of 1 number, float32 and image 1 of 1 x 5 x 5 bytes"
    )
    alone = spaces.Box(0, 255, (3, 8, 9), np.uint8)
    assert describe_env(odd(alone)).observation_line == (
        "observations: jsrl-tests/Odd-v0 gives observation uint8 [3, 8, 9], which the networks "
        "see as image observation of 3 x 8 x 9 bytes"
    )


REFUSED_OBSERVATIONS = [
    spaces.Text(4),
    spaces.Dict({"a": BOX, "b": spaces.Text(4)}),
    spaces.Dict({}),
    spaces.Box(-1, 1, (0,), np.float32),
    spaces.Box(0, 255, (0, 8, 8), np.uint8),
    spaces.Dict({"a": BOX, "b": spaces.Box(0, 255, (8, 0), np.uint8)}),
]


@pytest.mark.parametrize("space", REFUSED_OBSERVATIONS, ids=str)
def test_other_observations_are_refused_in_one_line(space):
    with pytest.raises(UserError) as caught:
        describe_env(odd(space))
    assert "env.id='jsrl-tests/Odd-v0' observes " in str(caught.value)
    assert "\n" not in str(caught.value)


TAKEN_OBSERVATIONS = [
    spaces.Discrete(4, start=2),
    spaces.MultiBinary(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.Tuple((BOX, BOX)),
    spaces.Dict({"a": BOX, "b": spaces.Dict({"c": BOX})}),
    spaces.Dict({"a": BOX, "b": spaces.Discrete(2)}),
]


@pytest.mark.parametrize("space", TAKEN_OBSERVATIONS, ids=str)
def test_choices_bits_and_nested_parts_are_one_vector_as_gymnasium_flattens_them(space):
    settings = odd(space)
    spec = describe_env(settings)
    assert spec.observation.size == spaces.flatdim(space)
    assert "one vector of" in (spec.observation_line or "")
    environments = Environments(settings, 2)
    seen = environments.reset(np.ones(2, bool), [1, 2])
    step = environments.step(np.zeros((2, 2), np.float32))
    environments.close()
    for index in range(2):
        own = odd_observations(settings, index + 1)
        for found, raw in zip((seen, step.observation), own, strict=True):
            assert found.images == {} and found.vector.dtype == torch.float32
            np.testing.assert_array_equal(found.vector[index].numpy(), spaces.flatten(space, raw))


def bounds(low, high, dtype=np.float32):
    """A Box whose bounds may be wrong in a way that its constructor would refuse."""
    space = spaces.Box(-1, 1, (len(low),), dtype)
    space.low, space.high = np.array(low, dtype), np.array(high, dtype)
    return space


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.MultiDiscrete([2, 3]), ["MultiDiscrete", "several choices", "TransformAction"]),
        (spaces.MultiBinary(3), ["MultiBinary", "Box", "Discrete"]),
        (spaces.Dict({"a": BOX}), ["Dict", "Box", "Discrete"]),
        (spaces.Box(0, 10, (2,), np.int64), ["whole numbers", "int64", "continuous"]),
        (spaces.Box(0, 255, (2,), np.uint8), ["whole numbers", "uint8"]),
        (spaces.Box(-1, 1, (0,), np.float32), ["nothing to choose"]),
        (bounds([-2, 0.5], [2, 0.5]), ["dimension 1", "from 0.5 to 0.5"]),
        (bounds([-2, 0.5], [2, 0.25]), ["dimension 1", "from 0.5 to 0.25"]),
        (bounds([0, 0], [0, 0]), ["dimension 0", "from 0 to 0"]),
        (bounds([1e9], [1e9 + 1], np.float64), ["dimension 0", "below"]),
        (bounds([np.nan, 0], [1, 1]), ["unbounded"]),
        (bounds([0, 0], [1, np.inf]), ["unbounded"]),
        (bounds([-np.inf, 0], [1, 1], np.float64), ["unbounded"]),
        (bounds([-1e300], [1e300], np.float64), ["unbounded"]),
    ],
)
def test_actions_that_cannot_be_chosen_are_refused_in_one_line(space, words):
    for function in (describe_env, make_env, lambda settings: Environments(settings, 1)):
        with pytest.raises(UserError) as caught:
            function(odd(action_space=space))
        message = str(caught.value)
        assert "\n" not in message and "env.id='jsrl-tests/Odd-v0'" in message
        assert [word for word in words if word not in message] == []


def test_whole_numbers_are_usable_as_the_refusal_advises():
    whole = spaces.Box(0, 10, (2,), np.int64)
    settings = odd(
        action_space=whole,
        wrap=lambda env: wrappers.TransformAction(
            env, lambda a: np.rint(a).astype(np.int64), spaces.Box(0, 10, (2,))
        ),
    )
    env = make_env(settings)
    env.reset(seed=0)
    for value in (-1.0, 0.24, 1.0):
        env.step(np.full(2, value, np.float32))
    assert [action.tolist() for action in env.unwrapped.taken] == [[0, 0], [6, 6], [10, 10]]
    env.close()


@pytest.mark.parametrize("start", [0, -2, 5])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_choice_is_taken_from_zero_and_handed_on_as_the_environment_numbers_it(start, way):
    settings = odd(action_space=spaces.Discrete(3, start=start), vectorisation=way)
    assert describe_env(settings).actions == DiscreteActions(3, start)
    env = make_env(settings)
    assert env.action_space == spaces.Discrete(3)
    env.reset(seed=0)
    for choice in (2, np.int64(0), 1):
        env.step(choice)
    assert env.unwrapped.taken == [start + 2, start, start + 1]
    env.close()
    environments = Environments(settings, 3)
    environments.reset(np.ones(3, bool), [1, 2, 3])
    for choices in ([0, 1, 2], [2, 2, 0]):
        environments.step(np.array(choices))  # of which the environments insist that they are ints
    environments.close()


def test_several_choices_are_usable_as_the_refusal_advises():
    settings = odd(
        action_space=spaces.MultiDiscrete([2, 3]),
        wrap=lambda env: wrappers.TransformAction(
            env, lambda number: np.array(divmod(number, 3)), spaces.Discrete(6)
        ),
    )
    env = make_env(settings)
    env.reset(seed=0)
    for number in range(6):
        env.step(number)
    expected = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert [action.tolist() for action in env.unwrapped.taken] == expected
    env.close()
