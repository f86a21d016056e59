"""Capturing layers around a pass: what they answer is seen, and nothing is changed."""

from collections import OrderedDict

import pytest
import torch
from monitor.episodes import COLUMNS, network
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.monitor.capture.layers import LayerCapture, layer_names
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy

TRACED = pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")


def inputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def in_place():
    """A network whose activations overwrite what the layers before them gave."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(COLUMNS, 8), nn.ReLU(inplace=True), nn.Linear(8, 4), nn.Hardtanh(inplace=True)
    )


def gaussian(seeds=2, columns=COLUMNS):
    policy = GaussianPolicy(seeds, columns, 2, (8, 8))
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams(range(seeds)), "policy")
    return policy


def hooked(module):
    """The names of the modules that are passed by another forward than their class's."""
    return [name for name, part in module.named_modules() if "forward" in vars(part)]


@pytest.mark.parametrize("make", [network, in_place])
def test_hooks_change_no_output_of_a_plain_network(make):
    module, x = make(), inputs(7, COLUMNS)
    bare = module(x.clone())
    with LayerCapture(module, ".*").recorder({}):
        watched = module(x.clone())
    assert torch.equal(bare, watched)
    assert torch.equal(module(x.clone()), bare)


@pytest.mark.parametrize("noisy", [False, True])
def test_hooks_change_no_action_of_the_policies_of_two_seeds(noisy):
    policy, x, seen = gaussian(), Observation(inputs(2, 3, COLUMNS)), {}

    def streams():
        return Streams([4, 9]) if noisy else None

    bare = policy.act(x, streams())
    with LayerCapture(policy, ".*").recorder(seen):
        watched = policy.act(x, streams())
    assert torch.equal(bare, watched)
    # The mean is what comes out of the network: the noise belongs to the action.
    assert torch.equal(seen["outputs"], policy.act(x, None))
    assert torch.equal(policy.act(x, streams()), bare)
    assert torch.equal(bare, policy.act(x, None)) != noisy


def test_gradients_are_the_same_with_hooks():
    module, x = in_place(), inputs(7, COLUMNS)
    found = []
    for capture in (None, LayerCapture(module, ".*")):
        module.zero_grad()
        if capture is None:
            module(x).square().sum().backward()
        else:
            with capture.recorder({}):
                module(x).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in module.parameters()])
    assert all(torch.equal(bare, watched) for bare, watched in zip(*found, strict=True))


def test_captured_values_are_those_of_the_layers_by_hand():
    module, x, seen = network(), inputs(5, COLUMNS), {}
    with LayerCapture(module, ".*").recorder(seen):
        module(x)
    weights = dict(module.named_parameters())
    first = torch.nn.functional.linear(x, weights["0.weight"], weights["0.bias"])
    rectified = first.clamp_min(0)
    second = torch.nn.functional.linear(rectified, weights["2.weight"], weights["2.bias"])
    squashed = torch.tanh(second)
    out = torch.nn.functional.linear(squashed, weights["4.weight"], weights["4.bias"])
    by_hand = [x, first, rectified, second, squashed, out, out]
    assert set(seen) == {"inputs", "0", "1", "2", "3", "4", "outputs"}
    for name, expected in zip(layer_names(module), by_hand, strict=True):
        torch.testing.assert_close(seen[name], expected)
        assert not seen[name].requires_grad


def test_captured_values_of_seeds_are_those_of_each_seeds_policy_alone():
    policy, x, seen = gaussian(), inputs(2, 3, COLUMNS), {}
    with LayerCapture(policy, ".*").recorder(seen):
        policy.act(Observation(x), Streams([4, 9]))
    assert set(seen) == set(layer_names(policy))
    for index in range(2):
        mlp, now = policy.mlp, x[index]
        for depth in range(2):
            layer = getattr(mlp, f"hidden_{depth}")
            now = now @ layer.weight[index] + layer.bias[index]
            torch.testing.assert_close(seen[f"mlp.hidden_{depth}"][index], now)
            now = now.clamp_min(0)
            torch.testing.assert_close(seen[f"mlp.activation_{depth}"][index], now)
        mean = torch.tanh(now @ mlp.output.weight[index] + mlp.output.bias[index])
        torch.testing.assert_close(seen["outputs"][index], mean)


def test_what_works_in_place_does_not_change_the_copy():
    # Far out, where both activations have something to cut off.
    module, x, seen = in_place(), 5 * inputs(50, COLUMNS), {}
    kept = x.clone()
    with LayerCapture(module, ".*").recorder(seen):
        answer = module(x)
    assert (seen["0"] < 0).any()
    torch.testing.assert_close(seen["0"], module[0](kept))
    assert torch.equal(seen["1"], seen["0"].clamp_min(0))
    assert torch.equal(seen["3"], seen["2"].clamp(-1, 1))
    assert (seen["2"].abs() > 1).any()
    # Nor does what happens to the inputs and the answer afterwards.
    answer.data.zero_()
    x.zero_()
    assert torch.equal(seen["inputs"], kept)
    assert seen["outputs"].abs().sum() > 0


def test_stored_observations_say_what_they_said_when_they_were_acted_on():
    policy, x, seen = gaussian(), inputs(2, 4, COLUMNS), {}
    capture = LayerCapture(policy, ".*")
    with capture.recorder(seen):
        policy.act(Observation(x), None)
    again = capture.observe(Observation(x))
    assert set(again) == set(seen)
    assert all(torch.equal(capture.forward(x)[name], seen[name]) for name in seen)
    assert all(torch.equal(again[name], seen[name]) for name in seen)
    assert not any(value.requires_grad for value in again.values())


def test_no_hook_remains():
    module, x = network(), inputs(3, COLUMNS)
    capture, seen = LayerCapture(module, ".*"), {}
    with capture.recorder(seen):
        assert hooked(module) == ["", "0", "1", "2", "3", "4"]
        module(x)
    assert hooked(module) == []
    seen.clear()
    module(x)
    assert seen == {}
    with pytest.raises(ZeroDivisionError), capture.recorder(seen):
        raise ZeroDivisionError
    assert hooked(module) == []
    with pytest.raises(RuntimeError), capture.recorder(seen):
        module(inputs(3, COLUMNS + 1))
    assert hooked(module) == []


def test_what_the_hooks_of_others_make_of_an_answer_is_what_is_seen():
    module, x, seen = network(), inputs(3, COLUMNS), {}
    module[2].register_forward_hook(lambda _, __, output: 2 * output)
    module.register_forward_hook(lambda _, __, output: output + 1)
    module.register_forward_pre_hook(lambda _, arguments: (3 * arguments[0],))
    bare = module(x)
    with LayerCapture(module, ".*").recorder(seen):
        assert torch.equal(module(x), bare)
    assert torch.equal(seen["inputs"], 3 * x)
    assert torch.equal(seen["2"], 2 * module[2].forward(seen["1"]))
    assert torch.equal(seen["outputs"], bare)
    seen.clear()
    module(x)
    assert seen == {}


def test_parts_of_a_fused_layer_are_seen():
    generator = torch.Generator().manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3, generator=generator)
    x = torch.randn(2, 5, 8, generator=generator)
    capture = LayerCapture(layer, r"inputs|linear\d|norm\d|outputs")
    found = capture.forward(x)
    assert set(found) == {"inputs", "linear1", "linear2", "norm1", "norm2", "outputs"}
    expected = torch.nn.functional.linear(found["norm1"], layer.linear1.weight, layer.linear1.bias)
    torch.testing.assert_close(found["linear1"], expected.detach())
    with pytest.raises(UserError, match=r"out_proj said nothing.*attention"):
        LayerCapture(layer, ".*").forward(x)


def test_a_layer_that_is_called_outputs_is_hidden_by_those_of_the_whole():
    module = nn.Sequential(OrderedDict(first=nn.Linear(COLUMNS, 4), outputs=nn.Linear(4, 2)))
    module.append(nn.Tanh())
    x = inputs(3, COLUMNS)
    assert layer_names(module) == ["inputs", "first", "2", "outputs"]
    with torch.no_grad():
        expected = module(x)
    assert torch.equal(LayerCapture(module, "outputs").forward(x)["outputs"], expected)


def test_what_others_attached_stays_and_works_on():
    module, x, seen, calls = network(), inputs(3, COLUMNS), {}, []
    module[0].register_forward_hook(lambda *_: calls.append("hook"))
    own = module[2].forward

    def patched(samples):
        calls.append("patched")
        return 2 * own(samples)

    module[2].forward = patched
    bare = module(x)
    with LayerCapture(module, ".*").recorder(seen):
        assert torch.equal(module(x), bare)
    assert calls == ["hook", "patched"] * 2
    assert torch.equal(seen["2"], 2 * own(seen["1"]))
    assert module[2].forward is patched
    assert hooked(module) == ["2"]


def test_a_pattern_has_to_match_the_whole_name():
    policy = gaussian()
    assert layer_names(policy) == [
        *("inputs", "mlp.hidden_0", "mlp.activation_0", "mlp.hidden_1", "mlp.activation_1"),
        *("mlp.output", "outputs"),
    ]
    assert LayerCapture(policy, "mlp.output").layers == ["mlp.output"]
    assert LayerCapture(policy, r".*hidden_\d").layers == ["mlp.hidden_0", "mlp.hidden_1"]
    assert LayerCapture(policy, "outputs|inputs").layers == ["inputs", "outputs"]
    # Neither a beginning nor an end of a name is enough.
    for part in ("output", "mlp", "hidden_0", "input"):
        with pytest.raises(UserError, match="matches no layer"):
            LayerCapture(policy, part)


def test_only_the_layers_that_match_are_kept():
    module, seen = network(), {}
    with LayerCapture(module, "1|outputs").recorder(seen):
        module(inputs(3, COLUMNS))
        assert hooked(module) == ["", "1"]
    assert set(seen) == {"1", "outputs"}


def test_a_network_of_one_layer_has_inputs_and_outputs_alone():
    module = nn.Linear(3, 2)
    found = LayerCapture(module, ".*").forward(inputs(4, 3))
    assert list(found) == ["inputs", "outputs"]
    with torch.no_grad():
        assert torch.equal(found["outputs"], module(inputs(4, 3)))


def test_the_first_tensor_of_several_is_what_a_layer_says():
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.LSTM(3, 5, batch_first=True)), inputs(2, 7, 3)
    # Without gradients too: with them PyTorch passes an LSTM through other kernels.
    with torch.no_grad():
        expected = module(x)[0]
    assert torch.equal(LayerCapture(module, "0").forward(x)["0"], expected)


def test_a_pattern_that_is_none_or_matches_nothing_is_explained():
    with pytest.raises(UserError, match=r"monitor\.layers='\(' is no regular expression"):
        LayerCapture(network(), "(")
    with pytest.raises(UserError, match="'nothing' matches no layer") as error:
        LayerCapture(network(), "nothing")
    for name in layer_names(network()):
        assert name in str(error.value)


@TRACED
def test_torchscript_is_refused():
    scripted = torch.jit.trace(network(), inputs(2, COLUMNS))
    with pytest.raises(UserError, match="TorchScript"):
        LayerCapture(scripted, ".*")


class Wordy(nn.Module):
    """One layer says a dictionary, another nothing that is a tensor."""

    def __init__(self, answer):
        super().__init__()
        self.words = nn.Identity()
        self.last = nn.Linear(3, 2)
        self.answer = answer

    def forward(self, x):
        self.words(self.answer)
        return self.last(x)


@pytest.mark.parametrize("answer, kind", [({"a": 1}, "dict"), ((), "tuple"), (None, "NoneType")])
def test_a_layer_that_says_no_tensor_is_named_and_can_be_left_out(answer, kind):
    module = Wordy(answer)
    with pytest.raises(UserError, match=rf"layer words gave {kind}.*monitor\.layers"):
        LayerCapture(module, ".*").forward(inputs(2, 3))
    assert hooked(module) == []
    assert set(LayerCapture(module, "(?!words).*").forward(inputs(2, 3))) == {
        "inputs",
        "last",
        "outputs",
    }


class Half(nn.Module):
    """One layer is used through a compiled function, another one never."""

    def __init__(self):
        super().__init__()
        self.seen = nn.Linear(3, 3)
        self.hidden = nn.Linear(3, 2)
        self.unused = nn.Linear(3, 3)
        # In a list, so that it is no layer of this module.
        self._compiled = [torch.jit.trace(self.hidden, torch.zeros(1, 3))]

    def forward(self, x):
        return self._compiled[0](self.seen(x))


@TRACED
def test_layers_that_say_nothing_are_named():
    capture = LayerCapture(Half(), ".*")
    with pytest.raises(UserError, match="layers hidden, unused said nothing") as error:
        capture.forward(inputs(2, 3))
    assert "of inputs, seen, hidden, unused, outputs" in str(error.value)
    assert set(LayerCapture(Half(), "seen|.*puts").forward(inputs(2, 3))) == {
        "inputs",
        "seen",
        "outputs",
    }
