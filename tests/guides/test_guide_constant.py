"""The guide that always does the same, in the environment's units; and what is no action there."""

import pytest
import torch
from small_runs import REACH, train_here
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings
from jsrl.guides import GuideInputs
from jsrl.guides.constant import ConstantOptions, make_constant

BOX = box((-3.0, 0.0), (1.0, 8.0))
CHOICES = DiscreteActions(3, start=4)


def guide(actions, action):
    spec = EnvSpec("Any-v0", vector(2), actions, 50)
    inputs = GuideInputs(spec, [0, 1], torch.device("cpu"), EnvSettings("Any-v0"))
    return make_constant(ConstantOptions("constant", action=action), inputs)


@pytest.mark.parametrize(
    ("actions", "action", "unit"),
    [
        (BOX, [1.0, 2.0], [1.0, -0.5]),
        (BOX, 0.0, [0.5, -1.0]),
        (CHOICES, 6, 2),
    ],
)
def test_it_does_the_same_in_every_row(actions, action, unit):
    seen = Observation(torch.randn(2, 5, 2), {})
    mask = torch.ones(2, 5, dtype=torch.bool)
    found = guide(actions, action).act(seen, Streams([0, 1]), mask)
    assert torch.equal(found, torch.tensor(unit).expand_as(found))


@pytest.mark.parametrize(
    ("actions", "action", "says"),
    [
        (
            BOX,
            None,
            r"guide.action=None must be a number, or a list of 2, within the bounds of Any",
        ),
        (BOX, [1.0, 2.0, 3.0], r"guide.action=\[1.0, 2.0, 3.0\] must be"),
        (BOX, [2.0, 2.0], r"guide.action=\[2.0, 2.0\] must be"),
        (BOX, float("nan"), "guide.action=nan must be"),
        (BOX, "left", "guide.action=left must be"),
        (
            CHOICES,
            3,
            "guide.action=3 must be a whole number from 4 to 6, one of the choices of Any",
        ),
        (CHOICES, 4.5, "guide.action=4.5 must be"),
    ],
)
def test_what_is_no_action_is_refused(actions, action, says):
    with pytest.raises(UserError, match=says):
        guide(actions, action)


def test_a_run_is_guided_by_it(tmp_path):
    chosen = (*REACH, "dataset=none", "guide=constant", "curriculum=jsrl", "offline.updates=0")
    done = train_here(tmp_path / "run", *chosen, "guide.action=[0.5,-0.5]", "online.steps=150")
    assert done["evaluation"]["guide"]["success"]["mean"] is not None
