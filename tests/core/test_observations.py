"""Observations read in the order of a spec, against Gymnasium's own flattening."""

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from hypothesis import given
from hypothesis import strategies as st

from jsrl.core.errors import UserError
from jsrl.core.observations import read_observation
from jsrl.core.specs import BoxActions, DiscreteActions, ObservationSpec, described_actions
from jsrl.envs.specs import action_spec, observation_spec

SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
PARTS = st.one_of(
    SHAPES.map(lambda shape: spaces.Box(-5, 5, shape, np.float32)),
    SHAPES.map(lambda shape: spaces.Box(-5, 5, shape, np.float64)),
    SHAPES.map(lambda shape: spaces.Box(-5, 5, shape, np.int64)),
    st.tuples(st.integers(1, 5), st.integers(-3, 3)).map(
        lambda d: spaces.Discrete(d[0], start=d[1])
    ),
    st.lists(st.integers(1, 3), min_size=1, max_size=2).map(spaces.MultiBinary),
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(spaces.MultiDiscrete),
)
SPACES = st.recursive(
    PARTS,
    lambda inner: st.one_of(
        st.dictionaries(
            st.text("abcxyz", min_size=1, max_size=3), inner, min_size=1, max_size=3
        ).map(spaces.Dict),
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=5,
)


@given(space=SPACES, seed=st.integers(0, 1000))
def test_the_vector_is_what_gymnasium_flattens_to(space, seed):
    space.seed(seed)
    spec = observation_spec(space, "Any-v0")
    raw = space.sample()
    expected = spaces.flatten(space, raw).astype(np.float32)
    vector = read_observation(spec, raw).vector
    assert vector.dtype == torch.float32
    assert np.array_equal(vector.numpy(), expected)
    assert spec.size == len(expected) and [stop for *_, stop in spec.layout][-1] == len(expected)


@given(space=SPACES, seed=st.integers(0, 1000), seeds=st.integers(1, 3), envs=st.integers(1, 2))
def test_a_vectorised_batch_is_each_environment_for_itself(space, seed, seeds, envs):
    batched = batch_space(space, seeds * envs)
    batched.seed(seed)
    spec = observation_spec(space, "Any-v0")
    raw = batched.sample()
    found = read_observation(spec, raw, (seeds, envs)).vector
    assert found.shape == (seeds, envs, spec.size)
    for index in range(seeds * envs):
        one = take(space, raw, index)
        expected = spaces.flatten(space, one).astype(np.float32)
        assert np.array_equal(found[index // envs, index % envs].numpy(), expected)


def take(space, raw, index):
    """The observation of one environment from those of all."""
    if isinstance(space, spaces.Dict):
        return {key: take(part, raw[key], index) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(take(part, raw[i], index) for i, part in enumerate(space.spaces))
    return raw[index]


def pixels(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 10), lambda a: a[None]),
        ((8, 10, 3), lambda a: np.stack([a[..., c] for c in range(3)])),
        ((3, 8, 10), lambda a: a),
        ((4, 8, 10), lambda a: a),
        ((7, 7, 3), lambda a: np.stack([a[..., c] for c in range(3)])),
        ((2, 8, 10, 3), lambda a: np.stack([a[f, ..., c] for f in range(2) for c in range(3)])),
        ((2, 3, 8, 10), lambda a: np.stack([a[f, c] for f in range(2) for c in range(3)])),
    ],
)
def test_channels_and_frames_of_an_image_come_first(shape, expected):
    space = spaces.Dict({"camera": pixels(*shape), "state": spaces.Box(-1, 1, (2,))})
    spec = observation_spec(space, "Any-v0")
    space.seed(0)
    raw = [space.sample() for _ in range(6)]
    one = read_observation(spec, raw[0])
    assert one.images["camera"].dtype == torch.uint8
    assert np.array_equal(one.images["camera"].numpy(), expected(raw[0]["camera"]))
    assert spec.image_shapes == {"camera": tuple(one.images["camera"].shape)}
    together = {key: np.stack([r[key] for r in raw]) for key in ("camera", "state")}
    many = read_observation(spec, together, (3, 2))
    assert many.vector.shape == (3, 2, 2)
    assert np.array_equal(many.images["camera"][2, 1].numpy(), expected(raw[5]["camera"]))


def test_an_image_alone_leaves_the_vector_empty_and_is_copied():
    spec = observation_spec(pixels(8, 8, 3), "Any-v0")
    raw = np.zeros((2, 8, 8, 3), np.uint8)
    found = read_observation(spec, raw, (2, 1))
    raw[:] = 9
    assert found.vector.shape == (2, 1, 0)
    assert found.images["observation"].shape == (2, 1, 3, 8, 8)
    assert found.images["observation"].max() == 0


@given(space=SPACES)
def test_a_spec_goes_into_a_checkpoint_and_comes_back(space):
    spec = observation_spec(spaces.Dict({"a": space, "b": pixels(2, 8, 8, 3)}), "Any-v0")
    assert ObservationSpec.described(spec.describe()) == spec
    assert ObservationSpec.described(json.loads(json.dumps(spec.describe()))) == spec


def test_a_spec_is_read_by_torch_without_running_code(tmp_path):
    spec = observation_spec(spaces.Dict({"a": pixels(8, 8), "b": spaces.Discrete(3)}), "Any-v0")
    torch.save(spec.describe(), tmp_path / "spec.pt")
    loaded = torch.load(tmp_path / "spec.pt", weights_only=True)
    assert ObservationSpec.described(loaded) == spec


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(-2, 3, (2,)), BoxActions((-2.0, -2.0), (3.0, 3.0), (2,))),
        (spaces.Box(-1, 1, (2, 1)), BoxActions((-1.0, -1.0), (1.0, 1.0), (2, 1))),
        (spaces.Discrete(4), DiscreteActions(4)),
        (spaces.Discrete(4, start=-1), DiscreteActions(4, -1)),
    ],
)
def test_actions_are_a_box_or_a_choice(space, expected):
    spec = action_spec(space, "Any-v0")
    assert spec == expected
    assert described_actions(json.loads(json.dumps(spec.describe()))) == spec


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)])
def test_other_actions_are_refused_with_a_reason(space):
    with pytest.raises(UserError, match=r"has actions Multi.*Box|has actions Multi.*Discrete"):
        action_spec(space, "Any-v0")


def test_several_choices_at_once_are_refused_by_what_would_help():
    with pytest.raises(UserError, match=r"no learner has a distribution.*numbers the combinations"):
        action_spec(spaces.MultiDiscrete([2, 3]), "Any-v0")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Text(5), "whose size is not fixed"),
        (spaces.Sequence(spaces.Discrete(2)), "whose size is not fixed"),
        (spaces.Box(0, 1, (64, 64, 3), np.float32), "images of bytes"),
        (pixels(9, 9, 9), "which axis holds the channels"),
        (pixels(8, 8, 3, 4), "which axis holds the channels"),
        (pixels(2, 2, 8, 8, 3), "which axis holds the channels"),
        (spaces.Dict({}), "holds no number"),
        (
            spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(2)})}),
            "both called 'a.b'",
        ),
    ],
)
def test_observations_that_no_network_reads_are_refused_in_one_line(space, words):
    with pytest.raises(UserError, match=words) as error:
        observation_spec(space, "Odd-v0")
    assert "Odd-v0" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"a": 1}, "no part 'b'"),
        ({"a": 3, "b": np.zeros(2)}, "is 3; 0 to 2 was expected"),
        ({"a": -1, "b": np.zeros(2)}, "is -1; 0 to 2"),
        ({"a": 1, "b": np.zeros(3)}, "has the shape"),
        (None, "no part 'a'"),
    ],
)
def test_an_observation_outside_of_the_space_is_refused_in_one_line(raw, words):
    spec = observation_spec(
        spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (2,))}), ""
    )
    with pytest.raises(UserError, match=words) as error:
        read_observation(spec, raw)
    assert "\n" not in str(error.value)


def test_an_image_of_real_numbers_is_not_turned_into_bytes():
    spec = observation_spec(pixels(8, 8, 3), "Any-v0")
    with pytest.raises(UserError, match=r"holds float64; uint8 was expected"):
        read_observation(spec, np.zeros((8, 8, 3)))
