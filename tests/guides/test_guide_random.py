"""The guide that acts at random: evenly, from its own draws, whatever it sees."""

import numpy as np
import pytest
import torch
from small_runs import REACH, train_here
from specs import box, vector

from jsrl.core.observations import Observation
from jsrl.core.specs import ActionSpec, DiscreteActions, EnvSpec, ImagePart, ObservationSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings
from jsrl.guides import GuideInputs
from jsrl.guides.random import RandomOptions, make_random

SHAPE = (3, 4, 5)
SEEN = ObservationSpec(
    vector((("speed", 0, 2),)).vector, (ImagePart(("view",), SHAPE, None, SHAPE),)
)
PLACES = torch.ones(2, 500, dtype=torch.bool)


def guide(actions: ActionSpec, observation: ObservationSpec):
    spec = EnvSpec("Any-v0", observation, actions, 50)
    settings = EnvSettings("Any-v0")
    return make_random(
        RandomOptions("random"), GuideInputs(spec, [0, 1], torch.device("cpu"), settings)
    )


def seen(images: bool) -> Observation:
    view = {"view": torch.zeros(2, 500, *SHAPE, dtype=torch.uint8)} if images else {}
    return Observation(torch.zeros(2, 500, 2), view)


@pytest.mark.parametrize("images", [False, True])
def test_real_actions_are_even_in_their_range(images):
    made = guide(box((-3.0, 0.0), (1.0, 9.0)), SEEN if images else vector(2))
    actions = made.act(seen(images), Streams([0, 1]), PLACES).numpy()
    assert actions.shape == (2, 500, 2)
    quarters = np.stack([np.histogram(actions[..., i], 4, (-1, 1))[0] for i in range(2)])
    # 1,000 draws: 250 in each quarter, within five standard deviations.
    assert (np.abs(quarters - 250) < 5 * np.sqrt(1000 * 0.25 * 0.75)).all()
    assert (actions[0] != actions[1]).any()


def test_choices_are_even_and_numbered_from_0():
    made = guide(DiscreteActions(3, start=4), vector(2))
    actions = made.act(seen(False), Streams([0, 1]), PLACES)
    counts = np.bincount(actions.flatten().numpy(), minlength=3)
    assert len(counts) == 3
    assert (np.abs(counts - 1000 / 3) < 5 * np.sqrt(1000 * 2 / 9)).all()


def test_a_run_is_guided_by_it(tmp_path):
    chosen = (*REACH, "dataset=none", "guide=random", "curriculum=jsrl", "offline.updates=0")
    one = train_here(tmp_path / "one", *chosen, "online.steps=150")
    two = train_here(tmp_path / "two", *chosen, "online.steps=150")
    assert one["evaluation"] == two["evaluation"]
    assert one["evaluation"]["guide"]["success"]["mean"] is not None
