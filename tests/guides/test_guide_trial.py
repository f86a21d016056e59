"""What a guide's trial finds out before a run begins, and what it leaves alone."""

import numpy as np
import pytest
import torch
from guide_cases import UNIT, observations
from specs import box_spec

from jsrl.core.errors import UserError
from jsrl.guides import GuideView, python_guide

SOURCE = """
import numpy as np

def elementwise(observation):
    return np.array([observation[0], observation[1]])

def product(observation):
    return np.clip(np.eye(2, 5) @ observation, -1, 1)

def listed(observation):
    return [float(observation[0]), 0.5]

def batch(observations):
    return np.array([elementwise(o) for o in observations]).reshape(len(observations), -1)

def picky(observations):
    if np.abs(observations).max() < 100:
        raise ValueError("not of this world")
    return observations[:, :2] / 1000

def undefined(observations):
    return np.full((len(observations), 2), np.nan)

def draws_its_own(observations):
    return np.random.default_rng().uniform(-1, 1, (len(observations), 2))

def draws_what_it_is_given(observations, generator):
    return generator.uniform(-1, 1, (len(observations), 2))

class Counter:
    age = 0
    def __call__(self, observations):
        self.age += 1
        return np.full((len(observations), 2), self.age / 1000)

class Derivative:
    before = None
    def act(self, observations):
        change = 0 if self.before is None else observations[:, :2] - self.before
        self.before = observations[:, :2]
        return np.clip(0.1 * (observations[:, :2] + change), -1, 1)

class Integral:
    total = 0.0
    def __call__(self, observations):
        self.total = self.total + 0.01 * observations[:, :2].mean()
        return np.full((len(observations), 2), self.total)

class Honest(Counter):
    stateful = True
    def reset(self, rows):
        pass
    def __call__(self, observations, rows):
        return super().__call__(observations)
"""


def make(tmp_path, name):
    path = tmp_path / "guides.py"
    path.write_text(SOURCE)
    return python_guide(f"{path}:{name}", {}, GuideView(), UNIT, 1)


@pytest.mark.parametrize("name", ["elementwise", "product", "listed"])
def test_a_guide_of_single_rows_is_told_so_with_the_mend(tmp_path, name):
    with pytest.raises(UserError, match=r"one observation of shape \(5,\) at a time.*\(n, 2\)"):
        make(tmp_path, name)


def test_the_mend_that_is_told_works(tmp_path):
    obs = observations(1, 4).for_each(lambda vector: vector.clamp(-1, 1))
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert torch.equal(make(tmp_path, "batch").act(obs, None, mask), obs.vector[..., :2])


@pytest.mark.parametrize("name", ["Counter", "Derivative", "Integral", "draws_its_own"])
def test_a_memory_that_was_not_declared_is_found_out(tmp_path, name):
    with pytest.raises(UserError, match=r"same rows differently.*stateful = True.*generator"):
        make(tmp_path, name)


@pytest.mark.parametrize("name", ["picky", "undefined", "draws_what_it_is_given", "Honest"])
def test_what_is_not_certainly_wrong_is_left_to_the_run(tmp_path, name):
    assert make(tmp_path, name).name.endswith(f":{name}")


def test_one_action_may_be_a_bare_number_and_is_told_as_a_single_row(tmp_path):
    path = tmp_path / "one.py"
    path.write_text("def f(observation): return 0.5 * float(observation[0])\n")
    spec = box_spec("x", 3, (-1.0,), (1.0,), 9)
    with pytest.raises(UserError, match="at a time"):
        python_guide(f"{path}:f", {}, GuideView(), spec, 1)


def test_torch_answers_are_tried_too(tmp_path):
    path = tmp_path / "torch_guide.py"
    path.write_text(
        "import torch\n"
        "weights = torch.ones(2, 5, requires_grad=True)\n"
        "def f(o): return torch.tanh(weights @ torch.as_tensor(o))\n"
        "def g(o): return torch.tanh(torch.as_tensor(o) @ weights.T)\n"
    )
    with pytest.raises(UserError, match="at a time"):
        python_guide(f"{path}:f", {}, GuideView(), UNIT, 1)
    guide = python_guide(f"{path}:g", {}, GuideView(), UNIT, 1)
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert np.isfinite(guide.act(observations(1, 2), None, mask).numpy()).all()
