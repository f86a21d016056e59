"""Units of a guide's actions: what it answers is what the environment takes, or it is told."""

import hashlib

import numpy as np
import pytest
import torch
from bounded import BOUNDS, ID, Bounded, bounded, overrides
from guide_cases import SPEC, UNIT, observations, random_policy, write_checkpoint
from small_runs import train_here

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation, zeros_of
from jsrl.envs.make import EnvSettings, describe_env, make_env
from jsrl.guides import ForeignGuide, GuideView, NetworkGuide, python_guide, torchscript_guide

EVERYWHERE = torch.ones(1, 1, dtype=torch.bool)

CONSTANT = """
import numpy as np


class Constant:
    def __init__(self, action, shape=None):
        self.action, self.shape = action, shape

    def act(self, observations):
        answers = np.tile(np.array(self.action), (len(observations), 1))
        return answers if self.shape is None else answers.reshape(len(observations), *self.shape)


class Declaring(Constant):
    def __init__(self, action, low, high):
        super().__init__(action)
        self.action_low, self.action_high = low, high


class Half(Constant):
    action_low = -1.0
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "constant.py"
    path.write_text(CONSTANT)
    return path


def applied(guide, settings):
    """What the environment takes when the guide acts."""
    env = make_env(settings)
    env.reset(seed=0)
    obs = zeros_of(describe_env(settings).observation, 1, 1)
    env.step(guide.act(obs, None, EVERYWHERE)[0, 0].numpy())
    return Bounded.taken[-1]


def constant(source, settings, action, view=None, name="Constant", **arguments):
    arguments = {"action": list(action), **arguments}
    spec = describe_env(settings)
    return python_guide(f"{source}:{name}", arguments, view or GuideView(), spec, 1)


def shares(name, share):
    low, high = (np.array(bound) for bound in BOUNDS[name][:2])
    return low + share * (high - low)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", BOUNDS)
def test_a_python_guide_speaks_the_environments_units(source, name, share):
    settings, action = EnvSettings(ID, bounded(name)), shares(name, share)
    taken = applied(constant(source, settings, action), settings)
    np.testing.assert_allclose(taken.ravel(), action, atol=2e-7 * np.abs(action).max() + 1e-7)
    # Answers may have the environment's own shape.
    shaped = constant(source, settings, action, shape=BOUNDS[name][2])
    assert np.array_equal(applied(shaped, settings), taken)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_range_of_its_own_is_mapped_to_the_environments(source, name):
    settings = EnvSettings(ID, bounded(name))
    # 5 is a quarter of the way from 0 to 20.
    answer = [5.0] * len(BOUNDS[name][0])
    view = GuideView(action_low=0.0, action_high=20.0)
    taken = applied(constant(source, settings, answer, view), settings)
    np.testing.assert_allclose(taken.ravel(), shares(name, 0.25), atol=1e-6)
    normalised = GuideView(action_low=-1, action_high=1)
    taken = applied(constant(source, settings, [-0.5] * len(answer), normalised), settings)
    np.testing.assert_allclose(taken.ravel(), shares(name, 0.25), atol=1e-6)


def test_an_object_may_say_its_range_and_the_view_overrides_it(source):
    settings = EnvSettings(ID, bounded("asymmetric"))
    for low, high in ((-1, 1), (np.array([-1.0, -1.0]), np.float32(1)), ([-1], [1])):
        arguments = {"name": "Declaring", "low": low, "high": high}
        guide = constant(source, settings, [0.0, 1.0], **arguments)
        np.testing.assert_allclose(applied(guide, settings), [1.5, 3.0])
        guide = constant(
            source, settings, [0.0, 1.0], GuideView(None, None, None, 0, 2), **arguments
        )
        np.testing.assert_allclose(applied(guide, settings), [0.0, 1.5])
    unknown = constant(source, settings, [0.0, 1.0], name="Declaring", low=None, high=None)
    np.testing.assert_allclose(applied(unknown, settings), [0.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"low": 1.0, "high": -1.0}, "constant.py:Declaring: action_low=1.0 must be below"),
        ({"low": [0, 0, 0], "high": 1.0}, "Declaring: action_low has 3 numbers; expected 2"),
        ({"low": "low", "high": 1.0}, "has action_low='low' and action_high=1.0; expected a num"),
    ],
)
def test_a_range_that_cannot_be_is_refused_with_the_objects_name(source, arguments, words):
    settings = EnvSettings(ID, bounded("twice"))
    with pytest.raises(UserError) as caught:
        constant(source, settings, [0.0, 0.0], name="Declaring", **arguments)
    assert words in str(caught.value)


def test_half_a_range_is_refused(source):
    with pytest.raises(UserError, match="one of action_low and action_high; give it both"):
        constant(source, EnvSettings(ID, bounded("twice")), [0.0, 0.0], name="Half")


@pytest.mark.parametrize(
    ("name", "answer", "column", "shown"),
    [
        ("weak", [0.0, 1.0], 1, "returned 1 for action 1, outside of [-0.4, 0.4]"),
        ("asymmetric", [-0.5, 0.0], 0, "returned -0.5 for action 0, outside of [0, 3]"),
        ("mixed", [0.0, 3.5], 1, "returned 3.5 for action 1, outside of [0, 3]"),
        (
            "twice",
            [0.0, np.nan],
            1,
            "returned nan for action 1; expected finite numbers in [-2, 2]",
        ),
    ],
)
def test_outside_of_its_range_is_told_with_the_range_where_it_is_from_and_the_keys(
    source, name, answer, column, shown
):
    settings = EnvSettings(ID, bounded(name))
    with pytest.raises(UserError) as caught:
        applied(constant(source, settings, answer), settings)
    said = str(caught.value)
    assert shown in said
    if np.isfinite(answer).all():
        assert f"(the bounds of {ID})" in said
        assert "guide.action_low and guide.action_high" in said
        # The advice works.
        view = GuideView(action_low=-4.0, action_high=4.0)
        assert applied(constant(source, settings, answer, view), settings) is not None


def test_policies_of_this_package_answer_in_unit_range_whatever_the_bounds(tmp_path):
    settings = EnvSettings(ID, bounded("asymmetric"))
    spec = describe_env(settings)
    policy = random_policy([0], 3)
    obs = Observation(torch.zeros(1, 1, 3))
    guide = NetworkGuide.from_policy(policy, GuideView(), spec)
    assert torch.equal(guide.act(obs, None, EVERYWHERE), policy.act(obs, None))
    line = guide.view.action_line("policy")
    assert line == (
        f"actions of guide policy: in [-1, 1] (the range of policies), applied as [0, 3] in {ID}"
    )


def test_a_policy_trained_with_other_bounds_is_scaled_and_that_is_told(tmp_path):
    trained = {
        "observation_size": 5,
        "action_size": 2,
        "layout": [list(p) for p in SPEC.observation.layout],
    }
    trained |= {"id": "Other-v0", "action_low": [-0.4, -0.4], "action_high": [0.4, 0.4]}
    write_checkpoint(tmp_path / "other.pt", [0], environment=trained)
    arguments = (tmp_path / "other.pt", [0], None)
    guide = NetworkGuide.from_checkpoint(*arguments, view=GuideView(), spec=SPEC)
    line = guide.view.action_line("g")
    assert line is not None
    assert "a policy trained in Other-v0, where that was [-0.4, 0.4]" in line
    assert "applied as [-2, 2] in Fake-v0" in line


def tanh_file(path):
    torch.jit.script(torch.nn.Sequential(torch.nn.Linear(5, 2), torch.nn.Tanh())).save(str(path))
    return path


def test_torchscript_files_speak_the_environments_units(tmp_path):
    path = tanh_file(tmp_path / "g.pt")
    obs = observations(1, 1)
    expected = torch.jit.load(str(path))(obs.vector[0]) / 2  # bounds ±2
    guide = torchscript_guide(path, GuideView(), SPEC, 1)
    torch.testing.assert_close(guide.act(obs, None, EVERYWHERE)[0], expected)


def test_a_changed_mapping_is_another_guide_and_an_unchanged_one_is_what_it_was():
    def rows(observed, seed_index, generator):
        return np.zeros((len(observed), 2))

    def fingerprint(view, spec, **arguments):
        return ForeignGuide(rows, view, spec, 1, "g", "0", **arguments).fingerprint

    plain = fingerprint(GuideView(), UNIT)
    # As earlier versions made it, so that their runs go on.
    text = "GuideView(observation=None, mean=None, std=None, action_low=-1.0, action_high=1.0)"
    assert plain == hashlib.sha256(b"'0'\0" + text.encode() + b"\0").hexdigest()
    from jsrl.guides.view import environment_range

    assert fingerprint(GuideView(), UNIT, answers_in=environment_range(UNIT)) == plain
    scaled = fingerprint(GuideView(), SPEC, answers_in=environment_range(SPEC))
    assert len({plain, scaled, fingerprint(GuideView(action_low=-3, action_high=3), SPEC)}) == 3


def test_a_run_applies_and_tells_the_units_of_its_guide(tmp_path, source, capsys):
    action = [0.1, 3.0]
    base = (
        *overrides("asymmetric"), "guide=python", f"guide.target={source}:Constant",
        f"guide.arguments={{action: {action}}}", "curriculum=constant", "curriculum.guide_steps=8",
        "offline.updates=0", "online.steps=8", "online.learning_starts=100",
    )  # fmt: skip
    summary = train_here(tmp_path / "own", *base)
    # The reward of a step is the mean share of the range, for the 60 steps of an episode.
    expected = 60 * (0.1 / 3 + 1) / 2
    assert summary["evaluation"]["guide"]["return"]["mean"] == pytest.approx(expected, rel=1e-5)
    said = capsys.readouterr().out
    assert "[0, 3]" in said
    assert f"(the bounds of {ID}), applied as they are" in said
    with pytest.raises(UserError, match=r"returned 3 for action 1, outside of \[-1, 1\]"):
        train_here(tmp_path / "unit", *base, "guide.action_low=-1", "guide.action_high=1")
    assert "in [-1, 1] (guide.action_low and guide.action_high), applied as [0, 3]" in (
        capsys.readouterr().out
    )
