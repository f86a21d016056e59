"""Guides from files of d3rlpy: the real package where it is installed, else what needs none of it.

d3rlpy pins an earlier gymnasium than jsrl needs, so that no extra brings it.
"""

import importlib.util
import json
import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from guide_cases import SPEC, UNIT, documented_words, example, observations
from small_runs import read_summary, train_here
from specs import box

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import DiscreteActions, EnvSpec, ImagePart, ObservationSpec
from jsrl.core.streams import Streams
from jsrl.guides import GuideView, d3rlpy_guide

installed = pytest.mark.skipif(
    importlib.util.find_spec("d3rlpy") is None, reason="d3rlpy is not installed"
)
VERSION = "2.8.1"
EVERYONE = torch.ones(2, 3, dtype=torch.bool)


def written(path, shape=(5,), actions=2, kind="sac", **changes):
    """A file as ``save`` of d3rlpy writes it, without weights."""
    described = {
        "observation_shape": list(shape),
        "action_size": actions,
        "config": {"type": kind, "params": {}},
    }
    content = {"torch": b"", "config": json.dumps(described), "version": VERSION}
    path.write_bytes(pickle.dumps({**content, **changes}))
    return path


class StandIn:
    """Answers as an algorithm of d3rlpy does: a mode, and samples from PyTorch's generator."""

    def __init__(self, chooses=False):
        self.chooses = chooses

    def get_action_type(self):
        return SimpleNamespace(name="DISCRETE" if self.chooses else "CONTINUOUS")

    def predict(self, observations):
        rows = observations.reshape(len(observations), -1)[:, :2].astype(np.float32)
        return (rows[:, 0] > 0).astype(np.int64) if self.chooses else np.tanh(rows)

    def sample_action(self, observations):
        return torch.rand(len(observations), 2).numpy()


@pytest.fixture
def stand_in(monkeypatch):
    """A module in d3rlpy's place, whose algorithm can be exchanged."""
    module = ModuleType("d3rlpy")
    module.__version__ = VERSION
    module.algorithm = StandIn()
    module.load_learnable = lambda path, device: module.algorithm
    monkeypatch.setitem(sys.modules, "d3rlpy", module)
    return module


def refused(path, words, spec=UNIT):
    with pytest.raises(UserError, match=words) as caught:
        d3rlpy_guide(path, GuideView(), spec, 1)
    assert "\n" not in str(caught.value)


def test_samples_come_from_the_seeds_streams_and_from_nowhere_else(tmp_path, stand_in):
    path = written(tmp_path / "p.d3")
    guide = d3rlpy_guide(path, GuideView(), UNIT, 2, sample=True)
    obs, before = observations(2, 3), torch.get_rng_state()
    drawn = guide.act(obs, Streams([4, 5]), EVERYONE)
    assert torch.equal(drawn, guide.act(obs, Streams([4, 5]), EVERYONE))
    alone = d3rlpy_guide(path, GuideView(), UNIT, 1, sample=True)
    assert torch.equal(drawn[1:], alone.act(obs[1:], Streams([5]), EVERYONE[1:]))
    assert drawn.unique().numel() == 12
    mode = guide.act(obs, None, EVERYONE)
    torch.testing.assert_close(mode, torch.tanh(obs.vector[..., :2]))
    assert torch.equal(before, torch.get_rng_state())


def test_choices_and_images_are_given_as_d3rlpy_takes_them(tmp_path, stand_in):
    image = ImagePart((), (16, 17, 3), (2, 0, 1), (3, 16, 17))
    spec = EnvSpec("Seen-v0", ObservationSpec((), (image,)), box((-1.0, -1.0), (1.0, 1.0)), 50)
    seen = []
    stand_in.algorithm.predict = lambda given: seen.append(given) or np.zeros((len(given), 2))
    guide = d3rlpy_guide(written(tmp_path / "i.d3", (3, 16, 17)), GuideView(), spec, 1)
    pixels = torch.arange(2 * 3 * 16 * 17).remainder(251).byte().view(1, 2, 3, 16, 17)
    obs = Observation(torch.zeros(1, 2, 0), {"observation": pixels})
    guide.act(obs, None, torch.ones(1, 2, dtype=torch.bool))
    np.testing.assert_array_equal(seen[-1], pixels[0].numpy())
    stand_in.algorithm = StandIn(chooses=True)
    chooses = EnvSpec("Choice-v0", SPEC.observation, DiscreteActions(2), 50)
    guide = d3rlpy_guide(written(tmp_path / "c.d3"), GuideView(), chooses, 2)
    obs = observations(2, 3)
    assert torch.equal(guide.act(obs, None, EVERYONE), (obs.vector[..., 0] > 0).long())


def test_files_that_are_not_what_they_say_are_refused_before_any_code_runs(tmp_path, stand_in):
    path = tmp_path / "p.d3"
    refused(path, "does not exist")
    whole = written(path).read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2], pickle.dumps([1])):
        path.write_bytes(content)
        refused(path, "not a file of d3rlpy 2, or truncated")
    path.write_bytes(b"cos\nmkdir\n(S'" + str(tmp_path / "ran").encode() + b"'\ntR.")
    refused(path, "not a file of d3rlpy 2.*UnpicklingError")
    assert not (tmp_path / "ran").exists()
    refused(written(path, version="1.1.1"), r"1\.1\.1.*2\.8\.1 is installed.*guide=onnx")
    refused(written(path, kind="decision_transformer"), "looks back at whole episodes")
    refused(written(path, shape=([3], [2])), "tuples of observations")


def test_spaces_that_do_not_fit_are_both_said(tmp_path, stand_in):
    refused(written(tmp_path / "p.d3", (7,)), r"\(7,\); Unit-v0 observes .*\(2,\).*\(3,\)")
    refused(written(tmp_path / "p.d3", actions=3), "3 real numbers.*Unit-v0 takes 2 real numbers")
    chooses = EnvSpec("Choice-v0", SPEC.observation, DiscreteActions(2), 50)
    refused(written(tmp_path / "p.d3"), "2 real numbers.*takes a choice among 2", chooses)


def test_a_file_that_cannot_be_loaded_names_both_versions(tmp_path, stand_in):
    def fail(path, device):
        raise KeyError("no such layer\nat all")

    stand_in.load_learnable = fail
    refused(written(tmp_path / "p.d3"), r"2\.8\.1, whose loading fails.*no such layer")


def test_without_the_package_its_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "d3rlpy", None)
    refused(written(tmp_path / "p.d3"), "not installed; pip install --no-deps d3rlpy")


@installed
@pytest.mark.parametrize("sample", [False, True])
def test_it_acts_as_d3rlpy_does_with_its_own_scalers(tmp_path, sample):
    import d3rlpy

    scaling = d3rlpy.preprocessing
    config = d3rlpy.algos.SACConfig(
        observation_scaler=scaling.StandardObservationScaler(mean=np.ones(5), std=np.full(5, 2.0)),
        action_scaler=scaling.MinMaxActionScaler(minimum=np.full(2, -2.0), maximum=np.full(2, 2.0)),
    )
    algorithm = config.create(device="cpu:0")
    algorithm.create_impl((5,), 2)
    algorithm.save(str(tmp_path / "p.d3"))
    guide = d3rlpy_guide(tmp_path / "p.d3", GuideView(), SPEC, 2, sample=sample)
    obs = observations(2, 3)
    actions = guide.act(obs, Streams([4, 5]), EVERYONE)
    expected = algorithm.predict(obs.vector.reshape(6, 5).numpy()).reshape(2, 3, 2) / 2
    if sample:
        assert np.abs(actions.numpy() - expected).max() > 0.01
        assert torch.equal(actions, guide.act(obs, Streams([4, 5]), EVERYONE))
    else:
        np.testing.assert_allclose(actions.numpy(), expected, rtol=0, atol=1e-6)


@installed
def test_the_example_in_ten_lines(tmp_path):
    module, path = example("guide_d3rlpy"), tmp_path / "policy.d3"
    module.save_policy(str(path), steps=0)
    words = documented_words(module, path)
    train_here(tmp_path / "run", *words, "seeds=[0,3]", "online.steps=100")
    assert read_summary(tmp_path / "run")["env_steps"] == 200
