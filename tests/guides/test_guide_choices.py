"""Guides that choose: numbered as the environment does, or from 0 where they are the package's."""

import re

import fakes
import numpy as np
import pytest
import torch
from fakes import CHOICES, FIRST_CHOICE, FakePolicy, FixedSteps
from guide_cases import UNIT, observations, write_checkpoint, write_policy
from rollout.collected import make as make_collector
from rollout.collected import run as collect

from jsrl.core.errors import UserError
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.guides import (
    ForeignGuide,
    GuideView,
    NetworkGuide,
    guide_line,
    onnx_guide,
    python_guide,
    torchscript_guide,
)
from jsrl.guides.view import environment_range
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.deployment import ChoiceUnits, spec_values
from jsrl.networks.export import export_policy
from jsrl.networks.layers import INITIALISATIONS

CHOOSING = EnvSettings(fakes.CHOOSING, {"lengths": (5,)})
SPEC = describe_env(CHOOSING)
FROM_ZERO = EnvSpec("Zero-v0", SPEC.observation, DiscreteActions(CHOICES), 9)

SOURCE = """
import numpy as np

def largest(observations, start, column=False):
    chosen = start + observations.argmax(-1)
    return chosen[:, None] if column else chosen

def listed(observations, start):
    return [int(start + one.argmax()) for one in observations]

def single(observation):
    return 3 + int(observation.argmax())

def drawn(observations, generator):
    return generator.integers(3, 7, len(observations))

class Counter:
    age = 0
    def __call__(self, observations):
        self.age += 1
        return np.full(len(observations), 3 + self.age % 3)
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "choosing.py"
    path.write_text(SOURCE)
    return path


def of_source(source, name, spec=SPEC, num_seeds=2, **arguments):
    return python_guide(f"{source}:{name}", arguments, GuideView(), spec, num_seeds)


def everyone(seeds=2, environments=4):
    return torch.ones(seeds, environments, dtype=torch.bool)


def random_policy(seeds, observation_size=3, hidden=(16,)):
    policy = CategoricalPolicy(len(seeds), observation_size, CHOICES, hidden)
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams(seeds), "actor")
    return policy


def test_it_numbers_its_choices_as_the_environment_does_and_policies_from_0(source):
    obs, mask = observations(2, 4, 3), everyone()
    mask[0, 1] = mask[1, 0] = False
    obs.vector[~mask] = float("nan")
    expected = torch.where(mask, obs.vector.nan_to_num().argmax(-1), 0)
    assert FIRST_CHOICE == 3
    for guide in (
        of_source(source, "largest", start=3),
        of_source(source, "largest", start=3, column=True),
        of_source(source, "listed", start=3),
        of_source(source, "largest", FROM_ZERO, start=0),
    ):
        actions = guide.act(obs, None, mask)
        assert actions.dtype == torch.int64
        assert torch.equal(actions, expected)
        assert guide_line(guide) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (7, "chose 7; expected a whole number from 3 to 6, the choices of jsrl-tests/Choosing-v0"),
        (2, "chose 2; expected a whole number from 3 to 6"),
        (3.5, "chose 3.5; expected a whole number"),
        (np.nan, "chose nan; expected a whole number"),
        (np.inf, "chose inf; expected a whole number"),
    ],
)
def test_what_is_no_choice_of_the_environment_is_told(answer, words):
    def rows(observed, seed_index, generator):
        return np.array([3, answer])

    guide = ForeignGuide(rows, GuideView(), SPEC, 1, "odd", "0", answers_in=environment_range(SPEC))
    with pytest.raises(UserError) as caught:
        guide.act(observations(1, 2, 3), None, everyone(1, 2))
    assert f"guide odd {words}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_shape_and_bounds_of_real_numbers_are_refused(source):
    def rows(observed, seed_index, generator):
        return np.zeros((len(observed), 2))

    with pytest.raises(UserError, match=r"array of shape \(4, 2\); expected .*\(4,\)"):
        ForeignGuide(rows, GuideView(), SPEC, 2, "wide", "0").act(
            observations(2, 4, 3), None, everyone()
        )
    for low, high in ((3, 7), (0.5, 3.5), ([0, 0], [3, 3])):
        with pytest.raises(UserError, match=r"not the first and the last of the 4 choices"):
            GuideView(action_low=low, action_high=high).bind(SPEC)
    with pytest.raises(UserError, match=r"set without guide\.action_high"):
        GuideView(action_low=0).bind(SPEC)


def test_single_rows_and_a_hidden_memory_are_found_out_before_the_run(source):
    with pytest.raises(
        UserError, match=r"one observation of shape \(3,\) at a time.*return \(n,\)"
    ):
        of_source(source, "single")
    with pytest.raises(UserError, match=r"same rows differently the second time \(its choice: "):
        of_source(source, "Counter")


def test_draws_of_a_choosing_guide_are_each_seeds_own(source):
    obs = observations(2, 4, 3)
    together, alone = Streams([4, 7]), Streams([7])
    pair, single = of_source(source, "drawn"), of_source(source, "drawn", num_seeds=1)
    found = [pair.act(obs, together, everyone()) for _ in range(3)]
    own = [single.act(obs[1:], alone, everyone(1)) for _ in range(3)]
    assert torch.equal(torch.stack(found)[:, 1:], torch.stack(own))
    assert torch.stack(found).unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("spec", [SPEC, FROM_ZERO])
def test_a_policy_of_the_package_guides_by_its_mode(spec):
    policy, obs = random_policy([3, 1]), observations(2, 4, 3)
    mask = everyone()
    mask[1, 2] = False
    guide = NetworkGuide.from_policy(policy, GuideView(), spec)
    expected = policy(obs.vector).argmax(-1)
    assert len(expected.unique()) > 1
    assert torch.equal(guide.act(obs, None, mask), torch.where(mask, expected, 0))
    nobody = guide.act(obs, None, ~everyone())
    assert nobody.dtype == torch.int64 and nobody.tolist() == [[0] * 4] * 2


def test_its_samples_are_bitwise_the_same_alone_and_in_company():
    policy, obs = random_policy([3, 1]), observations(2, 40, 3)
    guide = NetworkGuide.from_policy(policy, GuideView(), SPEC, sample=True)
    single = NetworkGuide.from_policy(policy.select(1), GuideView(), SPEC, sample=True)
    together, alone = Streams([3, 1]), Streams([1])
    for _ in range(3):
        company = guide.act(obs, together, everyone(2, 40))
        assert torch.equal(company[1:], single.act(obs[1:], alone, everyone(1, 40)))
    assert company.unique().tolist() == [0, 1, 2, 3]


def test_a_runs_choosing_policy_guides_another_environment_with_such_choices(tmp_path):
    policy = random_policy([3, 1])
    write_policy(tmp_path / "c.pt", policy, [3, 1], environment=spec_values(SPEC))
    obs = observations(1, 4, 3)

    def load(spec, view=None):
        return NetworkGuide.from_checkpoint(
            tmp_path / "c.pt", [1], None, view=view or GuideView(), spec=spec
        )

    for spec in (SPEC, FROM_ZERO):
        actions = load(spec).act(obs, None, everyone(1))
        assert torch.equal(actions, policy.select(1).act(obs, None))
    three = EnvSpec("Three-v0", SPEC.observation, DiscreteActions(3), 9)
    with pytest.raises(UserError, match="has 4 actions; Three-v0 takes 3"):
        load(three)


@pytest.mark.parametrize("spec", [SPEC, FROM_ZERO])
def test_an_exported_policy_is_a_guide_that_chooses_as_the_policy(tmp_path, spec):
    policy, obs = random_policy([3, 1]), observations(1, 30, 3)
    units = ChoiceUnits(spec.actions.n, spec.actions.start)
    export_policy(policy, 1, tmp_path / "policy", units=units)
    expected = policy.select(1).act(obs, None)
    assert len(expected.unique()) > 1
    for make, ending in ((torchscript_guide, ".torchscript.pt"), (onnx_guide, ".onnx")):
        guide = make(tmp_path / f"policy{ending}", GuideView(), spec, 1)
        assert torch.equal(guide.act(obs, None, everyone(1, 30)), expected)


def test_a_file_that_chooses_from_0_is_a_guide_once_its_numbers_are_given(tmp_path):
    policy, obs = random_policy([3, 1]), observations(1, 30, 3)
    export_policy(policy, 1, tmp_path / "policy", units=None)
    expected = policy.select(1).act(obs, None)
    assert 0 in expected and len(expected.unique()) > 1
    for make, ending in ((torchscript_guide, ".torchscript.pt"), (onnx_guide, ".onnx")):
        path = tmp_path / f"policy{ending}"
        untold = make(path, GuideView(), SPEC, 1)
        assert guide_line(untold) is None
        with pytest.raises(UserError, match=r"needs guide\.action_low=0 and guide\.action_high=3"):
            untold.act(obs, None, everyone(1, 30))
        # As the advice says.
        guide = make(path, GuideView(action_low=0, action_high=3), SPEC, 1)
        assert torch.equal(guide.act(obs, None, everyone(1, 30)), expected)
        assert "chooses from 0 (guide.action_low and guide.action_high)" in str(guide_line(guide))
        assert str(guide_line(guide)).endswith("which jsrl-tests/Choosing-v0 numbers from 3")
        assert guide.fingerprint != untold.fingerprint


def test_guides_of_the_other_kind_of_actions_are_refused(tmp_path):
    environment = {**spec_values(SPEC), "observation_size": 5, "layout": [["observation", 0, 5]]}
    write_policy(tmp_path / "chooses.pt", random_policy([0], 5), [0], environment=environment)
    write_checkpoint(tmp_path / "real.pt", [0], 3, 4)
    for path, spec, words in (
        ("chooses.pt", UNIT, "chooses, which Unit-v0 does not take"),
        ("real.pt", SPEC, f"gives real numbers, which {SPEC.id} does not take"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            NetworkGuide.from_checkpoint(tmp_path / path, [0], None, view=GuideView(), spec=spec)


def test_the_environment_takes_the_choices_of_guide_and_policy(source):
    """The environment counts up its choices less 3, so that what it was given can be read off."""
    collector = make_collector([0, 1], 2, CHOOSING)
    guide = of_source(source, "largest", start=3)
    rows, _ = collect(collector, 10, FakePolicy(chooses=True), guide, [FixedSteps(2)] * 2)
    collector.close()
    assert torch.equal(rows.by_guide, rows.seen[..., 1] < 2)
    assert rows.action.dtype == torch.int64
    assert torch.equal(
        rows.action[rows.by_guide], rows.observation.vector[rows.by_guide].argmax(-1)
    )
    taken = rows.next_observation.vector[..., 2] - rows.seen[..., 2]
    assert torch.equal(taken, rows.action.float())
    assert len(rows.action.unique()) > 2


def test_the_fingerprint_tells_choices_of_other_guides_apart(source):
    prints = {of_source(source, name, start=3).fingerprint for name in ("largest", "listed")}
    prints.add(NetworkGuide.from_policy(random_policy([0]), GuideView(), SPEC).fingerprint)
    assert len(prints) == 3
    assert of_source(source, "largest", start=3).fingerprint in prints
