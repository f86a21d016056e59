"""Hooks around a pass, and the observer that puts them there: they see all and change nothing."""

import fakes
import numpy as np
import pytest
import torch
from fakes import FakeGuide, FixedSteps
from monitor.episodes import COLUMNS, network
from torch import nn

from jsrl.collector import Collector
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.errors import UserError
from jsrl.evaluate import Evaluator
from jsrl.monitor.hooks import Capture, flatten_batch, layer_names
from jsrl.monitor.observer import Observer
from jsrl.monitor.rows import PHASES, concatenate
from jsrl.networks import INITIALISATIONS, GaussianPolicy
from jsrl.seeding import Streams
from jsrl.types import TransitionLayout

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


def hook_count(module):
    return sum(
        len(hooks)
        for part in module.modules()
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
    )


@pytest.mark.parametrize("make", [network, in_place])
def test_hooks_change_no_output_of_a_plain_network(make):
    module, x = make(), inputs(7, COLUMNS)
    bare = module(x.clone())
    with Capture(module, ".*").attached({}):
        hooked = module(x.clone())
    assert torch.equal(bare, hooked)
    assert torch.equal(module(x.clone()), bare)


@pytest.mark.parametrize("noisy", [False, True])
def test_hooks_change_no_action_of_the_policies_of_two_seeds(noisy):
    policy, x, seen = gaussian(), inputs(2, 3, COLUMNS), {}

    def streams():
        return Streams([4, 9]) if noisy else None

    bare = policy.act(x, streams())
    with Capture(policy, ".*").attached(seen):
        hooked = policy.act(x, streams())
    assert torch.equal(bare, hooked)
    # The mean is what comes out of the network: the noise belongs to the action.
    assert torch.equal(seen["outputs"], policy.act(x, None))
    assert torch.equal(policy.act(x, streams()), bare)
    assert torch.equal(bare, policy.act(x, None)) != noisy


def test_gradients_are_the_same_with_hooks():
    module, x = in_place(), inputs(7, COLUMNS)
    found = []
    for capture in (None, Capture(module, ".*")):
        module.zero_grad()
        if capture is None:
            module(x).square().sum().backward()
        else:
            with capture.attached({}):
                module(x).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in module.parameters()])
    assert all(torch.equal(bare, hooked) for bare, hooked in zip(*found, strict=True))


def test_captured_values_are_those_of_the_layers_by_hand():
    module, x, seen = network(), inputs(5, COLUMNS), {}
    with Capture(module, ".*").attached(seen):
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
    with Capture(policy, ".*").attached(seen):
        policy.act(x, Streams([4, 9]))
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
    with Capture(module, ".*").attached(seen):
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
    capture = Capture(policy, ".*")
    with capture.attached(seen):
        policy.act(x, None)
    again = capture.forward(x)
    assert set(again) == set(seen)
    assert all(torch.equal(again[name], seen[name]) for name in seen)
    assert not any(value.requires_grad for value in again.values())


def test_no_hook_remains():
    module, x = network(), inputs(3, COLUMNS)
    capture, seen = Capture(module, ".*"), {}
    with capture.attached(seen):
        # One for each of five layers, one for what goes in, one for what comes out.
        assert hook_count(module) == 7
        module(x)
    assert hook_count(module) == 0
    seen.clear()
    module(x)
    assert seen == {}
    with pytest.raises(ZeroDivisionError), capture.attached(seen):
        raise ZeroDivisionError
    assert hook_count(module) == 0
    with pytest.raises(RuntimeError), capture.attached(seen):
        module(inputs(3, COLUMNS + 1))
    assert hook_count(module) == 0


def test_a_pattern_has_to_match_the_whole_name():
    policy = gaussian()
    assert layer_names(policy) == [
        *("inputs", "mlp.hidden_0", "mlp.activation_0", "mlp.hidden_1", "mlp.activation_1"),
        *("mlp.output", "outputs"),
    ]
    assert Capture(policy, "mlp.output").layers == ["mlp.output"]
    assert Capture(policy, r".*hidden_\d").layers == ["mlp.hidden_0", "mlp.hidden_1"]
    assert Capture(policy, "outputs|inputs").layers == ["inputs", "outputs"]
    # Neither a beginning nor an end of a name is enough.
    for part in ("output", "mlp", "hidden_0", "input"):
        with pytest.raises(UserError, match="matches no layer"):
            Capture(policy, part)


def test_only_the_layers_that_match_are_kept():
    module, seen = network(), {}
    with Capture(module, "1|outputs").attached(seen):
        module(inputs(3, COLUMNS))
        assert hook_count(module) == 2
    assert set(seen) == {"1", "outputs"}


def test_a_network_of_one_layer_has_inputs_and_outputs_alone():
    module = nn.Linear(3, 2)
    found = Capture(module, ".*").forward(inputs(4, 3))
    assert list(found) == ["inputs", "outputs"]
    assert torch.equal(found["outputs"], module(inputs(4, 3)))


def test_the_first_tensor_of_several_is_what_a_layer_says():
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.LSTM(3, 5, batch_first=True)), inputs(2, 7, 3)
    assert torch.equal(Capture(module, "0").forward(x)["0"], module(x)[0])


def test_the_batch_is_the_first_axes_and_the_rest_is_flat():
    values = inputs(2, 3, 4, 5)
    flat = flatten_batch(values, 2)
    assert flat.shape == (6, 20)
    assert torch.equal(flat[4], values[1, 1].reshape(-1))
    assert flatten_batch(inputs(6), 1).shape == (6, 1)


def test_a_pattern_that_is_none_or_matches_nothing_is_explained():
    with pytest.raises(UserError, match=r"monitor\.layers='\(' is no regular expression"):
        Capture(network(), "(")
    with pytest.raises(UserError, match="'nothing' matches no layer") as error:
        Capture(network(), "nothing")
    for name in layer_names(network()):
        assert name in str(error.value)


@TRACED
def test_torchscript_is_refused():
    scripted = torch.jit.trace(network(), inputs(2, COLUMNS))
    with pytest.raises(UserError, match="TorchScript"):
        Capture(scripted, ".*")


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
        Capture(module, ".*").forward(inputs(2, 3))
    assert hook_count(module) == 0
    assert set(Capture(module, "(?!words).*").forward(inputs(2, 3))) == {
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
    capture = Capture(Half(), ".*")
    with pytest.raises(UserError, match="layers hidden, unused said nothing") as error:
        capture.forward(inputs(2, 3))
    assert "of inputs, seen, hidden, unused, outputs" in str(error.value)
    assert set(Capture(Half(), "seen|.*puts").forward(inputs(2, 3))) == {
        "inputs",
        "seen",
        "outputs",
    }


SEEDS, ENVS = (4, 9), 2
LAYOUT = TransitionLayout(fakes.OBSERVATION_SIZE, fakes.ACTION_SIZE)


class Watched:
    """A collector and an evaluator of two seeds, and what an observer of them passed on."""

    def __init__(self, phase=None, interval=1, share=1.0, draw=0, lengths=(2, 5)):
        env, self.policy = EnvSettings(fakes.COUNTING, {"lengths": lengths}), gaussian(2, 3)
        self.rows, self.said = ([], []), ([], [])
        count, spec, streams = len(SEEDS) * ENVS, describe_env(env), Streams(SEEDS)
        environments, cpu = Environments(env, count), torch.device("cpu")
        self.collector = Collector(environments, spec, ENVS, streams.child("collector"), cpu)
        self.evaluator = Evaluator(environments, spec, streams.child("evaluator"), cpu)
        self.observer = Observer(
            Capture(self.policy, ".*"),
            *(SEEDS, phase, interval, share, streams.child("share", draw), ENVS, self._sink),
        )

    def _sink(self, index, rows, activations):
        self.rows[index].append(rows)
        self.said[index].append(activations)

    def collect(self, steps, guide_steps=2):
        guide, curricula = FakeGuide(), [FixedSteps(guide_steps, stage=3)] * 2
        taken = []
        for _ in range(steps):
            rows, _ = self.collector.step(self.policy, guide, curricula)
            taken.append(rows.copy())
        return np.stack(taken)

    def recorded(self, index):
        """For each episode of a seed that was recorded, the times of its rows."""
        if not self.rows[index]:
            return {}
        episodes = concatenate(self.rows[index]).episodes()
        return {int(rows.episode[0]): rows.time.tolist() for rows in episodes}


def test_every_third_step_of_a_collector_is_passed_on_as_it_was_taken():
    watched = Watched(interval=3)
    watched.collector.observer = watched.observer
    taken = watched.collect(21)
    ended = taken[..., LAYOUT.terminated] + taken[..., LAYOUT.truncated]
    # How many episodes each environment had ended before each step.
    number = np.cumsum(ended, 0) - ended
    for index, seed in enumerate(SEEDS):
        assert len(watched.rows[index]) == 7
        for look, rows in enumerate(watched.rows[index]):
            step = taken[3 * look + 2, index]
            by_guide = step[:, LAYOUT.by_guide].astype(bool)
            assert np.array_equal(rows.observations, step[:, :3])
            assert np.array_equal(rows.actions, step[:, LAYOUT.action])
            # The environment itself observes the time.
            assert rows.time.tolist() == step[:, 1].tolist()
            assert rows.step.tolist() == [3 * (look + 1) * ENVS] * ENVS
            own = number[3 * look + 2, index]
            assert rows.episode.tolist() == [int(n) * ENVS + env for env, n in enumerate(own)]
            assert [PHASES[i] for i in rows.phase] == [
                "guide" if guided else "exploration" for guided in by_guide
            ]
            assert rows.actor.tolist() == [0 if guided else 1 for guided in by_guide]
            assert rows.stage.tolist() == [3] * ENVS
            assert rows.seed.tolist() == [seed] * ENVS
            alone = watched.policy.select(index)
            said = Capture(alone, ".*").forward(torch.from_numpy(rows.observations)[None])
            for name, values in said.items():
                assert torch.equal(watched.said[index][look][name], values[0])
    phases = concatenate(watched.rows[0]).phase
    assert {PHASES[i] for i in phases} == {"guide", "exploration"}
    assert hook_count(watched.policy) == 0


def test_a_collector_takes_bitwise_the_same_steps_with_an_observer():
    bare, watched = Watched(), Watched(interval=2)
    watched.collector.observer = watched.observer
    assert np.array_equal(bare.collect(30), watched.collect(30))
    assert bare.rows[0] == [] != watched.rows[0]


def test_a_share_of_the_episodes_is_recorded_whole_and_the_same_ones_again():
    def episodes(draw, share=0.5):
        watched = Watched(share=share, draw=draw, lengths=(3,))
        watched.collector.observer = watched.observer
        watched.collect(60, guide_steps=0)
        return [watched.recorded(index) for index in range(2)]

    every = episodes(0, 1.0)
    assert [len(found) for found in every] == [40, 40]
    found = episodes(0)
    for own in found:
        assert set(map(tuple, own.values())) == {(0, 1, 2)}
        # Of 40 episodes, half of them on average.
        assert 10 <= len(own) <= 30
    assert found[0].keys() != found[1].keys()
    assert episodes(0) == found
    assert episodes(1) != found
    assert episodes(0, 0.0) == [{}, {}]


def test_an_evaluators_episodes_are_recorded_and_its_results_stay():
    bare, watched = Watched(lengths=(1, 2, 5)), Watched("evaluation", lengths=(1, 2, 5))
    watched.evaluator.observer = watched.observer
    still, results = np.zeros((2, 5), np.int64), []
    for key in (1, 2):
        expected = bare.evaluator.evaluate(bare.policy, None, still, key)
        result = watched.evaluator.evaluate(watched.policy, None, still, key)
        assert np.array_equal(result.returns, expected.returns)
        results.append(result.lengths)
    for index in range(2):
        # Environments that only keep others company are no episode; numbers go on.
        lengths = np.concatenate([result[index] for result in results])
        assert watched.recorded(index) == {i: list(range(n)) for i, n in enumerate(lengths)}
        rows = concatenate(watched.rows[index])
        assert {PHASES[i] for i in rows.phase} == {"evaluation"}
        modes = watched.policy.select(index).act(torch.from_numpy(rows.observations)[None], None)
        torch.testing.assert_close(torch.from_numpy(rows.actions), modes[0])


def test_a_share_of_an_evaluations_episodes_is_recorded_whole_too():
    watched = Watched("evaluation", share=0.5, lengths=(1, 2, 5))
    watched.evaluator.observer = watched.observer
    # No multiple of the environments, so that some of them only keep the others company.
    result = watched.evaluator.evaluate(watched.policy, None, np.zeros((2, 15), np.int64), 1)
    for index in range(2):
        found = watched.recorded(index)
        assert 2 <= len(found) <= 13
        assert found == {i: list(range(result.lengths[index, i])) for i in found}


def test_what_the_network_says_is_recorded_where_the_guide_acts_alone():
    watched = Watched("evaluation", lengths=(4,))
    watched.evaluator.observer = watched.observer
    watched.evaluator.evaluate(None, FakeGuide(), np.full((2, 2), 9), 1)
    for index in range(2):
        assert watched.recorded(index) == {0: [0, 1, 2, 3], 1: [0, 1, 2, 3]}
        for rows, said in zip(watched.rows[index], watched.said[index], strict=True):
            assert (rows.actions == 0.5).all() and (rows.actor == 0).all()
            alone = Capture(watched.policy.select(index), ".*")
            expected = alone.forward(torch.from_numpy(rows.observations)[None])
            assert all(torch.equal(said[name], expected[name][0]) for name in expected)


def test_an_observer_goes_on_from_its_clocks():
    whole, first, second = (Watched(interval=4) for _ in range(3))
    whole.collector.observer = whole.observer
    whole.collect(18)
    first.collector.observer = first.observer
    first.collect(10)
    second.observer.load_state_dict(first.observer.state_dict())
    first.collector.observer = second.observer
    first.collect(8)
    steps = [rows.step.tolist() for part in (first, second) for rows in part.rows[0]]
    assert steps == [rows.step.tolist() for rows in whole.rows[0]]
    assert len(first.rows[0]) == len(second.rows[0]) == 2
