"""Guides from TorchScript and ONNX files, both made in the test."""

import sys
import warnings

import numpy as np
import pytest
import torch
from guide_cases import SPEC, UNIT, observations, random_policy
from specs import bounded

from jsrl.core.errors import UserError
from jsrl.guides import GuideView, onnx_guide, torchscript_guide
from jsrl.networks.deployment import ActionUnits
from jsrl.networks.export import export_policy


class Tanh(torch.nn.Module):
    def __init__(self, inputs: int, scale: float):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(inputs, 2)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.tanh(self.linear(x))


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[:, :2], x


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


def onnx_file(module, path, inputs, *, dynamic=True):
    dimensions = ({0: torch.export.Dim("batch")},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(3, inputs),),
            str(path),
            dynamic_shapes=dimensions,
            external_data=False,
            verbose=False,
        )
    return path


VIEW = GuideView(
    observation=("observation",),
    mean=(1.0, 2.0, 3.0),
    std=(1.0, 2.0, 4.0),
    action_low=-2.0,
    action_high=2.0,
)


def check_against(guide, module):
    """Three of four rows of two seeds, against the module called by hand."""
    obs = observations(2, 2)
    mask = torch.tensor([[True, True], [False, True]])
    obs.vector[1, 0] = float("nan")
    actions = guide.act(obs, None, mask)
    seen = (obs.vector[..., 2:] - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([1.0, 2.0, 4.0])
    expected = module(seen).detach() / 2
    torch.testing.assert_close(actions[mask], expected[mask], atol=1e-6, rtol=0)
    assert torch.equal(actions[1, 0], torch.zeros(2))
    alone = type(guide)(guide.act_rows, VIEW, SPEC, 1, "alone", "0")
    assert torch.equal(alone.act(obs[1:], None, mask[1:])[0], actions[1])


def test_torchscript_with_its_own_view(tmp_path):
    module = Tanh(3, 2.0)
    path = script(module, tmp_path / "guide.pt")
    check_against(torchscript_guide(path, VIEW, SPEC, 2), module)


def test_onnx_with_its_own_view(tmp_path):
    module = Tanh(3, 2.0)
    path = onnx_file(module, tmp_path / "guide.onnx", 3)
    check_against(onnx_guide(path, VIEW, SPEC, 2), module)


def test_torchscript_rounds_alike_at_every_call(tmp_path):
    guide = torchscript_guide(script(Tanh(5, 1.0), tmp_path / "g.pt"), GuideView(), SPEC, 1)
    obs, mask = observations(1, 64), torch.ones(1, 64, dtype=torch.bool)
    first = guide.act(obs, None, mask)
    assert all(torch.equal(guide.act(obs, None, mask), first) for _ in range(5))


def test_loading_torchscript_is_quiet(tmp_path):
    path = script(Tanh(5, 1.0), tmp_path / "g.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guide = torchscript_guide(path, GuideView(), SPEC, 1)
    assert guide.name == str(path)


@pytest.mark.parametrize(
    ("make", "ending", "kind"),
    [(torchscript_guide, ".pt", "TorchScript"), (onnx_guide, ".onnx", "ONNX")],
)
def test_files_that_are_not_what_they_say(tmp_path, make, ending, kind):
    path = tmp_path / f"guide{ending}"
    with pytest.raises(UserError, match=f"does not exist; expected an? {kind} file"):
        make(path, GuideView(), SPEC, 1)
    good = tmp_path / "good"
    if kind == "ONNX":
        onnx_file(Tanh(5, 1.0), good, 5)
    else:
        script(Tanh(5, 1.0), good)
    plain = tmp_path / "weights"
    torch.save({"weights": torch.ones(3)}, plain)
    whole = good.read_bytes()
    for content in (b"", b"no such file\n" * 40, whole[: len(whole) // 2], plain.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"not an? {kind} file") as caught:
            make(path, GuideView(), SPEC, 1)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_other_sizes_are_seen_when_loaded(tmp_path):
    three = script(Tanh(3, 1.0), tmp_path / "three.pt")
    with pytest.raises(UserError, match=r"\(3, 5\).*guide\.observation"):
        torchscript_guide(three, GuideView(), SPEC, 1)
    with pytest.raises(UserError, match="tuple"):
        torchscript_guide(script(Pair(), tmp_path / "pair.pt"), GuideView(), SPEC, 1)
    wide = script(torch.nn.Linear(5, 3), tmp_path / "wide.pt")
    with pytest.raises(UserError, match=r"\(3, 3\); expected .*\(3, 2\)"):
        torchscript_guide(wide, GuideView(), SPEC, 1)
    three = onnx_file(Tanh(3, 1.0), tmp_path / "three.onnx", 3)
    with pytest.raises(UserError, match=r"\(3, 5\).*guide\.observation"):
        onnx_guide(three, GuideView(), SPEC, 1)
    with pytest.raises(UserError, match="one output"):
        onnx_guide(onnx_file(Pair(), tmp_path / "pair.onnx", 5), GuideView(), SPEC, 1)
    fixed = onnx_file(Tanh(5, 1.0), tmp_path / "fixed.onnx", 5, dynamic=False)
    with pytest.raises(UserError, match="any number of rows"):
        onnx_guide(fixed, GuideView(), SPEC, 1)


def test_nan_and_outside_the_space(tmp_path):
    obs, mask = observations(1, 2), torch.ones(1, 2, dtype=torch.bool)
    wide = torchscript_guide(script(Tanh(5, 2.0), tmp_path / "wide.pt"), GuideView(), UNIT, 1)
    with pytest.raises(UserError, match=r"wide\.pt returned .*outside of \[-1, 1\]"):
        wide.act(obs.for_each(lambda vector: 100 * vector), None, mask)
    with pytest.raises(UserError, match=r"wide\.pt returned nan"):
        wide.act(obs.for_each(lambda vector: float("nan") * vector), None, mask)


def test_onnx_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'jsrl-torch\[onnx\]'"):
        onnx_guide(tmp_path / "guide.onnx", GuideView(), SPEC, 1)


@pytest.mark.parametrize(
    ("low", "high"),
    [((-0.4, -0.4), (0.4, 0.4)), ((-2.0, -2.0), (2.0, 2.0)), ((0.0, -1.0), (3.0, 1.0))],
)
def test_an_exported_policy_is_a_guide_that_acts_as_the_policy(tmp_path, low, high):
    policy = random_policy([0, 1])
    spec = bounded(SPEC, SPEC.id, low, high)
    export_policy(policy, 1, tmp_path / "policy", units=ActionUnits(low, high, (2,)))
    export_policy(policy, 1, tmp_path / "raw")
    obs, mask = observations(1, 4), torch.ones(1, 4, dtype=torch.bool)
    expected = policy.select(1).act(obs, None).numpy()
    unit = GuideView(action_low=-1, action_high=1)
    for make, ending in ((torchscript_guide, ".torchscript.pt"), (onnx_guide, ".onnx")):
        guide = make(tmp_path / f"policy{ending}", GuideView(), spec, 1)
        np.testing.assert_allclose(guide.act(obs, None, mask).numpy(), expected, atol=1e-5)
        guide = make(tmp_path / f"raw{ending}", unit, spec, 1)
        np.testing.assert_allclose(guide.act(obs, None, mask).numpy(), expected, atol=1e-5)


class OfDictionary(torch.nn.Module):
    def forward(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(obs["desired_goal"] - obs["observation"][:, :2])


class Flattened(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = OfDictionary()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner({"desired_goal": x[:, 0:2], "observation": x[:, 2:5]})


class Counts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("age", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.age += 1
        return torch.tanh(x[:, :2] + self.age)


def test_torchscript_of_a_dictionary_is_told_how_to_take_one_tensor_and_then_works(tmp_path):
    with pytest.raises(UserError, match=r"takes a dictionary.*'desired_goal': x\[:, 0:2\]"):
        torchscript_guide(script(OfDictionary(), tmp_path / "d.pt"), GuideView(), SPEC, 1)
    guide = torchscript_guide(script(Flattened(), tmp_path / "f.pt"), GuideView(), UNIT, 1)
    obs = observations(1, 3)
    expected = torch.tanh(obs.vector[..., :2] - obs.vector[..., 2:4])
    mask = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(guide.act(obs, None, mask), expected)


def test_torchscript_with_a_memory_is_found_out(tmp_path):
    with pytest.raises(UserError, match=r"counts\.pt answered the same rows differently"):
        torchscript_guide(script(Counts(), tmp_path / "counts.pt"), GuideView(), SPEC, 1)
