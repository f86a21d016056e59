"""Hindsight against rewards computed one by one, and against Stable-Baselines3's distribution."""

import gymnasium
import gymnasium_robotics
import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from jsrl.core.errors import UserError
from jsrl.core.observations import read_observation
from jsrl.core.specs import BoxActions
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment
from jsrl.envs.make import Step
from jsrl.envs.specs import action_spec, observation_spec
from jsrl.rollout.hindsight import Hindsight
from jsrl.rollout.transition_store import TransitionStore

GAMMA = 0.95
CPU = torch.device("cpu")


class Counting(gymnasium.Env):
    """Achieves its count of steps as a goal; a step is worth how far it is from the goal."""

    observation_space = spaces.Dict(
        {
            name: spaces.Box(-1e6, 1e6, (1,))
            for name in ("observation", "achieved_goal", "desired_goal")
        }
    )
    action_space = spaces.Box(-1, 1, (1,))

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.abs(achieved_goal - desired_goal)[..., 0]


SPEC = observation_spec(Counting.observation_space, "Counting-v0")
ACTIONS = BoxActions((-1.0,), (1.0,), (1,))


def counted(number, goal=-7.0):
    whole = np.array([number], np.float32)
    return {
        "observation": whole,
        "achieved_goal": whole,
        "desired_goal": np.array([goal], np.float32),
    }


def make(spec=SPEC, actions=ACTIONS, seeds=1, capacity=200, n=1):
    return TransitionStore(
        spec,
        actions,
        num_seeds=seeds,
        num_envs=1,
        capacity=capacity,
        discount=GAMMA,
        n_step=n,
        device=CPU,
    )


def add(store, spec, before, after, action, reward, terminated, truncated, seeds=1):
    """The same step for every seed of a store."""

    def every(value, kind):
        return np.full(seeds, value, kind)

    def observed(raw):
        stacked = {key: np.stack([value] * seeds) for key, value in raw.items()}
        return read_observation(spec, stacked, (seeds,))

    moment = Moment(
        observation=observed(before),
        actions=np.stack([np.asarray(action, np.float32)] * seeds),
        episodes=every(0, np.int64),
        times=every(0, np.int64),
        by_guide=every(False, bool),
        stages=every(0, np.int64),
        counts=every(True, bool),
    )
    step = Step(
        observation=observed(after),
        rewards=every(reward, np.float32),
        terminated=every(terminated, bool),
        truncated=every(truncated, bool),
        successes=every(np.nan, np.float32),
    )
    store.add(moment, step)


def counting_store(lengths, seeds=1, capacity=200):
    """Episodes of these lengths whose steps are numbered on, the last one not over yet."""
    store = make(seeds=seeds, capacity=capacity)
    number = 0
    for episode, length in enumerate(lengths):
        for step in range(length):
            ended = step == length - 1 and episode < len(lengths) - 1
            add(store, SPEC, counted(number), counted(number + 1), [0.0], -1.0, False, ended, seeds)
            number += 1
        number += 100
    return store


def test_new_goals_are_achieved_by_successors_of_the_same_episode_from_the_step_on():
    store = counting_store([5, 1, 7, 4])
    hindsight = Hindsight(store, SPEC, Counting(), "Counting-v0", k=4)
    streams = Streams([0])
    indices = streams.integers("minibatch", len(store), (20_000,))
    draws = hindsight.draws(streams, 20_000)
    batch = hindsight.sample(indices, draws)
    plain = store.sample(indices)
    number, goal = plain.observation.vector[0, :, 2], batch.observation.vector[0, :, 1]
    assert torch.equal(batch.next_observation.vector[0, :, 1], goal)
    own = goal == -7
    assert stats.binomtest(int(own.sum()), 20_000, 0.2).pvalue > 1e-3
    assert torch.equal(batch.reward[0][own], plain.reward[0][own])
    ends = {0: 5, 105: 106, 206: 213, 313: 317}
    for first, end in ends.items():
        for step in range(first, end):
            chosen = goal[(number == step) & ~own].numpy()
            values, counts = np.unique(chosen, return_counts=True)
            assert values.tolist() == list(range(step + 1, end + 1))
            if len(counts) > 1:
                assert stats.chisquare(counts).pvalue > 1e-4
    assert torch.equal(batch.reward[0][~own], -(number + 1 - goal).abs()[~own])


def test_goals_are_spread_as_by_stable_baselines3():
    """Both relabel the same three episodes, and the pairs of step and new goal are compared."""
    lengths = [5, 2, 8]
    store = counting_store([*lengths, 0])
    other = HerReplayBuffer(
        200,
        Counting.observation_space,
        Counting.action_space,
        env=DummyVecEnv([Counting]),
        n_sampled_goal=4,
        goal_selection_strategy="future",
    )
    number = 0
    for length in lengths:
        for step in range(length):
            before, after = (
                {key: value[None] for key, value in counted(n).items()}
                for n in (number, number + 1)
            )
            done = np.array([step == length - 1])
            other.add(before, after, np.zeros((1, 1)), np.array([-1.0]), done, [{}])
            number += 1
        number += 100
    np.random.seed(0)  # noqa: NPY002  Stable-Baselines3 draws from it
    theirs = other.sample(50_000).observations
    hindsight = Hindsight(store, SPEC, Counting(), "Counting-v0", k=4)
    streams = Streams([1])
    indices = streams.integers("minibatch", len(store), (50_000,))
    mine = hindsight.sample(indices, hindsight.draws(streams, 50_000)).observation.vector[0]
    pairs = [
        np.stack([mine[:, 2].numpy(), mine[:, 1].numpy()], 1),
        np.stack([theirs["observation"][:, 0].numpy(), theirs["desired_goal"][:, 0].numpy()], 1),
    ]
    kinds, place = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    table = np.stack([np.bincount(p, minlength=len(kinds)) for p in np.split(place.ravel(), 2)])
    assert len(kinds) == sum(n * (n + 1) // 2 + n for n in lengths)
    assert table.min() > 100
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_a_point_maze_gives_the_rewards_and_ends_that_it_computes_one_by_one():
    """Its ``compute_terminated`` takes one step only: for several it answers by one norm of all."""
    gymnasium.register_envs(gymnasium_robotics)
    env = gymnasium.make("PointMaze_UMaze-v3", continuing_task=False, max_episode_steps=40)
    spec = observation_spec(env.observation_space, "PointMaze_UMaze-v3")
    store = make(spec, action_spec(env.action_space, "PointMaze_UMaze-v3"), capacity=150)
    env.action_space.seed(0)
    before, _ = env.reset(seed=0)
    action = env.action_space.sample()
    for step in range(200):
        action = env.action_space.sample() if step % 10 == 0 else action
        after, reward, terminated, truncated, _ = env.step(action)
        add(store, spec, before, after, action, reward, terminated, truncated)
        before = env.reset()[0] if terminated or truncated else after
    hindsight = Hindsight(store, spec, env.unwrapped, "PointMaze_UMaze-v3", k=4)
    streams = Streams([0])
    indices = streams.integers("minibatch", len(store), (400,))
    batch = hindsight.sample(indices, hindsight.draws(streams, 400))
    columns = {name: slice(start, stop) for name, start, stop in spec.layout}
    relabelled = 0
    for i in range(400):
        vector = batch.next_observation.vector[0, i].numpy()
        achieved, goal = vector[columns["achieved_goal"]], vector[columns["desired_goal"]]
        reward = env.unwrapped.compute_reward(achieved, goal, {})
        ended = env.unwrapped.compute_terminated(achieved, goal, {})
        assert batch.reward[0, i] == np.float32(reward)
        assert batch.terminated[0, i] == float(ended)
        assert batch.discount[0, i] == np.float32(GAMMA) * (1 - float(ended))
        relabelled += int(ended)
    assert 50 < relabelled < 400


def test_a_seed_is_relabelled_the_same_alone_and_in_company():
    found = []
    for seeds in ([4, 9, 2], [9]):
        store = counting_store([9, 4, 30], len(seeds), 33)
        hindsight = Hindsight(store, SPEC, Counting(), "Counting-v0")
        streams = Streams(seeds)
        indices = streams.integers("minibatch", len(store), (40,))
        found.append(hindsight.sample(indices, hindsight.draws(streams, 40)))
    for name in ("reward", "discount", "terminated"):
        assert torch.equal(getattr(found[0], name)[1:2], getattr(found[1], name))
    assert torch.equal(found[0].observation.vector[1:2], found[1].observation.vector)


def test_what_is_stored_stays_as_it_was():
    store = counting_store([5, 5])
    before = store.state_dict()["rows"]
    hindsight = Hindsight(store, SPEC, Counting(), "Counting-v0", k=100)
    indices = torch.arange(10).unsqueeze(0)
    hindsight.sample(indices, hindsight.draws(Streams([0]), 10))
    assert torch.equal(store.state_dict()["rows"], before)


class NoReward(gymnasium.Env):
    pass


@pytest.mark.parametrize(
    ("environment", "spec", "n", "k", "words"),
    [
        (NoReward(), SPEC, 1, 4, "needs an environment with compute_reward"),
        (
            Counting(),
            observation_spec(spaces.Dict({"a": spaces.Discrete(2)}), "A"),
            1,
            4,
            "numbers called achieved_goal and desired_goal",
        ),
        (Counting(), SPEC, 3, 4, "n_step=3"),
        (Counting(), SPEC, 1, -1, "k=-1"),
    ],
)
def test_what_hindsight_cannot_do_is_refused_in_one_line(environment, spec, n, k, words):
    with pytest.raises(UserError, match=words) as error:
        Hindsight(make(spec, n=n), spec, environment, "Odd-v0", k)
    assert "\n" not in str(error.value)
