"""Observations of several parts, choices and images, read and acted on as in training."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from specs import box

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation, read_observation
from jsrl.core.specs import ActionSpec, DiscreteActions, EnvSpec
from jsrl.envs.specs import observation_spec
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.deployment import DeployedPolicy, Deployment, spec_values
from jsrl.networks.encoders.drq import DrqOptions
from jsrl.networks.policies import GaussianPolicy


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def numbers(*shape: int) -> spaces.Box:
    return spaces.Box(-1, 1, shape, np.float64)


ARM = spaces.Dict({"angles": numbers(2, 2), "grip": spaces.Discrete(3, start=-1)})
CAMERAS = spaces.Tuple((pixels(16, 18, 3), pixels(17, 16)))
SPACES: dict[str, spaces.Space[Any]] = {
    "nested dictionaries": spaces.Dict({"arm": ARM, "leg": spaces.Dict({"arm": ARM})}),
    "a dictionary of one part": spaces.Dict({"state": numbers(2, 3)}),
    "a tuple": spaces.Tuple((numbers(3), spaces.Discrete(4), spaces.MultiBinary((2, 2)))),
    "a choice": spaces.Discrete(5, start=2),
    "several choices": spaces.MultiDiscrete([2, 4]),
    "an image, channels last": pixels(16, 18, 3),
    "an image, channels first": pixels(3, 16, 18),
    "a grey image": pixels(17, 16),
    "a stack of images": pixels(2, 16, 18, 3),
    "all of them": spaces.Dict(
        {"arm": ARM, "cameras": CAMERAS, "front": pixels(3, 15, 20), "dials": numbers(1)}
    ),
}
BOX = box([-2.0, 0.0], [2.0, 3.0])
CHOICES = DiscreteActions(4, 3)


def env_spec(space: spaces.Space[Any], actions: ActionSpec = BOX) -> EnvSpec:
    return EnvSpec("Parts-v0", observation_spec(space, "Parts-v0"), actions, 10)


def deployment(space: spaces.Space[Any]) -> Deployment:
    """What a policy knows of the environment, after a journey through JSON."""
    return Deployment.of(json.loads(json.dumps(spec_values(env_spec(space)))))


def samples(space: spaces.Space[Any], count: int = 4) -> tuple[list[Any], Any]:
    """Observations one by one, and as a vectorised environment gives them."""
    space.seed(0)
    drawn = [space.sample() for _ in range(count)]
    return drawn, concatenate(space, drawn, create_empty_array(space, count))


def as_tensors(observation: Any) -> Any:
    """The same observation with a tensor in the place of each array and number."""
    if isinstance(observation, dict):
        return {name: as_tensors(part) for name, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(map(as_tensors, observation))
    return torch.as_tensor(observation)


def assert_same(one: Observation, other: Observation) -> None:
    assert torch.equal(one.vector, other.vector) and one.vector.dtype == torch.float32
    assert one.images.keys() == other.images.keys()
    for name, image in one.images.items():
        assert image.dtype == torch.uint8 and torch.equal(image, other.images[name])


@pytest.mark.parametrize("name", SPACES)
def test_every_part_is_read_as_in_training(name: str) -> None:
    space = SPACES[name]
    own, spec = deployment(space), env_spec(space).observation
    assert own.observation == spec
    drawn, batch = samples(space)
    expected = read_observation(spec, batch, (4,))
    for given in (batch, as_tensors(batch)):
        found, single = own.read(given)
        assert not single
        assert_same(found, expected)
    for index, one in enumerate(drawn):
        assert_same(expected[index], read_observation(spec, one))
        for given in (one, as_tensors(one)):
            found, single = own.read(given)
            assert single
            assert_same(found, expected[index : index + 1])


@pytest.mark.parametrize("name", ["nested dictionaries", "a dictionary of one part"])
def test_a_dictionary_of_numbers_may_come_flat(name: str) -> None:
    space = SPACES[name]
    drawn, batch = samples(space)
    expected = read_observation(env_spec(space).observation, batch, (4,))
    flat = np.stack([spaces.flatten(space, one) for one in drawn])
    assert_same(deployment(space).read(flat)[0], expected)
    found, single = deployment(space).read(flat[1])
    assert single
    assert_same(found, expected[1:2])


def test_what_is_no_dictionary_may_come_in_one() -> None:
    found, single = deployment(numbers(3)).read({"observation": np.array([0.5, -1.0, 0.0])})
    assert single and found.vector.tolist() == [[0.5, -1.0, 0.0]]
    one = deployment(SPACES["a dictionary of one part"])
    matrix = np.arange(6.0).reshape(2, 3)
    assert one.read(matrix)[0].vector.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("arm", "grip"), None, "lacks 'arm.grip'; give what Parts-v0 observes"),
        (("front",), None, "lacks ['front']; Parts-v0 gives a policy ['arm', 'dials', 'cameras', "),
        (("arm", "grip"), 2, "part 'arm.grip' of an observation is 2; -1 to 1 was expected"),
        (("arm", "grip"), np.zeros((2, 2)), "'arm.grip' has shape [2, 2]; Parts-v0 has []"),
        (("arm", "grip"), np.zeros(7, np.int64), "differ in how many there are"),
        (("front",), np.zeros((3, 15, 20)), "image 'front' of an observation holds float64; uint8"),
        (("front",), np.zeros((15, 20, 3), np.uint8), "'front' has shape [15, 20, 3]; Parts-v0"),
        (("arm", "angles"), np.full((2, 2), np.nan), "nan as number 0 of 'arm.angles'"),
    ],
)
def test_what_is_wrong_with_a_part_is_told(path: tuple[str, ...], value: Any, words: str) -> None:
    drawn, _ = samples(SPACES["all of them"])
    observation = {
        "arm": dict(drawn[0]["arm"]),
        **{k: v for k, v in drawn[0].items() if k != "arm"},
    }
    holder = observation
    for key in path[:-1]:
        holder = holder[key]
    if value is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    with pytest.raises(UserError) as caught:
        deployment(SPACES["all of them"]).read(observation)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def drawn_parameters(policy: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return policy


def test_choices_are_numbered_as_the_environment_numbers_them() -> None:
    spec = EnvSpec("Choices-v0", observation_spec(numbers(3), "Choices-v0"), CHOICES, 10)
    own = drawn_parameters(CategoricalPolicy(1, 3, 4, (8,)))
    policy = DeployedPolicy.of(own, spec_values(spec), 0)
    rows = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    logits = own.mlp(torch.tensor(rows, dtype=torch.float32)[None])[0].detach().numpy()
    right = 3 + logits.argmax(-1)
    assert len(set(right.tolist())) > 1
    actions, _ = policy.predict(rows)
    assert (type(actions), actions.dtype) == (np.ndarray, np.int64)
    assert np.array_equal(actions, right)
    one, _ = policy.predict(rows[2])
    assert one.shape == () and one == right[2]
    assert spaces.Discrete(4, start=3).contains(one)
    assert policy.predict(rows[2:3])[0].tolist() == [right[2]]
    tensors, _ = policy.predict(torch.tensor(rows))
    assert tensors.dtype == torch.int64 and tensors.tolist() == right.tolist()
    assert policy.predict(torch.tensor(rows[2]))[0].shape == ()
    drawn = [policy.predict(rows, deterministic=False)[0] for _ in range(20)]
    assert {int(action) for row in drawn for action in row} == {3, 4, 5, 6}


def by_hand(batch: Any) -> Observation:
    """Observations of ``all of them``, each part put in its place here."""
    grip = np.eye(3)[np.asarray(batch["arm"]["grip"]) + 1]
    angles = batch["arm"]["angles"].reshape(len(grip), 4)
    vector = np.concatenate([angles, grip, batch["dials"]], 1).astype(np.float32)
    last, grey = batch["cameras"]
    images = {"cameras.0": last.transpose(0, 3, 1, 2), "cameras.1": grey[:, None]}
    images["front"] = batch["front"]
    return Observation(
        torch.from_numpy(vector), {name: torch.tensor(image) for name, image in images.items()}
    )


@pytest.mark.parametrize("chooses", [False, True])
def test_a_policy_that_sees_images_acts_on_what_the_environment_gives(chooses: bool) -> None:
    space = SPACES["all of them"]
    spec = env_spec(space, CHOICES if chooses else BOX)
    cls: Any = CategoricalPolicy if chooses else GaussianPolicy
    own = drawn_parameters(
        cls(
            *(1, spec.observation.size, spec.actions.size, (8,)),
            images=spec.observation.image_shapes,
            encoder=DrqOptions(kind="drq", channels=4, features=5),
        )
    )
    policy = DeployedPolicy.of(own, json.loads(json.dumps(spec_values(spec))), 0)
    drawn, batch = samples(space, 12)
    answers = own.mode(by_hand(batch)[None])[0].detach().double().numpy()
    right = answers + 3 if chooses else [-2, 0] + (answers + 1) / 2 * np.array([4.0, 3.0])
    assert len(np.unique(right, axis=0)) > 1
    for given in (batch, as_tensors(batch)):
        actions, _ = policy.predict(given)
        assert isinstance(actions, torch.Tensor) == (given is not batch)
        np.testing.assert_allclose(actions, right, atol=1e-5)
    for index, one in enumerate(drawn):
        for given in (one, as_tensors(one)):
            action, _ = policy.predict(given)
            assert tuple(action.shape) == (() if chooses else (2,))
            assert isinstance(action, torch.Tensor) == (given is not one)
            np.testing.assert_allclose(action, right[index], atol=1e-5)
