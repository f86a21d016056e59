"""Exported policies: equal to the policy, whole, quiet, and usable without this package."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from jsrl import export
from jsrl.activations import ACTIVATIONS
from jsrl.errors import UserError
from jsrl.export import export_policy, plain_module
from jsrl.networks import INITIALISATIONS, GaussianPolicy
from jsrl.seeding import Streams


def policy(normalise_observations=True, **arguments):
    """Policies of three seeds with nothing left at its default: every layer has to show."""
    made = GaussianPolicy(
        3, 6, 2, hidden=(32, 16), normalise_observations=normalise_observations, **arguments
    )
    made.mlp.initialise(INITIALISATIONS["orthogonal"], Streams([0, 1, 2]), "actor")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape)
    made.observation_mean += torch.linspace(-5, 5, 6)
    made.observation_std *= torch.linspace(0.5, 20, 6)
    return made


def same_actions(made, index, obs):
    return made.select(index).act(torch.tensor(obs)[None], None)[0].numpy()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_plain_module_is_the_policys_mode(activation, layer_norm):
    for tanh_mean, clip in ((True, 1.0), (False, 0.5)):
        made = policy(
            activation=activation, layer_norm=layer_norm, tanh_mean=tanh_mean, action_clip=clip
        )
        obs = 10 * np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32)
        found = plain_module(made, 1)(torch.tensor(obs)).numpy()
        np.testing.assert_allclose(found, same_actions(made, 1, obs), atol=1e-5)
        assert np.abs(found - same_actions(made, 0, obs)).max() > 0.01


def test_without_normaliser_observations_are_taken_as_they_are():
    made = policy(normalise_observations=False)
    obs = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    found = plain_module(made, 0)(torch.tensor(obs)).numpy()
    np.testing.assert_allclose(found, same_actions(made, 0, obs), atol=1e-5)


def test_both_files_act_as_the_policy_without_this_package(tmp_path):
    made = policy(layer_norm=True)
    result = export_policy(made, 2, tmp_path / "out" / "seed2", {"layout": [["observation", 0, 6]]})
    assert 0 <= max(result["max_error"].values()) <= 1e-5
    for rows in (1, 7):
        obs = np.random.default_rng(rows).normal(0, 10, (rows, 6)).astype(np.float32)
        expected = same_actions(made, 2, obs)
        np.save(tmp_path / "obs.npy", obs)
        program = (
            "import sys, warnings; warnings.simplefilter('ignore'); import numpy, torch;"
            "out = torch.jit.load(sys.argv[1])(torch.from_numpy(numpy.load(sys.argv[2])));"
            "numpy.save(sys.argv[2], out.numpy()); assert 'jsrl' not in sys.modules"
        )
        command = [sys.executable, "-c", program, result["torchscript"], str(tmp_path / "obs.npy")]
        subprocess.run(command, check=True, cwd=tmp_path)
        np.testing.assert_allclose(np.load(tmp_path / "obs.npy"), expected, atol=1e-5)
        session = onnxruntime.InferenceSession(result["onnx"])
        found = session.run(["action"], {"observation": obs})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_description_and_nothing_else_stands_beside(tmp_path):
    result = export_policy(policy(), 0, tmp_path / "v1.0", {"seed": 4, "env": "E"})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"v1.0.torchscript.pt", "v1.0.onnx", "v1.0.json"}
    described = json.loads((tmp_path / "v1.0.json").read_text())
    assert described["observation_size"] == 6
    assert described["action_size"] == 2
    assert described["hidden"] == [32, 16]
    assert described["activation"] == "relu"
    assert described["action_range"] == [-1.0, 1.0]
    assert (described["seed"], described["env"]) == (4, "E")
    assert described["max_error"] == result["max_error"]


def test_it_is_quiet(tmp_path):
    program = (
        "import pathlib, sys; from jsrl.export import export_policy;"
        "from jsrl.networks import GaussianPolicy;"
        "export_policy(GaussianPolicy(1, 6, 2), 0, pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-W", "always", "-c", program, str(tmp_path / "p")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "p.onnx").is_file()
    assert done.stdout == ""
    assert done.stderr == ""


def test_without_the_onnx_packages_torchscript_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"onnxscript.*jsrl-torch\[onnx\].*TorchScript"):
        export_policy(policy(), 0, tmp_path / "p")
    assert {path.name for path in tmp_path.iterdir()} == {"p.torchscript.pt", "p.json"}
    assert list(json.loads((tmp_path / "p.json").read_text())["max_error"]) == ["torchscript"]


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    other = plain_module(policy(), 1)
    monkeypatch.setattr(export, "plain_module", lambda *_: other)
    with pytest.raises(UserError, match="differs from the policy"):
        export_policy(policy(), 0, tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_is_not_finite_is_not_written(tmp_path):
    made = policy()
    with torch.no_grad():
        made.mlp.output.bias[0] = float("nan")
    with pytest.raises(UserError, match="finite"):
        export_policy(made, 0, tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_policy(policy(), 0, tmp_path / "file" / "p")
