"""Guides from Python files written in the test, and the example."""

from pathlib import Path

import pytest
import torch
from guide_cases import UNIT, observations
from specs import box_spec

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.guides import GuideView, python_guide

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"

SOURCE = """
import numpy as np

def first_two(observations):
    return np.tanh(observations[:, :2])

def scaled(observations, scale):
    return scale * np.tanh(observations[:, :2])

def noisy(observations, generator):
    return generator.uniform(-1, 1, (len(observations), 2))

class Linear:
    def __init__(self, gain, offset=0.0):
        self.gain, self.offset = gain, offset

    def act(self, observations):
        return np.clip(self.gain * observations[:, :2] + self.offset, -1, 1)

class Predicts:
    def predict(self, observations):
        return np.zeros((len(observations), 2)), None

class Remembers:
    stateful = True

    def __init__(self):
        self.age = {}

    def reset(self, rows):
        for row in rows:
            self.age[int(row)] = 0

    def __call__(self, observations, rows):
        for row in rows:
            self.age[int(row)] += 1
        return np.array([[self.age[int(row)] / 100, 0.0] for row in rows])

number = 3
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "my_guide.py"
    path.write_text(SOURCE)
    return path


def make(source, name, view=None, **arguments):
    return python_guide(f"{source}:{name}", arguments, view or GuideView(), UNIT, 2)


def everyone():
    return torch.ones(2, 3, dtype=torch.bool)


def test_a_function_of_a_file(source):
    obs = observations(2, 3)
    actions = make(source, "first_two").act(obs, None, everyone())
    torch.testing.assert_close(actions, torch.tanh(obs.vector[..., :2]))


def test_a_function_with_arguments(source):
    obs = observations(2, 3)
    actions = make(source, "scaled", scale=0.5).act(obs, None, everyone())
    torch.testing.assert_close(actions, 0.5 * torch.tanh(obs.vector[..., :2]))


def test_a_class_is_instantiated_with_the_arguments(source):
    obs = observations(2, 3)
    actions = make(source, "Linear", gain=0.1, offset=0.2).act(obs, None, everyone())
    torch.testing.assert_close(actions, 0.1 * obs.vector[..., :2] + 0.2)


def test_by_module_name_from_the_working_folder(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    obs = observations(2, 3)
    guide = python_guide("my_guide:first_two", {}, GuideView(), UNIT, 2)
    torch.testing.assert_close(guide.act(obs, None, everyone()), torch.tanh(obs.vector[..., :2]))


def test_a_generator_is_given_to_what_asks_for_it(source):
    guide = make(source, "noisy")
    obs, streams = observations(2, 3), Streams([1, 2])
    first, second = (guide.act(obs, streams, everyone()) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(guide.act(obs, Streams([1, 2]), everyone()), first)


def test_memory_for_each_row(source):
    guide = make(source, "Remembers")
    guide.reset(everyone())
    guide.act(observations(2, 3), None, torch.tensor([[True, False, False], [False, True, True]]))
    actions = guide.act(observations(2, 3), None, everyone())
    expected = torch.tensor([[0.02, 0.01, 0.01], [0.01, 0.02, 0.02]])
    torch.testing.assert_close(actions[..., 0], expected)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("Linear", {}, ["guide.arguments", "gain"]),
        ("Linear", {"gain": 1.0, "ofset": 0.0}, ["guide.arguments", "ofset"]),
        ("number", {}, ["guide.target", "int", "callable"]),
        ("number", {"gain": 1.0}, ["guide.arguments", "none"]),
        ("frist_two", {}, ["guide.target", "frist_two", "nearest: first_two"]),
    ],
)
def test_what_cannot_be_used_is_said_when_it_is_loaded(source, name, arguments, words):
    with pytest.raises(UserError) as caught:
        make(source, name, **arguments)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_predict_that_returns_a_tuple_points_to_the_kind_that_takes_its_file(source):
    with pytest.raises(UserError, match="guide=sb3"):
        make(source, "Predicts").act(observations(2, 3), None, everyone())


def test_the_fingerprint_is_of_source_and_arguments(source):
    first = make(source, "Linear", gain=1.0).fingerprint
    assert make(source, "Linear", gain=1.0).fingerprint == first
    assert make(source, "Linear", gain=2.0).fingerprint != first
    source.write_text(SOURCE.replace("-1, 1)", "-0.5, 0.5)"))
    changed = make(source, "Linear", gain=1.0)
    assert changed.fingerprint != first
    far = observations(2, 3).for_each(lambda vector: 10 * vector)
    assert changed.act(far, None, everyone()).abs().max() == 0.5


def test_the_example_in_ten_lines():
    guide = python_guide(
        f"{EXAMPLES / 'guide_callable.py'}:towards_goal", {}, GuideView(), point_maze(), 1
    )
    obs = Observation(torch.tensor([[[0.0, 0.0, 0.1, -5.0, 0.0, 0.0, 0.2, 0.0]]]))
    actions = guide.act(obs, None, torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(actions, torch.tensor([[[0.2, -1.0]]]))


def point_maze():
    layout = (("achieved_goal", 0, 2), ("desired_goal", 2, 4), ("observation", 4, 8))
    return box_spec("PointMaze", layout, (-1.0, -1.0), (1.0, 1.0), 300)
