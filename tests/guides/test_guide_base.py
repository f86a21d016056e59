"""The view of a guide, and the guard on what it answers, by hand-computed values and fakes."""

import dataclasses

import numpy as np
import pytest
import torch
from guide_cases import SPEC, observations

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.guides import ForeignGuide, GuideView


class Recorder:
    """A fake policy that keeps its calls and answers with a constant, or what it is given."""

    def __init__(self, answer=None):
        self.calls = []
        self.answer = answer

    def __call__(self, rows, seed_index, generator):
        self.calls.append((rows.copy(), seed_index, generator))
        if self.answer is not None:
            return self.answer
        return np.tanh(rows[:, :2])


def foreign(policy, view=None, seeds=2, spec=SPEC):
    return ForeignGuide(policy, view or GuideView(), spec, seeds, "fake", "0")


def everyone(seeds, environments):
    return torch.ones(seeds, environments, dtype=torch.bool)


def test_view_selects_parts_and_columns_in_the_order_given_then_normalises():
    view = GuideView(observation=("observation", 1), mean=(1, 1, 1, 10), std=(1, 2, 4, 0.5))
    observed = view.bind(SPEC).observe(Observation(torch.tensor([[10.0, 11.0, 2.0, 3.0, 5.0]])))
    assert observed.vector.tolist() == [[1.0, 1.0, 1.0, 2.0]]


def test_one_number_normalises_every_column():
    view = GuideView(mean=1.0, std=2.0).bind(SPEC)
    observed = view.observe(Observation(torch.tensor([[1.0, 3, 5, 7, 9]])))
    assert observed.vector.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0]]


def test_actions_are_mapped_from_the_guides_own_range():
    view = GuideView(action_low=(0.0, -4.0), action_high=(2.0, 4.0)).bind(SPEC)
    answers = torch.tensor([[0.0, -4.0], [1.0, 0.0], [2.0, 2.0]])
    assert view.respond(answers, "g").tolist() == [[-1.0, -1.0], [0.0, 0.0], [1.0, 0.5]]


def test_the_default_range_changes_no_bit():
    answers = observations(1, 50, 2).vector[0].clamp(-1, 1)
    assert torch.equal(GuideView().bind(SPEC).respond(answers, "g"), answers)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (GuideView(observation=("velocity",)), ["guide.observation", "velocity", "desired_goal"]),
        (GuideView(observation=(5,)), ["guide.observation", "5 is none of the 5 columns"]),
        (GuideView(observation=()), ["guide.observation", "empty"]),
        (GuideView(mean=(0.0,) * 4), ["guide.mean", "4", "5"]),
        (GuideView(std=(1.0,) * 6), ["guide.std", "6", "5"]),
        (GuideView(std=0.0), ["guide.std", "positive"]),
        (GuideView(mean=float("nan")), ["guide.mean", "finite"]),
        (GuideView(action_low=(-1.0,) * 3, action_high=1.0), ["guide.action_low", "3", "2"]),
        (GuideView(action_low=-2.0), ["guide.action_low=-2", "without guide.action_high"]),
        (GuideView(action_high=2.0), ["guide.action_high=2", "without guide.action_low"]),
        (GuideView(action_low="x", action_high=1), ["guide.action_low", "number"]),
        (GuideView(action_low=1.0, action_high=1.0), ["guide.action_low", "below"]),
    ],
)
def test_a_view_that_does_not_fit_names_its_key(view, words):
    with pytest.raises(UserError) as caught:
        view.bind(SPEC)
    assert all(word in str(caught.value) for word in words)


def test_an_empty_mask_means_no_call_at_all():
    fake = Recorder()
    guide = foreign(fake)
    actions = guide.act(observations(2, 3), Streams([0, 1]), torch.zeros(2, 3, dtype=torch.bool))
    assert fake.calls == []
    assert torch.equal(actions, torch.zeros(2, 3, 2))


def test_one_call_for_each_seed_with_rows_and_only_these_rows():
    fake = Recorder()
    obs = observations(3, 4)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 1] = mask[2, 0] = mask[2, 3] = True
    obs.vector[~mask] = float("nan")
    actions = foreign(fake, seeds=3).act(obs, None, mask)
    assert [seed for _, seed, _ in fake.calls] == [0, 2]
    assert fake.calls[1][0].dtype == np.float32
    np.testing.assert_array_equal(fake.calls[1][0], obs.vector[2, [0, 3]].numpy())
    assert torch.equal(actions[mask], torch.tanh(obs.vector[mask][:, :2]))
    assert torch.equal(actions[~mask], torch.zeros(9, 2))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.full((3, 2), np.nan), ["nan", "action 0", "[-1, 1]"]),
        (np.array([[0, 0], [0, np.inf], [0, 0]]), ["inf", "action 1"]),
        (np.array([[0, 0], [0, 1e300], [0, 0]]), ["inf", "action 1"]),
        (np.array([[0, 0], [0, 1.5], [0, 0]]), ["1.5", "[-1, 1]", "guide.action_low"]),
        (np.array([[0, 0], [0, -1.001], [0, 0]]), ["-1.001", "[-1, 1]"]),
        (np.zeros((3, 3)), ["(3, 3)", "(3, 2)"]),
        (np.zeros(6), ["(6,)", "(3, 2)"]),
        (np.zeros((1, 2)), ["(1, 2)", "(3, 2)"]),
        ((np.zeros((3, 2)), None), ["tuple", "(3, 2)", "guide=sb3"]),
        ("left", ["str", "(3, 2)"]),
        ([[0.0], [0.0, 1.0], []], ["list", "(3, 2)"]),
    ],
)
def test_a_wrong_answer_stops_with_a_message_that_says_what_and_what_was_expected(answer, words):
    with pytest.raises(UserError) as caught:
        foreign(Recorder(answer)).act(observations(2, 3), None, everyone(2, 3))
    message = str(caught.value)
    assert "guide fake" in message
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_the_message_speaks_in_the_guides_own_range():
    view = GuideView(action_low=0.0, action_high=10.0)
    with pytest.raises(UserError, match=r"returned 12 .*\[0, 10\]"):
        foreign(Recorder(np.full((3, 2), 12.0)), view).act(observations(2, 3), None, everyone(2, 3))


def test_only_what_rounding_carried_outside_is_clipped():
    guide = foreign(Recorder(np.array([[1.00005, -1.00005]])), seeds=1)
    assert guide.act(observations(1, 1), None, everyone(1, 1)).tolist() == [[[1.0, -1.0]]]


def test_torch_answers_and_lists_are_taken_too():
    answer = torch.tensor([[0.5, 0.25]], requires_grad=True)
    for form in (answer, answer.tolist()):
        actions = foreign(Recorder(form), seeds=1).act(observations(1, 1), None, everyone(1, 1))
        assert actions.tolist() == [[[0.5, 0.25]]]


class Noisy:
    stochastic = True

    def __call__(self, rows, seed_index, generator):
        if generator is None:
            return np.zeros((len(rows), 2))
        return generator.uniform(-1, 1, (len(rows), 2))


def test_a_seeds_draws_are_its_own_and_continue_from_the_saved_state():
    obs, mask = observations(2, 3), everyone(2, 3)
    together, alone = Streams([4, 7]), Streams([7])
    guide, single = foreign(Noisy()), foreign(Noisy(), seeds=1)
    first = guide.act(obs, together, mask)
    saved = together.state_dict()
    only_first = torch.tensor([[True] * 3, [False] * 3])
    guide.act(obs, together, only_first)  # the other seed draws nothing here
    second = guide.act(obs, together, mask)
    assert torch.equal(first[1], single.act(obs[1:], alone, mask[1:])[0])
    assert torch.equal(second[1], single.act(obs[1:], alone, mask[1:])[0])
    assert not torch.equal(first[1], second[1])
    resumed = Streams([4, 7])
    resumed.load_state_dict(saved)
    guide.act(obs, resumed, only_first)
    assert torch.equal(guide.act(obs, resumed, mask), second)


def test_without_streams_a_stochastic_guide_is_asked_for_its_mode():
    actions = foreign(Noisy()).act(observations(2, 3), None, everyone(2, 3))
    assert torch.equal(actions, torch.zeros(2, 3, 2))


class Counter:
    """A policy with memory: action 0 is the number of steps since the row's reset, over 10."""

    stateful = True

    def __init__(self):
        self.steps = {}

    def reset(self, rows):
        self.steps.update(dict.fromkeys(rows.tolist(), 0))

    def __call__(self, observations, seed_index, generator, rows):
        out = np.zeros((len(rows), 2))
        for i, row in enumerate(rows.tolist()):
            self.steps[row] += 1
            out[i, 0] = self.steps[row] / 10
        return out


def test_memory_is_kept_for_each_row_of_each_seed():
    guide = foreign(Counter())
    guide.reset(everyone(2, 3))
    obs, some = observations(2, 3), torch.tensor([[True, False, True], [False, True, False]])
    guide.act(obs, None, some)
    guide.reset(torch.tensor([[True, False, False], [False, False, False]]))
    steps = guide.act(obs, None, everyone(2, 3))[..., 0]
    torch.testing.assert_close(steps, torch.tensor([[0.1, 0.1, 0.2], [0.1, 0.2, 0.1]]))


def test_memory_without_a_reset_is_refused():
    class Forgetful(Recorder):
        stateful = True

    with pytest.raises(UserError, match="reset"):
        foreign(Forgetful())


def test_the_fingerprint_follows_policy_and_view():
    prints = {
        foreign(Recorder()).fingerprint,
        foreign(Recorder(), GuideView(mean=1.0)).fingerprint,
        ForeignGuide(Recorder(), GuideView(), SPEC, 2, "fake", "1").fingerprint,
    }
    assert len(prints) == 3
    assert foreign(Recorder()).fingerprint in prints


def test_the_view_is_plain_and_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GuideView().mean = 1.0
