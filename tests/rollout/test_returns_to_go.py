"""Returns to the end of an episode against sums that are taken one reward at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered_steps import BOX, CPU, VECTOR, Walk, add, numbered
from small_runs import REACH, newest_state, train_here, write_reach_data

from jsrl.core.errors import UserError
from jsrl.core.protocols import Consumes, DataNeeds
from jsrl.core.returns import ReturnsToGo
from jsrl.core.transitions import TransitionData
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.packing import RowLayout
from jsrl.rollout.transition_store import TransitionStore

GAMMA = 0.9
RULES = [ReturnsToGo(GAMMA, 2.0, -0.5, goes_on) for goes_on in (False, True)]


def summed(rewards, terminated, rule):
    """Σ γ^k r_k, term by term; for ever is three hundred steps."""
    learnt = [rule.scale * float(reward) + rule.shift for reward in rewards]
    if rule.goes_on and not terminated:
        learnt += [learnt[-1]] * 300
    return sum(rule.discount**k * reward for k, reward in enumerate(learnt))


def wanted(steps, index, rule, *, recording):
    """Of one step of an environment; a recording that ends in mid-episode is one that was cut."""
    end = index
    while steps[end].goes_on and end + 1 < len(steps):
        end += 1
    last = steps[end]
    if not (last.terminated or last.truncated) and not (recording and end + 1 == len(steps)):
        return -np.inf
    rewards = [one.reward for one in steps[index : end + 1]]
    return summed(rewards, last.terminated, rule)


@given(
    rule=st.sampled_from(RULES),
    count=st.integers(1, 40),
    chance=st.sampled_from([0.0, 0.1, 0.6, 2.0]),
    seed=st.integers(0, 10**6),
)
def test_of_a_dataset(rule, count, chance, seed):
    walk = Walk(seed, 1, chance, chance_of_jump=0.0)
    steps = [walk.step()[0] for _ in range(count)]
    numbers = numbered(VECTOR, [one.observation for one in steps]).vector.numpy()
    data = TransitionData(
        observations=numbers,
        actions=np.zeros((count, 3), np.float32),
        rewards=np.array([one.reward for one in steps], np.float32),
        next_observations=numbers,
        terminals=np.array([one.terminated for one in steps]),
        timeouts=np.array([one.truncated for one in steps]),
    )
    store = OfflineStore(data, VECTOR, BOX, discount=GAMMA, device=CPU, returns_to_go=rule)
    batch = store.packed(torch.arange(count).unsqueeze(0)).unpack(store.layout)
    expected = [wanted(steps, i, rule, recording=True) for i in range(count)]
    assert batch.return_to_go[0].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert torch.equal(batch.reward[0], torch.from_numpy(data.rewards))


def collecting(seeds, envs, capacity, rule):
    return TransitionStore(
        VECTOR,
        BOX,
        num_seeds=seeds,
        num_envs=envs,
        capacity=capacity,
        discount=GAMMA,
        device=CPU,
        returns_to_go=rule,
    )


@given(
    rule=st.sampled_from(RULES),
    seeds=st.integers(1, 3),
    envs=st.integers(1, 3),
    more=st.integers(0, 14),
    counts=st.tuples(st.integers(0, 15), st.integers(1, 15)),
    seed=st.integers(0, 10**6),
)
def test_of_what_is_collected_through_ends_jumps_a_full_ring_and_a_checkpoint(
    rule, seeds, envs, more, counts, seed
):
    """Not known while an episode goes on, nor where it was left without an end."""
    capacity = 2 * envs + more
    store = collecting(seeds, envs, capacity, rule)
    walks = [Walk((seed, s), envs) for s in range(seeds)]
    for count in counts:
        for _ in range(count):
            add(store, VECTOR, BOX, [walk.step() for walk in walks])
        state = store.state_dict()
        store = collecting(seeds, envs, capacity, rule)
        store.load_state_dict(state)
    batch = store.sample(torch.arange(len(store)).expand(seeds, -1))
    added = sum(counts) * envs
    for s, walk in enumerate(walks):
        for number in range(max(0, added - capacity), added):
            steps = walk.steps[number % envs]
            expected = wanted(steps, number // envs, rule, recording=False)
            found = batch.return_to_go[s, number % capacity].item()
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_of_episodes_of_a_real_environment_through_its_time_limit(tmp_path: Path):
    """The rows of a run's checkpoint, whose ring was overwritten several times."""
    data = write_reach_data(tmp_path / "reach.hdf5")
    train_here(
        tmp_path / "run",
        *(*REACH, "env.max_episode_steps=15", "learner=cal_ql", "learner.critic_hidden=null"),
        *("guide=offline", "curriculum=none", "start=warm", "offline.updates=2"),
        *("dataset=d4rl", f"dataset.path={data}", "learner.sampled_actions=2"),
        *("learner.reward_scale=2", "learner.reward_shift=-1", "online.updates_per_step=0.02"),
        *("online.steps=200", "online.buffer_size=70", "evaluation.interval=200"),
    )
    buffer = newest_state(tmp_path / "run")["runner"]["buffer"]
    added, rows = buffer["segments"]["added"], buffer["rows"][0].numpy()
    assert added > 2 * len(rows) == 140
    rows = np.roll(rows, -(added % 70), 0)
    layout = RowLayout(4, 2, chooses=False, returns_to_go=True)
    reward, terminated, truncated, found = (
        rows[:, layout.column(name)]
        for name in ("reward", "terminated", "truncated", "return_to_go")
    )
    rule, limits = ReturnsToGo(0.99, 2.0, -1.0), 0
    for first in range(70):
        ends = np.flatnonzero((terminated + truncated)[first:])
        if not len(ends):
            assert found[first] == -np.inf
            continue
        last = first + ends[0]
        rewards, total = [2 * float(r) - 1 for r in reward[first : last + 1]], 0.0
        for k, one in enumerate(rewards):
            total += rule.discount**k * one
        if not terminated[last]:
            limits += 1
            total += rule.discount ** len(rewards) * rewards[-1] / (1 - rule.discount)
        assert found[first] == pytest.approx(total, rel=1e-4)
        if not terminated[last]:
            # A failed attempt at a task of sparse rewards: -1 for ever, from every step.
            assert found[first] == pytest.approx(-100.0, rel=1e-4)
    assert limits > 0


def test_who_does_not_ask_has_no_column_for_them():
    layout = RowLayout.of(VECTOR, BOX)
    assert layout.width + 1 == replace(layout, returns_to_go=True).width
    store = TransitionStore(
        VECTOR, BOX, num_seeds=1, num_envs=1, capacity=4, discount=GAMMA, device=CPU
    )
    add(store, VECTOR, BOX, [Walk(0, 1).step()])
    assert store.sample(torch.zeros(1, 1, dtype=torch.int64)).return_to_go is None
    assert DataNeeds(Consumes.TRANSITIONS, (("critic",),)).returns_to_go is None


def test_a_reward_for_ever_needs_a_discount():
    with pytest.raises(UserError, match=r"discount=1\.0: a reward that goes on for ever"):
        ReturnsToGo(1.0)
    rewards = np.array([1.0, 2.0], np.float32)
    assert ReturnsToGo(1.0, goes_on=False).of_episode(rewards, terminated=False).tolist() == [3, 2]
