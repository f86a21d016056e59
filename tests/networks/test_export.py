"""Exported policies: equal to the policy, whole, quiet, and usable without this package."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from bounded import overrides
from small_runs import train_here

from jsrl.core.checkpoint import newest_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks import export
from jsrl.networks.activations import ACTIVATIONS
from jsrl.networks.deployment import ActionUnits
from jsrl.networks.export import export_policy
from jsrl.networks.export_modules import mode_in_units
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy
from jsrl.run.saved import load_policy
from jsrl.run.saved_export import export_run


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
    return made.select(index).act(Observation(torch.tensor(obs)[None]), None)[0].numpy()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_exported_module_is_the_policys_mode(activation, layer_norm):
    for tanh_mean, clip in ((True, 1.0), (False, 0.5)):
        made = policy(
            activation=activation, layer_norm=layer_norm, tanh_mean=tanh_mean, action_clip=clip
        )
        obs = 10 * np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32)
        found = mode_in_units(made, 1)(torch.tensor(obs)).numpy()
        np.testing.assert_allclose(found, same_actions(made, 1, obs), atol=1e-5)
        assert np.abs(found - same_actions(made, 0, obs)).max() > 0.01


def test_without_normaliser_observations_are_taken_as_they_are():
    made = policy(normalise_observations=False)
    obs = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    found = mode_in_units(made, 0)(torch.tensor(obs)).numpy()
    np.testing.assert_allclose(found, same_actions(made, 0, obs), atol=1e-5)


def test_both_files_act_as_the_policy_without_this_package(tmp_path):
    made = policy(layer_norm=True)
    result = export_policy(made, 2, tmp_path / "out" / "seed2", {"layout": [["observation", 0, 6]]})
    assert 0 <= max(result["max_error"].values()) <= 1e-5
    program = (
        "import sys, warnings; warnings.simplefilter('ignore'); import numpy, torch\n"
        "for path in sys.argv[2:]:\n"
        "    out = torch.jit.load(sys.argv[1])(torch.from_numpy(numpy.load(path)))\n"
        "    numpy.save(path, out.numpy())\n"
        "assert 'jsrl' not in sys.modules"
    )
    batches = {
        tmp_path / f"{rows}.npy": np.random.default_rng(rows).normal(0, 10, (rows, 6))
        for rows in (1, 7)
    }
    for path, obs in batches.items():
        np.save(path, obs.astype(np.float32))
    command = [sys.executable, "-c", program, result["torchscript"], *map(str, batches)]
    subprocess.run(command, check=True, cwd=tmp_path)
    session = onnxruntime.InferenceSession(result["onnx"])
    for path, obs in batches.items():
        given = obs.astype(np.float32)
        expected = same_actions(made, 2, given)
        np.testing.assert_allclose(np.load(path), expected, atol=1e-5)
        found = session.run(["action"], {"observation": given})[0]
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
    assert (described["units"], described["action_shape"]) == ("normalised", [2])
    assert (described["action_low"], described["action_high"]) == ([-1.0, -1.0], [1.0, 1.0])
    assert (described["seed"], described["env"]) == (4, "E")
    assert described["max_error"] == result["max_error"]


def test_it_is_quiet(tmp_path):
    program = (
        "import pathlib, sys; from jsrl.networks.export import export_policy;"
        "from jsrl.networks.policies import GaussianPolicy;"
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
    other = mode_in_units(policy(), 1)
    monkeypatch.setattr(export, "mode_in_units", lambda *_: other)
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


UNITS = {
    "weak": ActionUnits([-0.4, -0.4], [0.4, 0.4], [2]),
    "asymmetric": ActionUnits([0.0, -1.0], [3.0, 5.0], [2]),
    "column": ActionUnits([-2.0, 0.0], [2.0, 1.0], [2, 1]),
}


@pytest.mark.parametrize("name", UNITS)
def test_actions_are_in_the_environments_units_for_one_observation_and_a_batch(tmp_path, name):
    made, units = policy(), UNITS[name]
    result = export_policy(made, 1, tmp_path / "p", units=units)
    obs = np.random.default_rng(2).normal(0, 10, (7, 6)).astype(np.float32)
    low, high = np.array(units.low), np.array(units.high)
    unit = same_actions(made, 1, obs).astype(np.float64)
    expected = (low + (unit + 1) / 2 * (high - low)).reshape(7, *units.shape)
    module = torch.jit.load(result["torchscript"])
    session = onnxruntime.InferenceSession(result["onnx"])
    for found in (
        module(torch.tensor(obs)).numpy(),
        module(torch.tensor(obs, dtype=torch.float64)).numpy(),
        np.stack([module(torch.tensor(row)).numpy() for row in obs]),
        np.stack([module(torch.tensor(row, dtype=torch.float64)).numpy() for row in obs]),
        session.run(None, {"observation": obs})[0],
        np.stack([session.run(None, {"observation": row})[0] for row in obs]),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=3e-5)
    whole = torch.tensor(obs).round()
    torch.testing.assert_close(module(whole.to(torch.int64)), module(whole))
    # What it says of itself.
    described = json.loads((tmp_path / "p.json").read_text())
    assert described["units"] == "environment"
    assert described["action_shape"] == list(units.shape)
    assert (described["action_low"], described["action_high"]) == (units.low, units.high)


def test_an_observation_of_another_size_is_refused_and_not_broadcast(tmp_path):
    result = export_policy(policy(), 0, tmp_path / "p")
    module = torch.jit.load(result["torchscript"])
    session = onnxruntime.InferenceSession(result["onnx"])
    for shape in ((1,), (12,), (3, 1), (2, 12), (6, 5), ()):
        obs = np.zeros(shape, np.float32)
        with pytest.raises((RuntimeError, IndexError)):
            module(torch.from_numpy(obs))
        with pytest.raises(Exception, match=r"(?i)shape|dim"):
            session.run(None, {"observation": obs})


def test_the_description_is_json_whatever_is_in_it(tmp_path):
    about = {"low": float("-inf"), "nested": [{"high": float("inf")}, 1.0], "none": float("nan")}
    export_policy(policy(), 0, tmp_path / "p", about)

    def refuse(constant):
        raise AssertionError(constant)

    described = json.loads((tmp_path / "p.json").read_text(), parse_constant=refuse)
    assert (described["low"], described["nested"]) == (None, [{"high": None}, 1.0])


def test_an_exported_run_guides_another_run_as_the_run_itself_does(tmp_path, capsys):
    base = ("dataset=none", "offline.updates=0", "evaluation.final_episodes=3")
    own = overrides("asymmetric")
    plain = ("guide=none", "curriculum=none", "online.steps=80")
    summary = train_here(tmp_path / "run", *own, *base, *plain)
    lines = export_run(tmp_path / "run", None)
    assert any("[0, 3], the units of jsrl-tests/Bounded-v0" in line for line in lines)
    stem = tmp_path / "run" / "export" / "exploration_seed0"
    described = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    assert described["layout"] == [["observation", 0, 3]]
    again = ("curriculum=constant", "curriculum.guide_steps=60", "online.steps=0")
    expected = summary["evaluation"]["exploration"]["return"]["mean"]
    for kind, ending in (("torchscript", "torchscript.pt"), ("onnx", "onnx")):
        path = stem.with_name(f"{stem.name}.{ending}")
        guided = train_here(
            tmp_path / kind, *own, *base, *again, f"guide={kind}", f"guide.path={path}"
        )
        assert guided["evaluation"]["guide"]["return"]["mean"] == pytest.approx(expected, rel=1e-4)
    raw = export_run(tmp_path / "run", tmp_path / "raw", "normalised")
    assert raw[-1] == "actions are in [-1, 1] (units=normalised)"
    with pytest.raises(UserError, match="units='unit' is unknown"):
        export_run(tmp_path / "run", None, "unit")


def test_an_early_checkpoint_without_bounds_takes_them_from_its_configuration(tmp_path):
    plain = ("guide=none", "curriculum=none", "dataset=none", "online.steps=80")
    train_here(tmp_path / "run", *overrides("weak"), *plain)
    path = newest_checkpoint(tmp_path / "run")
    state = torch.load(path, weights_only=True)
    for key in ("action_low", "action_high", "actions", "observation"):
        del state["environment"][key]
    torch.save(state, path)
    assert np.abs(load_policy(tmp_path / "run", 0).predict(np.zeros(3))[0]).max() <= 0.4
    export_run(tmp_path / "run", tmp_path / "out")
    described = json.loads((tmp_path / "out" / "exploration_seed0.json").read_text())
    np.testing.assert_allclose(described["action_high"], 0.4)
    # The checkpoint alone does not say.
    torch.save(state, tmp_path / "alone.pt")
    with pytest.raises(UserError, match="says neither in which bounds"):
        load_policy(tmp_path / "alone.pt", 0).predict(np.zeros(3))
