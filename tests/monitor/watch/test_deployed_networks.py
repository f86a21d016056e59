"""Networks of other people behind a monitor: whatever they take and answer is passed on."""

import runpy
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from monitor.episodes import COLUMNS, network, walk
from monitor.monitored import filled, play, wrap
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.monitor import Recording
from jsrl.monitor.capture.layers import LayerCapture

SCRIPTED = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Between(nn.Module):
    """A layer between something done to the observation and something done to the answer."""

    def __init__(self, before, after):
        super().__init__()
        self.layer = nn.Linear(COLUMNS, 2)
        self.before, self.after = before, after

    def forward(self, observation):
        return self.after(self.layer(self.before(observation)))


@dataclass
class Answer:
    text: str
    action: torch.Tensor


def same(value):
    return value


X = torch.arange(3.0 * COLUMNS).reshape(3, COLUMNS)
KINDS = {
    "dictionary": ({"x": X}, lambda o: o["x"], lambda y: {"note": "a", "action": y}),
    "array": (X.numpy(), torch.from_numpy, lambda y: y.detach().numpy()),
    "dataclass": (X, same, lambda y: Answer("a", y)),
    "distribution": (X, same, lambda y: torch.distributions.Normal(y, 1.0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_a_tensor_is_looked_at(kind, tmp_path):
    seen, before, after = KINDS[kind]
    policy = Between(before, after)
    with wrap(policy, record=tmp_path / "seen") as monitor:
        assert type(monitor(seen)) is type(policy(seen))
        monitor.end_episode()
    assert monitor.status.faults == {} and monitor.status.reference == 3
    recording = Recording(tmp_path / "seen")
    expected = policy.layer(X).detach().numpy()
    for name, values in {"inputs": X.numpy(), "layer": expected, "outputs": expected}.items():
        np.testing.assert_allclose(recording.layer(name).values, values, rtol=1e-6)
    np.testing.assert_allclose(recording.steps().actions, expected, rtol=1e-6)


@SCRIPTED
@pytest.mark.parametrize("inside", [False, True])
def test_of_a_scripted_module_inputs_and_outputs_are_watched(inside):
    scripted = torch.jit.script(network())
    policy = nn.Sequential(scripted, nn.Tanh()) if inside else scripted
    monitor, bare = wrap(policy), network()(X)
    assert torch.equal(monitor(X), bare.tanh() if inside else bare)
    monitor.end_episode()
    assert monitor.status.faults == {} and monitor.status.reference == 3
    with pytest.raises(UserError, match="'0' matches no layer"):
        wrap(policy, layers="0")


def test_a_layer_that_says_nothing_is_told_once_and_the_others_are_watched():
    policy = nn.Sequential(nn.Linear(COLUMNS, 8), nn.TransformerEncoderLayer(8, 2, 8)).eval()
    monitor = wrap(policy)
    with pytest.warns(RuntimeWarning, match=r"1\.self_attn\.out_proj said nothing") as told:
        for _ in range(5):
            assert torch.equal(monitor(X), policy(X))
            monitor.end_episode()
    assert len(told) == 1
    assert monitor.status.faults == {"layer": 1} and monitor.status.state == "degraded"
    layers = {found.layer for found in monitor.checks[-1].finding.layers}
    assert {"inputs", "0", "1.linear1", "outputs"} <= layers
    assert "1.self_attn.out_proj" not in layers


def test_arguments_by_name_reach_the_policy_as_they_are():
    monitor = wrap(Between(same, same))
    assert torch.equal(monitor(observation=X), monitor.policy(observation=X))
    assert monitor.status.faults == {}
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        monitor(x=X)


@pytest.mark.parametrize(
    "mode", ["autocast", "inference", pytest.param("compiled", marks=pytest.mark.slow)]
)
def test_modes_of_pytorch_change_nothing(mode):
    policy = network()
    called = torch.compile(policy, backend="eager") if mode == "compiled" else policy
    modes = {"autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16)}
    monitor = wrap(called)
    with modes.get(mode, torch.inference_mode)():
        answer, expected = monitor(X), policy(X)
    assert torch.equal(answer, expected) and answer.dtype is expected.dtype
    monitor.end_episode()
    assert monitor.status.faults == {} and monitor.status.reference == 3


class Remembers(nn.Module):
    """Answers what its cell makes of everything so far."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(COLUMNS, 3)
        self.state = None

    def forward(self, x):
        self.state = self.cell(x[None], self.state)
        return self.state[0]


def test_of_a_network_with_memory_activations_are_kept(tmp_path):
    torch.manual_seed(0)
    policy, rng = Remembers(), np.random.default_rng(0)
    monitor = filled(rng, policy)
    monitor.save_reference(tmp_path / "reference")
    kept = Recording(tmp_path / "reference").layer("cell").values
    policy.state = None
    with torch.no_grad():
        again = policy.cell(
            torch.from_numpy(Recording(tmp_path / "reference").steps().observations)
        )
    assert not np.allclose(kept, again.numpy(), atol=0.01)
    other = wrap(policy)
    other.load_reference(tmp_path / "reference")
    other.save_reference(tmp_path / "again")
    assert np.array_equal(Recording(tmp_path / "again").layer("cell").values, kept)
    assert len(play(other, walk(rng))) == 1
    with pytest.raises(UserError, match="recurrent layers"):
        LayerCapture(policy, ".*").observe(Observation(X[None]))


def test_eight_threads_call_a_thousand_times_each(tmp_path):
    policy, errors = network(), []
    monitor = wrap(policy, reference=8, layers="inputs|0|outputs", record=tmp_path / "seen")

    def serve(seed):
        generator = torch.Generator().manual_seed(seed)
        try:
            for x in torch.randn(1000, COLUMNS, generator=generator):
                with torch.no_grad():
                    monitor(x)
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=serve, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
    finally:
        sys.setswitchinterval(interval)
    monitor.close()
    assert errors == [] and monitor.status.faults == {}
    assert not any("forward" in vars(m) or m._forward_hooks for m in policy.modules())
    recording = Recording(tmp_path / "seen")
    steps = recording.steps()
    assert len(steps) == 8000
    assert np.array_equal(recording.layer("inputs").values, steps.observations)
    expected = policy[0](torch.from_numpy(steps.observations)).detach().numpy()
    np.testing.assert_allclose(recording.layer("0").values, expected, atol=1e-5)


@pytest.mark.parametrize("name, layers", [("SAC", "latent_pi.0"), ("PPO", "policy_net.0")])
def test_a_policy_of_stable_baselines3_is_watched_as_it_predicts(name, layers):
    sb3 = pytest.importorskip("stable_baselines3")
    example = Path(__file__).parents[3] / "scripts/examples/monitor_sb3.py"
    model = getattr(sb3, name)("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
    monitor = runpy.run_path(str(example))["watched"](model, reference=2, permutations=9)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for observation in rng.normal(size=(4, 3)).astype(np.float32):
            action, _ = monitor(observation, deterministic=True)
            assert np.array_equal(action, model.predict(observation, deterministic=True)[0])
        monitor.end_episode()
    assert monitor.status.faults == {} and monitor.status.tests == 1
    found = {layer.layer for layer in monitor.checks[-1].finding.layers}
    assert any(layer.endswith(layers) for layer in found)
