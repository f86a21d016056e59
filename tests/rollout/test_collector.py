"""The collector: who acts when, what is stored, and how it resumes."""

import io

import fakes
import numpy as np
import pytest
import torch
from fakes import ACTION_SIZE, CountingEnv, FakeGuide, FakePolicy, FixedSteps
from hypothesis import given, settings
from hypothesis import strategies as st

from jsrl.core.streams import Streams
from jsrl.core.transitions import Batch, TransitionLayout
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.jumpstart.curricula import RandomCurriculum
from jsrl.rollout.collector import Collector

CPU = torch.device("cpu")
LAYOUT = TransitionLayout(fakes.OBSERVATION_SIZE, ACTION_SIZE)
START, CLOCK, TOTAL = range(3)
"""Columns of the fake environment's observation."""
POINTMAZE = EnvSettings("PointMaze_UMaze-v3", {"continuing_task": False}, max_episode_steps=20)


def counting(**kwargs):
    return EnvSettings(fakes.COUNTING, kwargs)


def make(seeds, num_envs, env_settings):
    return Collector(
        Environments(env_settings, len(seeds) * num_envs),
        describe_env(env_settings),
        num_envs,
        Streams(seeds).child("collector"),
        CPU,
    )


def run(collector, steps, policy, guide, curricula):
    """The transitions of all steps ``[T, S, E, width]`` and the episodes that ended."""
    rows, episodes = [], []
    for _ in range(steps):
        latest, ended = collector.step(policy, guide, curricula)
        rows.append(torch.from_numpy(latest.copy()))
        episodes += ended
    return torch.stack(rows), episodes


def fields(rows):
    """The rows as a batch whose fields are ``[T, S·E, …]``."""
    return Batch(rows.flatten(1, 2), LAYOUT)


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
    own_clock = rows[..., CLOCK]
    h = torch.tensor(steps).view(1, -1, 1)
    assert torch.equal(rows[..., LAYOUT.by_guide], (own_clock < h).float())
    assert guide.rows() == rows[..., LAYOUT.by_guide].sum()
    for episode in episodes:
        assert episode.guide_steps == min(steps[episode.seed_index], episode.length)
    if not any(steps):
        assert guide.calls == []


def test_the_guide_is_asked_for_its_own_rows_with_the_observations_of_that_step():
    guide = FakeGuide()
    collector = make([0, 1], 2, counting(lengths=(2, 5)))
    rows, _ = run(collector, 15, FakePolicy(), guide, [FixedSteps(2), FixedSteps(4)])
    asked = [step for step in rows if step[..., LAYOUT.by_guide].any()]
    assert len(asked) == len(guide.calls)
    for step, (observations, mask) in zip(asked, guide.calls, strict=True):
        assert torch.equal(mask, step[..., LAYOUT.by_guide].bool())
        assert torch.equal(observations, step[..., :3])


def test_each_row_holds_the_action_of_whoever_acted():
    policy, guide = FakePolicy(noise=0.0), FakeGuide(answer=0.5)
    rows, _ = run(make([0, 1], 2, counting()), 12, policy, guide, [FixedSteps(2)] * 2)
    by_guide = rows[..., LAYOUT.by_guide].bool()
    own = torch.stack([policy.act(step[..., :3], None) for step in rows])
    assert torch.equal(rows[by_guide][:, LAYOUT.action], torch.full((int(by_guide.sum()), 2), 0.5))
    assert torch.equal(rows[~by_guide][:, LAYOUT.action], own[~by_guide])
    # What was stored is what was executed: the environment adds its actions up.
    moved = rows[..., LAYOUT.next_observation][..., TOTAL] - rows[..., TOTAL]
    torch.testing.assert_close(moved, rows[..., LAYOUT.action].sum(-1), atol=1e-5, rtol=0)


def test_the_exploration_policy_is_asked_at_every_step():
    policy = FakePolicy()
    run(make([0], 2, counting()), 7, policy, FakeGuide(), [FixedSteps(9)])
    assert len(policy.calls) == 7


def test_without_a_guide_nobody_else_acts_whatever_the_curriculum_says():
    rows, episodes = run(make([0], 2, counting()), 8, FakePolicy(), None, [FixedSteps(4)])
    assert rows[..., LAYOUT.by_guide].sum() == 0
    assert {episode.guide_steps for episode in episodes} == {0}


def test_every_environment_has_a_clock_of_its_own():
    collector = make([0, 1], 3, counting(lengths=(2, 3, 7)))
    rows, episodes = run(collector, 30, FakePolicy(), FakeGuide(), [FixedSteps(1)] * 2)
    ended = (rows[..., LAYOUT.terminated] + rows[..., LAYOUT.truncated]).bool()
    clocks = np.zeros((2, 3))
    for step, over in zip(rows, ended, strict=True):
        assert np.array_equal(step[..., CLOCK].numpy(), clocks)
        clocks = np.where(over.numpy(), 0, clocks + 1)
    assert len({tuple(over.flatten().tolist()) for over in ended}) > 3
    assert len(episodes) == ended.sum()


def test_h_and_stage_are_drawn_at_an_episodes_start_and_kept_to_its_end():
    collector, guide = make([0], 1, counting(lengths=(6,))), FakeGuide()
    first, _ = run(collector, 2, FakePolicy(), guide, [FixedSteps(4, stage=0)])
    # The curriculum moves on in the middle of the episode.
    rest, _ = run(collector, 10, FakePolicy(), guide, [FixedSteps(1, stage=1)])
    rows = torch.cat([first, rest])[:, 0, 0]
    assert rows[:, LAYOUT.by_guide].tolist() == [1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    assert rows[:, LAYOUT.stage].tolist() == [0] * 6 + [1] * 6
    assert collector.guide_steps.tolist() == [[1]]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_the_last_observation_of_an_episode_is_its_own_and_not_the_next_ones(end):
    rows, _ = run(make([0], 1, counting(end=end)), 11, FakePolicy(), None, [FixedSteps(0)])
    rows = rows[:, 0, 0]
    successors = rows[:, LAYOUT.next_observation]
    assert successors[:, CLOCK].tolist() == [1, 2, 3, 4, 5] * 2 + [1]
    assert rows[:, CLOCK].tolist() == [0, 1, 2, 3, 4] * 2 + [0]
    assert rows[4, START] == successors[4, START]
    assert rows[5, START] != successors[4, START]
    flags = {name: getattr(fields(rows.view(-1, 1, 1, LAYOUT.width)), name) for name in FLAGS}
    other = FLAGS[1 - FLAGS.index(end)]
    assert flags[end].flatten().tolist() == [0, 0, 0, 0, 1] * 2 + [0]
    assert flags[other].sum() == 0


FLAGS = ("terminated", "truncated")


def test_the_time_limit_truncates_and_does_not_terminate():
    rows, episodes = run(
        make([0], 1, counting(lengths=(50,))), 9, FakePolicy(), None, [FixedSteps(0)]
    )
    assert rows[:, 0, 0, LAYOUT.truncated].tolist() == [0] * 8 + [1]
    assert rows[..., LAYOUT.terminated].sum() == 0
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
        paid = rows[:, index, 0, LAYOUT.reward].double().sum().item()
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
    assert torch.equal(expected, found)
    assert [e.length for e in ended] == [e.length for e in ended_too] == [2500, 2500]


def test_a_seed_collects_bitwise_the_same_alone_and_in_company():
    curriculum = RandomCurriculum((5, 3, 2, 0))
    collected = {}
    for seeds in ([0, 1, 2], [2]):
        collector = make(seeds, 3, counting(lengths=(2, 4, 6)))
        guide = FakeGuide(noise=0.2)
        rows, _ = run(collector, 40, FakePolicy(), guide, [curriculum] * len(seeds))
        collected[len(seeds)] = rows
    assert torch.equal(collected[3][:, 2:], collected[1])
    assert 0 < collected[1][..., LAYOUT.by_guide].mean() < 1
    assert not torch.equal(collected[3][:, 0], collected[3][:, 1])


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
    assert rows[:, 1][..., LAYOUT.action].abs().sum() == 0
    assert rows.isfinite().all()
    assert torch.equal(rows[:, [0, 2]], expected[:, [0, 2]])
    assert broken.non_finite.tolist() == [False, True, False]
    assert healthy.non_finite.tolist() == [False, False, False]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_resumes_bitwise(env_settings, seeds, num_envs, cut, guide_options, further=15):
    curricula = [RandomCurriculum((4, 2, 0))] * len(seeds)
    collector, guide = make(seeds, num_envs, env_settings), FakeGuide(**guide_options)
    run(collector, cut, FakePolicy(), guide, curricula)
    state = through_a_file(collector.state_dict())
    expected, episodes = run(collector, further, FakePolicy(), guide, curricula)

    resumed, fresh_guide = make(seeds, num_envs, env_settings), FakeGuide(**guide_options)
    assert resumed.load_state_dict(state, fresh_guide) == []
    rows, again = run(resumed, further, FakePolicy(), fresh_guide, curricula)
    assert torch.equal(rows, expected)
    assert again == episodes
    collector.close()
    resumed.close()


@pytest.mark.parametrize("cut", range(1, 13))
def test_collecting_resumes_bitwise_in_the_middle_of_episodes(cut):
    env_settings = counting(lengths=(2, 3, 7))
    assert_resumes_bitwise(env_settings, [0, 1], 3, cut, {"noise": 0.2, "stateful": True})


@pytest.mark.parametrize("cut", [7, 20, 33])
def test_collecting_in_a_real_maze_resumes_bitwise(cut):
    assert_resumes_bitwise(POINTMAZE, [0, 1], 2, cut, {"noise": 0.2}, further=30)


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
        over = (rows[0, 0, :, LAYOUT.terminated] + rows[0, 0, :, LAYOUT.truncated]).bool()
        if over.any() and not over.all():
            break
    resumed = make([0], 3, env_settings)
    strayed = resumed.load_state_dict(through_a_file(collector.state_dict()), FakeGuide())
    assert strayed == (~over).nonzero().flatten().tolist()
    rows, _ = run(resumed, 6, FakePolicy(), FakeGuide(), curricula)
    assert (rows[0, 0, :, CLOCK] == 0).all()


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
