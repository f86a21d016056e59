"""Which spaces are taken, and what is read from them: those of the outermost wrapper."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from odd_envs import BOX, odd

from jsrl.core.errors import UserError
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
    assert (spec.observation_size, spec.action_size) == (observed, acted)
    assert (spec.action_low, spec.action_high) == (low, high)
    assert spec.layout == (("observation", 0, observed),)
    assert env.observation_space.shape == (observed,)
    assert env.action_space.shape == (acted,)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()
    env.close()
    environments = Environments(settings, 2)
    assert environments.reset(np.ones(2, bool), [1, 2]).shape == (2, observed)
    step = environments.step(np.ones((2, acted), np.float32))
    assert step.observations.shape == (2, observed)
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
    assert (spec.action_low, spec.action_high) == ((-1, -1), (1, 1))


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
    assert spec.observation_size == total
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
    seen = environments.reset(np.ones(1, bool), [3])
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


PIXELS = spaces.Box(0, 255, (96, 96, 3), np.uint8)


@pytest.mark.parametrize(
    "space",
    [
        PIXELS,
        spaces.Box(0, 255, (84, 84), np.uint8),
        spaces.Box(0, 255, (4, 84, 84), np.uint8),
        spaces.Box(0, 255, (4, 3, 2), np.uint8),
        spaces.Box(0, 1, (84, 84, 3), np.float32),
        spaces.Box(0, 1, (3, 64, 64), np.float64),
        spaces.Box(0, 255, (48, 48), np.int32),
        spaces.Dict({"pixels": PIXELS, "speed": BOX}),
    ],
)
def test_images_are_refused(space):
    name = "pixels" if isinstance(space, spaces.Dict) else "observation"
    with pytest.raises(UserError, match=f"observes an image, Box.*, as '{name}'; .*no encoder"):
        describe_env(odd(space))


def test_stacked_and_scaled_images_are_refused_and_what_a_user_flattens_is_not():
    def scaled(env):
        return wrappers.TransformObservation(
            env, lambda o: o / 255.0, spaces.Box(0, 1, PIXELS.shape, np.float64)
        )

    for wrap in (lambda env: wrappers.FrameStackObservation(env, 4), scaled):
        with pytest.raises(UserError, match="observes an image"):
            make_env(odd(PIXELS, wrap=wrap))
    flat = odd(spaces.Box(0, 255, (4, 3), np.uint8), wrap=wrappers.FlattenObservation)
    assert describe_env(flat).observation_size == 12


REFUSED_OBSERVATIONS = [
    spaces.Discrete(4),
    spaces.MultiBinary(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.Tuple((BOX, BOX)),
    spaces.Text(4),
    spaces.Dict({"a": BOX, "b": spaces.Dict({"c": BOX})}),
    spaces.Dict({"a": BOX, "b": spaces.Discrete(2)}),
    spaces.Dict({}),
    spaces.Box(-1, 1, (0,), np.float32),
]


@pytest.mark.parametrize("space", REFUSED_OBSERVATIONS, ids=str)
def test_other_observations_are_refused_in_one_line(space):
    with pytest.raises(UserError) as caught:
        describe_env(odd(space))
    assert "env.id='jsrl-tests/Odd-v0' observes " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.MultiBinary(3), spaces.Dict(a=BOX)])
def test_the_advice_to_flatten_works_when_followed(space):
    settings = odd(space, wrap=wrappers.FlattenObservation)
    assert describe_env(settings).observation_size == spaces.flatdim(space)
    environments = Environments(settings, 1)
    assert np.isfinite(environments.reset(np.ones(1, bool), [1])).all()
    environments.close()


def bounds(low, high, dtype=np.float32):
    """A Box whose bounds may be wrong in a way that its constructor would refuse."""
    space = spaces.Box(-1, 1, (len(low),), dtype)
    space.low, space.high = np.array(low, dtype), np.array(high, dtype)
    return space


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Discrete(3), ["continuous actions"]),
        (spaces.Dict({"a": BOX}), ["Dict", "Box"]),
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
