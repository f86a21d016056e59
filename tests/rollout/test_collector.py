"""The collector: who acts when, what is stored, and how it resumes."""

import fakes
import numpy as np
import pytest
import torch
from collected import (
    assert_equal,
    assert_resumes_bitwise,
    make,
    run,
    through_a_file,
    together,
)
from fakes import ACTION_SIZE, CountingEnv, FakeGuide, FakePolicy, FixedSteps
from hypothesis import given, settings
from hypothesis import strategies as st

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.jumpstart.curricula import RandomCurriculum
from jsrl.rollout.transition_store import TransitionStore

CPU = torch.device("cpu")
START, CLOCK, TOTAL = range(3)
"""Columns of the fake environment's observation."""
POINTMAZE = EnvSettings("PointMaze_UMaze-v3", {"continuing_task": False}, max_episode_steps=20)


def counting(**kwargs):
    return EnvSettings(fakes.COUNTING, kwargs)


@settings(max_examples=40)
@given(
    steps=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    num_envs=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=3),
)
def test_the_guide_acts_in_exactly_the_first_h_steps_of_every_episode(steps, num_envs, lengths):
    seeds, guide = list(range(len(steps))), FakeGuide()
    collector = make(seeds, num_envs, counting(lengths=tuple(lengths)))
    rows, episodes = run(collector, 25, FakePolicy(), guide, [FixedSteps(h) for h in steps])
    own_clock = rows.seen[..., CLOCK]
    h = torch.tensor(steps).view(1, -1, 1)
    assert torch.equal(rows.by_guide, own_clock < h)
    assert guide.rows() == rows.by_guide.sum()
    for episode in episodes:
        assert episode.guide_steps == min(steps[episode.seed_index], episode.length)
    if not any(steps):
        assert guide.calls == []


def test_the_guide_is_asked_for_its_own_rows_with_the_observations_of_that_step():
    guide = FakeGuide()
    collector = make([0, 1], 2, counting(lengths=(2, 5)))
    rows, _ = run(collector, 15, FakePolicy(), guide, [FixedSteps(2), FixedSteps(4)])
    asked = rows[rows.by_guide.any((1, 2))]
    assert len(asked.by_guide) == len(guide.calls)
    for by_guide, seen, (observations, mask) in zip(
        asked.by_guide, asked.seen, guide.calls, strict=True
    ):
        assert torch.equal(mask, by_guide)
        assert torch.equal(observations, seen)


def test_each_row_holds_the_action_of_whoever_acted():
    policy, guide = FakePolicy(noise=0.0), FakeGuide(answer=0.5)
    rows, _ = run(make([0, 1], 2, counting()), 12, policy, guide, [FixedSteps(2)] * 2)
    by_guide = rows.by_guide
    own = torch.stack([policy.act(Observation(seen), None) for seen in rows.seen])
    assert torch.equal(rows.action[by_guide], torch.full((int(by_guide.sum()), 2), 0.5))
    assert torch.equal(rows.action[~by_guide], own[~by_guide])
    # What was stored is what was executed: the environment adds its actions up.
    moved = rows.next_observation.vector[..., TOTAL] - rows.seen[..., TOTAL]
    torch.testing.assert_close(moved, rows.action.sum(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("env_id", [fakes.COUNTING, fakes.PICTURED, fakes.CHOOSING])
def test_what_was_collected_is_what_a_store_gives_back(env_id):
    env_settings = EnvSettings(env_id, {"lengths": (2, 3, 7)})
    spec, chooses = describe_env(env_settings), env_id == fakes.CHOOSING
    store = TransitionStore(
        spec.observation,
        spec.actions,
        num_seeds=2,
        num_envs=3,
        capacity=60,
        discount=0.5,
        device=CPU,
    )
    collector, policy = make([0, 1], 3, env_settings), FakePolicy(chooses=chooses)
    guide, curricula = FakeGuide(chooses=chooses), [FixedSteps(1, stage=2), FixedSteps(3, stage=5)]

    class Watched:
        """The same collector, whose steps go into the store too."""

        guide_steps = collector.guide_steps

        def step(self, *arguments):
            taken = collector.step(*arguments)
            store.add(*taken[:2])
            return taken

    rows, _ = run(Watched(), 20, policy, guide, curricula)
    batch = store.sample(torch.arange(60).expand(2, -1))
    expected = {
        "action": rows.action,
        "reward": rows.reward,
        "discount": 0.5 * ~rows.terminated,
        "terminated": rows.terminated.float(),
        "truncated": rows.truncated.float(),
        "by_guide": rows.by_guide.float(),
        "share": (~rows.by_guide).float(),
        "stage": rows.stage.float(),
    }
    for name, tensor in expected.items():
        assert torch.equal(getattr(batch, name), tensor.transpose(0, 1).flatten(1, 2)), name
    for name in ("observation", "next_observation"):
        mine = getattr(batch, name)
        theirs = getattr(rows, name).for_each(lambda t: t.transpose(0, 1).flatten(1, 2))
        assert torch.equal(mine.vector, theirs.vector)
        assert mine.images.keys() == theirs.images.keys()
        assert all(torch.equal(mine.images[k], theirs.images[k]) for k in mine.images)


def test_the_exploration_policy_is_asked_at_every_step():
    policy = FakePolicy()
    run(make([0], 2, counting()), 7, policy, FakeGuide(), [FixedSteps(9)])
    assert len(policy.calls) == 7


def test_without_a_guide_nobody_else_acts_whatever_the_curriculum_says():
    rows, episodes = run(make([0], 2, counting()), 8, FakePolicy(), None, [FixedSteps(4)])
    assert rows.by_guide.sum() == 0
    assert {episode.guide_steps for episode in episodes} == {0}


def test_every_environment_has_a_clock_of_its_own():
    collector = make([0, 1], 3, counting(lengths=(2, 3, 7)))
    rows, episodes = run(collector, 30, FakePolicy(), FakeGuide(), [FixedSteps(1)] * 2)
    ended = rows.ended
    clocks = np.zeros((2, 3))
    for seen, over in zip(rows.seen, ended, strict=True):
        assert np.array_equal(seen[..., CLOCK].numpy(), clocks)
        clocks = np.where(over.numpy(), 0, clocks + 1)
    assert len({tuple(over.flatten().tolist()) for over in ended}) > 3
    assert len(episodes) == ended.sum()


def test_h_and_stage_are_drawn_at_an_episodes_start_and_kept_to_its_end():
    collector, guide = make([0], 1, counting(lengths=(6,))), FakeGuide()
    first, _ = run(collector, 2, FakePolicy(), guide, [FixedSteps(4, stage=0)])
    # The curriculum moves on in the middle of the episode.
    rest, _ = run(collector, 10, FakePolicy(), guide, [FixedSteps(1, stage=1)])
    rows = together([first, rest])[:, 0, 0]
    assert rows.by_guide.tolist() == [1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    assert rows.stage.tolist() == [0] * 6 + [1] * 6
    assert collector.guide_steps.tolist() == [[1]]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_the_last_observation_of_an_episode_is_its_own_and_not_the_next_ones(end):
    rows, _ = run(make([0], 1, counting(end=end)), 11, FakePolicy(), None, [FixedSteps(0)])
    rows = rows[:, 0, 0]
    seen, successors = rows.seen, rows.next_observation.vector
    assert successors[:, CLOCK].tolist() == [1, 2, 3, 4, 5] * 2 + [1]
    assert seen[:, CLOCK].tolist() == [0, 1, 2, 3, 4] * 2 + [0]
    assert seen[4, START] == successors[4, START]
    assert seen[5, START] != successors[4, START]
    other = FLAGS[1 - FLAGS.index(end)]
    assert getattr(rows, end).tolist() == [0, 0, 0, 0, 1] * 2 + [0]
    assert getattr(rows, other).sum() == 0


FLAGS = ("terminated", "truncated")


def test_the_time_limit_truncates_and_does_not_terminate():
    rows, episodes = run(
        make([0], 1, counting(lengths=(50,))), 9, FakePolicy(), None, [FixedSteps(0)]
    )
    assert rows.truncated[:, 0, 0].tolist() == [0] * 8 + [1]
    assert rows.terminated.sum() == 0
    assert [episode.length for episode in episodes] == [fakes.TIME_LIMIT]


def test_an_episodes_reset_seed_follows_from_seed_environment_and_episode():
    CountingEnv.made.clear()
    collector = make([3, 8], 2, counting(lengths=(2, 3)))
    run(collector, 12, FakePolicy(), None, [FixedSteps(0)] * 2)
    environments = [env for env in CountingEnv.made if env.reset_seeds]
    assert len(environments) == 4
    for index, environment in enumerate(environments):
        streams = Streams([(3, 8)[index // 2]]).child("collector")
        expected = [
            streams.integer("reset", index % 2, episode)[0]
            for episode in range(len(environment.reset_seeds))
        ]
        assert environment.reset_seeds == expected
        assert len(expected) >= 4


def test_finished_episodes_are_reported_with_return_success_length_and_guide_steps():
    collector = make([0, 1], 1, counting(lengths=(3,)))
    rows, episodes = run(collector, 3, FakePolicy(), FakeGuide(), [FixedSteps(1), FixedSteps(7)])
    assert [episode.seed_index for episode in episodes] == [0, 1]
    for index, episode in enumerate(episodes):
        paid = rows.reward[:, index, 0].double().sum().item()
        assert episode.episode_return == pytest.approx(paid)
        assert (episode.success, episode.length) == (1.0, 3)
    assert [episode.guide_steps for episode in episodes] == [1, 3]


@pytest.mark.parametrize(("succeeds", "expected"), [(True, 1.0), (False, 0.0), (None, 0.0)])
def test_an_episode_in_which_no_step_says_so_has_not_succeeded(succeeds, expected):
    collector = make([0], 1, counting(lengths=(2,), succeeds=succeeds))
    _, episodes = run(collector, 4, FakePolicy(), None, [FixedSteps(0)])
    assert [episode.success for episode in episodes] == [expected, expected]


def test_success_is_none_where_no_key_is_set():
    settings = EnvSettings(fakes.COUNTING, {"lengths": (2,)}, success_key=None)
    _, episodes = run(make([0], 1, settings), 4, FakePolicy(), None, [FixedSteps(0)])
    assert [episode.success for episode in episodes] == [None, None]


def test_a_time_limit_that_no_episode_comes_near_costs_nothing_and_replays():
    """The history of actions is as long as the longest episode, however often it had to grow."""
    lengths, steps = (2500,), 2300
    settings = EnvSettings(fakes.COUNTING, {"lengths": lengths}, max_episode_steps=10**12)
    collector = make([0], 2, settings)
    run(collector, steps, FakePolicy(), None, [FixedSteps(0)])
    state = through_a_file(collector.state_dict())
    assert state["history"].shape == (2, steps, ACTION_SIZE)
    resumed = make([0], 2, settings)
    assert resumed.load_state_dict(state, None) == []
    policy = FakePolicy()
    expected, ended = run(collector, 300, policy, None, [FixedSteps(0)])
    found, ended_too = run(resumed, 300, policy, None, [FixedSteps(0)])
    assert_equal(expected, found)
    assert [e.length for e in ended] == [e.length for e in ended_too] == [2500, 2500]


def test_a_seed_collects_bitwise_the_same_alone_and_in_company():
    curriculum = RandomCurriculum((5, 3, 2, 0))
    collected = {}
    for seeds in ([0, 1, 2], [2]):
        collector = make(seeds, 3, counting(lengths=(2, 4, 6)))
        guide = FakeGuide(noise=0.2)
        rows, _ = run(collector, 40, FakePolicy(), guide, [curriculum] * len(seeds))
        collected[len(seeds)] = rows
    assert_equal(collected[3][:, 2:], collected[1])
    assert 0 < collected[1].by_guide.float().mean() < 1
    assert not torch.equal(collected[3].action[:, 0], collected[3].action[:, 1])


def test_random_guide_steps_belong_to_environment_and_episode():
    curriculum = RandomCurriculum(tuple(range(9)))
    short, long = (make([4], 2, counting(lengths=(n,))) for n in (2, 3))
    drawn = []
    for collector, length in ((short, 2), (long, 3)):
        steps = []
        for _ in range(6):
            run(collector, length, FakePolicy(), FakeGuide(), [curriculum])
            steps.append(collector.guide_steps[0].tolist())
        drawn.append(steps)
    assert drawn[0] == drawn[1]
    assert len({tuple(pair) for pair in drawn[0]}) > 3


def test_a_policy_that_is_not_finite_stands_still_and_is_reported_and_others_notice_nothing():
    healthy, broken = (make([0, 1, 2], 2, counting(lengths=(3, 4))) for _ in range(2))
    expected, _ = run(healthy, 10, FakePolicy(), None, [FixedSteps(0)] * 3)
    rows, _ = run(broken, 10, FakePolicy(broken=1), None, [FixedSteps(0)] * 3)
    assert rows.action[:, 1].abs().sum() == 0
    assert rows.action.isfinite().all() and rows.reward.isfinite().all()
    assert rows.seen.isfinite().all() and rows.next_observation.vector.isfinite().all()
    assert_equal(rows[:, [0, 2]], expected[:, [0, 2]])
    assert broken.non_finite.tolist() == [False, True, False]
    assert healthy.non_finite.tolist() == [False, False, False]


TWO_RANDOM = [RandomCurriculum((4, 2, 0))] * 2


@pytest.mark.parametrize("cut", range(1, 13))
def test_collecting_resumes_bitwise_in_the_middle_of_episodes(cut):
    assert_resumes_bitwise(
        counting(lengths=(2, 3, 7)),
        cut,
        TWO_RANDOM,
        FakePolicy,
        lambda: FakeGuide(noise=0.2, stateful=True),
        num_envs=3,
    )


@pytest.mark.parametrize("cut", [7, 20, 33])
def test_collecting_in_a_real_maze_resumes_bitwise(cut):
    assert_resumes_bitwise(
        POINTMAZE, cut, TWO_RANDOM, FakePolicy, lambda: FakeGuide(noise=0.2), further=30
    )


@pytest.mark.parametrize("cut", range(1, 13))
def test_collecting_images_resumes_bitwise(cut):
    rows = assert_resumes_bitwise(
        EnvSettings(fakes.PICTURED, {"lengths": (2, 3, 7)}),
        cut,
        TWO_RANDOM,
        FakePolicy,
        lambda: FakeGuide(noise=0.2, stateful=True),
    )
    # The picture shows the sum of all actions, also of those before the cut.
    seen, then = (
        fakes.told_by(o.images["picture"]) for o in (rows.observation, rows.next_observation)
    )
    moved = rows.action.double().sum(-1).numpy()
    np.testing.assert_allclose(then[..., TOTAL] - seen[..., TOTAL], moved, atol=1e-5)
    np.testing.assert_array_equal(seen[..., CLOCK], rows.seen[..., 1])


@pytest.mark.parametrize("cut", range(1, 13))
def test_collecting_choices_resumes_bitwise(cut):
    rows = assert_resumes_bitwise(
        EnvSettings(fakes.CHOOSING, {"lengths": (2, 3, 7)}),
        cut,
        TWO_RANDOM,
        lambda: FakePolicy(noise=0.9, chooses=True),
        lambda: FakeGuide(noise=0.9, stateful=True, chooses=True),
    )
    assert rows.action.dtype == torch.int64
    assert set(rows.action.flatten().tolist()) == set(range(fakes.CHOICES))
    moved = rows.next_observation.vector[..., TOTAL] - rows.seen[..., TOTAL]
    assert torch.equal(moved, rows.action.float())


def test_an_environment_that_replays_in_its_vector_but_not_in_its_image_is_reported():
    env_settings = EnvSettings(fakes.PICTURED, {"lengths": (6,), "strays": True})
    collector = make([0], 2, env_settings)
    run(collector, 3, FakePolicy(), None, [FixedSteps(0)])
    state = through_a_file(collector.state_dict())
    resumed = make([0], 2, env_settings)
    assert resumed.load_state_dict(state, None) == [0, 1]


def test_what_was_reported_before_a_resume_is_known_after_it():
    collector = make([0, 1], 1, counting())
    run(collector, 2, FakePolicy(broken=1), None, [FixedSteps(0)] * 2)
    resumed = make([0, 1], 1, counting())
    resumed.load_state_dict(through_a_file(collector.state_dict()), None)
    assert resumed.non_finite.tolist() == [False, True]


def test_an_environment_that_does_not_replay_is_reported_and_begins_anew():
    env_settings = counting(lengths=(3, 5), strays=True)
    collector = make([0], 3, env_settings)
    curricula = [FixedSteps(1)]
    while True:
        rows, _ = run(collector, 1, FakePolicy(), FakeGuide(), curricula)
        over = rows.ended[0, 0]
        if over.any() and not over.all():
            break
    resumed = make([0], 3, env_settings)
    strayed = resumed.load_state_dict(through_a_file(collector.state_dict()), FakeGuide())
    assert strayed == (~over).nonzero().flatten().tolist()
    rows, _ = run(resumed, 6, FakePolicy(), FakeGuide(), curricula)
    assert (rows.seen[0, 0, :, CLOCK] == 0).all()


def test_an_environment_that_ends_early_on_replay_is_reported():
    collector = make([0], 2, counting(lengths=(6,)))
    run(collector, 5, FakePolicy(), None, [FixedSteps(0)])
    resumed = make([0], 2, counting(lengths=(3,)))
    assert resumed.load_state_dict(through_a_file(collector.state_dict()), None) == [0, 1]


def test_a_saved_state_does_not_change_as_collecting_goes_on():
    collector = make([0], 2, counting())
    run(collector, 3, FakePolicy(), FakeGuide(), [FixedSteps(2)])
    state = collector.state_dict()
    before = through_a_file(state)
    run(collector, 4, FakePolicy(), FakeGuide(), [FixedSteps(2)])
    for name, value in before.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(9), state[name].nan_to_num(9)), name
