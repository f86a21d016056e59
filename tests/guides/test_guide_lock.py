"""The guide of the combination lock: how often it is right, and what it does otherwise."""

import numpy as np
import pytest
import torch
from small_runs import REACH, train_here

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.lock import combination_of
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.envs.registration import LOCK_ID
from jsrl.guides import GuideInputs
from jsrl.guides.lock import LockOptions, actions_of, make_lock

ROWS = 4000


def guide(horizon=4, actions=2, **options):
    settings = EnvSettings(LOCK_ID, {"horizon": horizon, "actions": actions})
    inputs = GuideInputs(describe_env(settings), [0, 1], torch.device("cpu"), settings)
    return make_lock(LockOptions("lock", **options), inputs)


def answers(made, state, horizon=4, streams=None):
    """What it does ``ROWS`` times in a state, as the second of two seeds."""
    seen = torch.zeros(2, ROWS, 2 * horizon + 1)
    seen[..., state] = 1
    mask = torch.tensor([[False], [True]]).expand(2, ROWS)
    return made.act(Observation(seen, {}), streams, mask)[1].numpy()


@pytest.mark.parametrize(
    ("options", "horizon", "actions", "expected"),
    [
        ({"quality": 0.7}, 4, 2, 0.7),
        ({"quality": 0.7, "otherwise": "random"}, 4, 2, 0.85),
        ({"quality": 0.4, "otherwise": "random"}, 4, 3, 0.6),
        ({"quality": 0.0625, "per": "episode"}, 4, 2, 0.5),
        ({"quality": 0.0, "per": "episode"}, 4, 3, 0.0),
        ({"quality": 0.0, "otherwise": "random"}, 4, 4, 0.25),
        ({}, 4, 2, 1.0),
    ],
)
def test_it_is_right_as_often_as_it_is_asked_to_be(options, horizon, actions, expected):
    made, combination = guide(horizon, actions, **options), combination_of(0, horizon, actions)
    for time, state in ((0, 0), (2, 2), (2, horizon + 2)):
        found = answers(made, state, horizon, Streams([0, 1]))
        share = (found == combination[time]).mean()
        assert share == pytest.approx(
            expected, abs=4 * 0.5 / np.sqrt(ROWS) if 0 < expected < 1 else 0
        )


def test_its_other_actions_are_drawn_evenly():
    right = combination_of(0, 4, 4)[1]
    for options, among in (({}, 3), ({"otherwise": "random"}, 4)):
        found = answers(guide(4, 4, quality=0.0, **options), 1, 4, Streams([0, 1]))
        counts = np.bincount(found, minlength=4)
        assert (counts[right] > 0) == (among == 4)
        np.testing.assert_allclose(counts[counts > 0] / ROWS, 1 / among, atol=0.04)


def test_without_draws_it_does_what_it_does_most():
    combination = combination_of(0, 4, 2)
    assert (answers(guide(quality=0.6), 3) == combination[3]).all()
    assert (answers(guide(quality=0.0), 3) != combination[3]).all()
    # Behind the last step there is nothing to do, and nothing to fail of.
    assert len(answers(guide(), 4)) == len(answers(guide(), 8)) == ROWS


@pytest.mark.parametrize("slip", [1e-7, 0.3, 1 - 1e-7, 1.0])
def test_the_largest_draw_still_gives_an_action(slip):
    draws = np.nextafter(np.array([slip, 1.0]), 0)
    found = actions_of(draws, np.array(slip), np.array(1), 3, wrong=True)
    assert set(found) <= {0, 1, 2} and found[0] == 2


def test_a_run_is_guided_by_it(tmp_path):
    chosen = ("env=lock", "env.kwargs.horizon=5", "guide=lock", "learner=dqn", "curriculum=jsrl")
    done = train_here(
        *(tmp_path / "run", *chosen, "env.max_episode_steps=null", "dataset=none"),
        *("offline.updates=0", "online.steps=100"),
    )
    assert done["evaluation"]["guide"]["success"]["mean"] == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quality": 1.5}, r"guide.quality=1.5 must lie in \[0, 1\]"),
        ({"quality": float("nan")}, "guide.quality=nan must be a finite number"),
        ({"per": "run"}, "guide.per='run' is unknown; choose one of step, episode"),
        ({"otherwise": "right"}, "guide.otherwise='right' is unknown; choose one of random, wrong"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        LockOptions("lock", **options).check()


def test_it_knows_no_combination_of_other_environments(tmp_path):
    with pytest.raises(
        UserError, match=r"guide=lock knows combinations of jsrl/lock-v0, and env.id"
    ):
        train_here(tmp_path / "run", *REACH, "dataset=none", "guide=lock", "offline.updates=0")
