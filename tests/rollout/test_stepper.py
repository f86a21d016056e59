"""The stepper: who acts in each row, who is asked, and what stands still."""

import fakes
import numpy as np
import pytest
import torch
from fakes import ACTION_SIZE, FakeGuide, FakePolicy
from hypothesis import given
from hypothesis import strategies as st

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.rollout.stepper import Stepper

CPU = torch.device("cpu")
STREAMS = Streams([0, 1])
ALONE = -1
"""The episode of an environment that only keeps others company."""


def make(guide_steps, episodes=None, env_id=fakes.COUNTING, guide=None, seeds=2):
    """A stepper in the first step of an episode of each environment."""
    settings = EnvSettings(env_id, {"lengths": (8,)})
    count = len(guide_steps)
    stepper = Stepper(Environments(settings, count), describe_env(settings), seeds, CPU)
    stepper.guide_steps[:] = guide_steps
    stepper.episodes[:] = range(count) if episodes is None else episodes
    stepper.begin(np.ones(count, bool), list(range(1, count + 1)), guide)
    return stepper


def own_actions(stepper, explorer):
    """What the policy would do in every row, by its mode, ``[N, A]`` or ``[N]``."""
    actions = explorer.act(stepper.observation.arranged(*stepper.shape), None)
    return actions.flatten(0, 1).numpy()


@given(
    guide_steps=st.lists(st.integers(0, 5), min_size=4, max_size=4),
    company=st.lists(st.booleans(), min_size=4, max_size=4),
    chooses=st.booleans(),
)
def test_each_row_holds_the_action_of_whoever_acts_in_it(guide_steps, company, chooses):
    """Against a rule that is written down once more, row by row."""
    episodes = [ALONE if alone else 3 + row for row, alone in enumerate(company)]
    guide, explorer = FakeGuide(chooses=chooses), FakePolicy(chooses=chooses)
    env_id = fakes.CHOOSING if chooses else fakes.COUNTING
    stepper = make(guide_steps, episodes, env_id, guide)
    guided = 3 if chooses else 0.5
    for time in range(6):
        own, seen = own_actions(stepper, explorer), stepper.observation
        asked_before, called_before = len(explorer.calls), len(guide.calls)
        moment, step = stepper.step(explorer, guide, STREAMS, explores=False)
        by_guide = [not company[row] and time < guide_steps[row] for row in range(4)]
        explorer_needed = any(not company[row] and not by_guide[row] for row in range(4))
        for row in range(4):
            if by_guide[row]:
                assert (moment.actions[row] == guided).all()
            elif not company[row]:
                assert np.array_equal(moment.actions[row], own[row])
        assert moment.by_guide.tolist() == by_guide
        assert moment.counts.tolist() == [not alone for alone in company]
        assert moment.times.tolist() == [time] * 4 and moment.episodes.tolist() == episodes
        assert moment.observation is seen and step.observation is stepper.observation
        assert len(explorer.calls) - asked_before == explorer_needed
        assert len(guide.calls) - called_before == any(by_guide)
        if any(by_guide):
            assert guide.calls[-1][1].flatten().tolist() == by_guide


def test_who_explores_is_asked_at_every_step_and_draws_from_the_streams():
    explorer, guide = FakePolicy(), FakeGuide()
    stepper = make([3, 3, 3, 3], guide=guide)
    for time in range(5):
        moment, _ = stepper.step(explorer, guide, Streams([0, 1]), explores=True)
        assert len(explorer.calls) == time + 1
        assert moment.by_guide.all() == (time < 3)
        assert (moment.actions == 0.5).all() == (time < 3)
    quiet = own_actions(make([0] * 4), FakePolicy())
    for explores in (False, True):
        moment, _ = make([0] * 4).step(FakePolicy(), None, Streams([0, 1]), explores=explores)
        assert np.array_equal(moment.actions, quiet) != explores


def test_evaluation_asks_the_explorer_only_where_a_row_needs_it():
    explorer, guide = FakePolicy(), FakeGuide()
    # The last row needs nobody, and so does not bring the explorer in.
    stepper = make([2, 2, 3, 0], [0, 1, 2, ALONE], guide=guide)
    asked = []
    for _ in range(4):
        stepper.step(explorer, guide, STREAMS, explores=False)
        asked.append((len(explorer.calls), len(guide.calls)))
    assert asked == [(0, 1), (0, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize("env_id", [fakes.COUNTING, fakes.CHOOSING])
def test_where_nobody_acts_the_environments_are_stepped_idly(env_id):
    stepper = make([4] * 4, env_id=env_id)
    moment, step = stepper.step(None, None, STREAMS, explores=False)
    kind = np.int64 if env_id == fakes.CHOOSING else np.float32
    assert moment.actions.dtype == kind and (moment.actions == 0).all()
    assert not moment.by_guide.any()
    assert step.observation.vector[:, 1].tolist() == [1] * 4


class Given:
    """A policy and guide that answers these actions, ``[S, E, A]``."""

    def __init__(self, actions):
        self.actions = actions

    def act(self, obs, streams, mask=None):
        assert isinstance(obs, Observation)
        return self.actions


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_stand_still_and_their_seed_is_known(wrong):
    actions = torch.full((2, 3, ACTION_SIZE), 0.25)
    actions[1, 2, 1] = wrong
    stepper = make([0] * 6)
    moment, step = stepper.step(Given(actions), None, STREAMS, explores=True)
    assert moment.actions[:5].tolist() == [[0.25, 0.25]] * 5
    # All of the row, not only the number that is wrong.
    assert moment.actions[5].tolist() == [0.0, 0.0]
    assert step.observation.vector[:, 2].tolist() == [0.5] * 5 + [0.0]
    assert stepper.non_finite.tolist() == [False, True]
    stepper.step(FakePolicy(), None, STREAMS, explores=True)
    assert stepper.non_finite.tolist() == [False, True]


def test_an_explorer_that_is_not_finite_where_the_guide_acts_harms_nobody():
    stepper, guide = make([5, 5, 0, 0], guide=FakeGuide()), FakeGuide()
    actions = torch.full((2, 2, ACTION_SIZE), 0.25)
    actions[0] = torch.nan
    moment, _ = stepper.step(Given(actions), guide, STREAMS, explores=True)
    assert moment.actions[:, 0].tolist() == [0.5, 0.5, 0.25, 0.25]
    assert stepper.non_finite.tolist() == [False, False]


def test_clocks_returns_and_ends_are_those_of_the_episodes():
    stepper = make([0, 0, 0, 0])
    actions = torch.full((2, 2, ACTION_SIZE), 0.5)
    for time in range(1, 9):
        stepper.step(Given(actions), None, STREAMS, explores=True)
        assert stepper.clock.tolist() == [time] * 4
        # A reward is the clock and the action's first number.
        assert stepper.returns.tolist() == [time * (time + 1) / 2 + time / 2] * 4
        assert stepper.ended.tolist() == [time == 8] * 4
        assert stepper.successes.tolist() == [float(time == 8)] * 4
    only_first = np.array([True, False, False, False])
    stepper.begin(only_first, [7, 0, 0, 0], None)
    assert stepper.clock.tolist() == [0, 8, 8, 8]
    assert stepper.returns.tolist() == [0.0, 40.0, 40.0, 40.0]
    assert stepper.ended.tolist() == [False, True, True, True]
    assert stepper.observation.vector[:, 1].tolist() == [0, 8, 8, 8]


def test_the_guide_is_told_of_the_episodes_that_begin():
    guide = FakeGuide()
    stepper = make([1] * 4, guide=guide)
    stepper.begin(np.array([False, True, True, False]), [0, 5, 6, 0], guide)
    assert [mask.tolist() for mask in guide.resets] == [
        [[True, True], [True, True]],
        [[False, True], [True, False]],
    ]


def test_whoever_watches_is_told_what_was_seen_and_done():
    told, inside = [], []

    class Watcher:
        def begin_step(self):
            return self

        def __enter__(self):
            inside.append(True)

        def __exit__(self, *error):
            inside.append(False)

        def acted(self, moment):
            told.append(moment)

        def restart(self):
            raise AssertionError("no evaluation began")

    stepper = make([1, 1, 0, 0], guide=FakeGuide())
    stepper.observer = Watcher()
    moments = [stepper.step(FakePolicy(), FakeGuide(), STREAMS, explores=True)[0] for _ in range(3)]
    for one, other in zip(told, moments, strict=True):
        assert one.observation is other.observation
        for name in ("actions", "episodes", "times", "by_guide", "stages", "counts"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert inside == [True, False] * 3
