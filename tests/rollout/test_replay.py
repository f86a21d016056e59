"""Rows of transitions, the online store as a queue, and how a minibatch is mixed from stores."""

from collections import Counter, deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import DiscreteActions
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment, TransitionData
from jsrl.envs.make import Step
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.packing import PackedTransitions, RowLayout
from jsrl.rollout.replay import Replay
from jsrl.rollout.transition_store import TransitionStore

CPU = torch.device("cpu")
SPEC, ACTIONS = vector(2), box([-1], [1])
GAMMA = 0.9


def empty(seeds, capacity, envs=1):
    return TransitionStore(
        SPEC,
        ACTIONS,
        num_seeds=seeds,
        num_envs=envs,
        capacity=capacity,
        discount=GAMMA,
        device=CPU,
    )


def add(store, number, seeds, envs=1, by_guide=False, stage=0, of=None):
    """One step of every environment, numbered on from ``number``; each seed's are 1000 apart.

    The observation says which transition and which seed it is, and the action is a hundredth.
    """
    own = np.arange(number, number + envs) + 1000 * np.arange(seeds)[:, None]
    own = (own if of is None else own[of]).ravel().astype(np.float32)
    seen = torch.from_numpy(np.stack([own, np.zeros_like(own)], -1))
    flags, zeros = np.zeros(len(own), bool), np.zeros(len(own), np.int64)
    moment = Moment(
        observation=Observation(seen),
        actions=own[:, None] / 100,
        episodes=zeros,
        times=zeros,
        by_guide=flags | by_guide,
        stages=zeros + stage,
        counts=~flags,
    )
    rewards = np.zeros(len(own), np.float32)
    store.add(moment, Step(Observation(seen + 0.5), rewards, flags, flags, rewards))


def filled(seeds, count, capacity=None):
    store = empty(seeds, capacity or count)
    for number in range(count):
        add(store, number, seeds)
    return store


def offline_store(count):
    """Transitions that are numbered from -1 down."""
    numbers = -1 - np.arange(count, dtype=np.float32)
    observations = np.stack([numbers, numbers], -1)
    never = np.zeros(count, bool)
    data = TransitionData(observations, numbers[:, None], numbers, observations, never, never)
    return OfflineStore(data, SPEC, ACTIONS, discount=GAMMA, device=CPU)


def numbers(batch):
    """Which transitions they are, ``[S, B]``."""
    return batch.observation.vector[..., 0]


def test_the_fields_of_a_row_are_where_the_layout_says():
    layout = RowLayout.of(SPEC, ACTIONS)
    assert layout.width == 2 + 1 + 2 + 7
    rows = torch.arange(float(layout.width)).view(1, 1, -1)
    batch = PackedTransitions(rows, {}, {}).unpack(layout)
    assert batch.observation.vector.flatten().tolist() == [0, 1]
    assert batch.action.flatten().tolist() == [2]
    assert batch.vector_action().flatten().tolist() == [0, 1, 2]
    assert batch.next_observation.vector.flatten().tolist() == [3, 4]
    names = ("reward", "discount", "terminated", "truncated", "by_guide", "share", "stage")
    assert [getattr(batch, name).item() for name in names] == [5, 6, 7, 8, 9, 10, 11]
    assert [layout.column(name) for name in names] == [5, 6, 7, 8, 9, 10, 11]


def test_a_choice_is_one_number_of_a_row():
    layout = RowLayout.of(SPEC, DiscreteActions(7, start=3))
    assert layout.width == 2 + 1 + 2 + 7
    rows = torch.arange(float(layout.width)).view(1, 1, -1)
    batch = PackedTransitions(rows, {}, {}).unpack(layout)
    assert batch.action.dtype == torch.int64 and batch.action.tolist() == [[2]]
    assert batch.next_observation.vector.flatten().tolist() == [3, 4]
    assert batch.side_by_side is None


@given(
    more=st.integers(0, 12),
    steps=st.lists(st.integers(1, 12), max_size=12),
    seeds=st.integers(1, 3),
    envs=st.integers(1, 3),
)
def test_the_online_store_is_first_in_first_out(more, steps, seeds, envs):
    capacity = 2 * envs + more
    store = empty(seeds, capacity, envs)
    oracle: deque[float] = deque(maxlen=capacity)
    added = 0
    for count in steps:
        for _ in range(count):
            add(store, added, seeds, envs)
            oracle.extend(range(added, added + envs))
            added += envs
        assert len(store) == len(oracle)
        stored = numbers(store.sample(torch.arange(len(store)).expand(seeds, -1)))
        for seed in range(seeds):
            assert sorted(stored[seed].tolist()) == [1000 * seed + x for x in oracle]
        for seed, latest in enumerate(store.latest_actions(5)[..., 0].tolist()):
            expected = [(1000 * seed + x) / 100 for x in list(oracle)[-5:]]
            assert latest == pytest.approx(expected)


def test_a_restored_store_holds_the_same_and_goes_on_at_the_same_place():
    store = filled(2, 8, capacity=5)
    restored = empty(2, 5)
    restored.load_state_dict(store.state_dict())
    for one in (store, restored):
        for number in range(8, 12):
            add(one, number, 2)
    everything = torch.arange(5).expand(2, -1)
    assert torch.equal(store.packed(everything).rows, restored.packed(everything).rows)
    half_full = empty(1, 10)
    half_full.load_state_dict(filled(1, 4, capacity=10).state_dict())
    assert len(half_full) == 4


def test_a_saved_store_does_not_change_with_later_additions():
    store = filled(1, 3)
    state = store.state_dict()
    before = state["rows"].clone()
    for number in range(50, 53):
        add(store, number, 1)
    assert torch.equal(state["rows"], before)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 0), (0.25, 64), (0.5, 128), (0.1, 26), (1.0, 256)]
)
def test_every_minibatch_holds_exactly_the_offline_share(fraction, expected):
    replay = Replay(offline_store(50), filled(2, 40), 256, fraction, CPU)
    streams = Streams([0, 1])
    for _ in range(3):
        batch = replay.sample(streams)
        assert batch.observation.vector.shape == (2, 256, 2)
        assert (numbers(batch) < 0).sum(1).tolist() == [expected, expected]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_share_outside_of_zero_to_one_is_refused(fraction):
    with pytest.raises(UserError, match=r"online\.offline_fraction"):
        Replay(offline_store(5), filled(1, 5), 4, fraction, CPU)


def test_merged_minibatches_are_uniform_over_the_union_of_both_stores():
    replay = Replay(offline_store(30), filled(1, 10, capacity=100), 400, None, CPU)
    streams = Streams([5])
    drawn = Counter(
        value for _ in range(20) for value in numbers(replay.sample(streams))[0].tolist()
    )
    assert set(drawn) == {-1.0 - i for i in range(30)} | {float(i) for i in range(10)}
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_each_part_of_a_minibatch_is_uniform_over_its_store(fraction):
    replay = Replay(offline_store(20), filled(1, 10, capacity=50), 200, fraction, CPU)
    streams = Streams([6])
    drawn = Counter(
        value for _ in range(20) for value in numbers(replay.sample(streams))[0].tolist()
    )
    for part, size in (([x for x in drawn if x < 0], 20), ([x for x in drawn if x >= 0], 10)):
        if part:
            assert len(part) == size
            assert stats.chisquare([drawn[x] for x in part]).pvalue > 1e-3


def test_a_single_store_fills_the_whole_minibatch():
    streams = Streams([0])
    offline = Replay(offline_store(5), None, 8, 0.25, CPU).sample(streams)
    online = Replay(None, filled(1, 5), 8, 0.25, CPU).sample(streams)
    assert (numbers(offline) < 0).all() and numbers(offline).shape == (1, 8)
    assert (numbers(online) >= 0).all() and numbers(online).shape == (1, 8)


@pytest.mark.parametrize("fraction", [None, 0.25])
def test_the_minibatches_of_a_seed_do_not_depend_on_its_company(fraction):
    together, alone = filled(3, 20), empty(1, 20)
    for number in range(20):
        add(alone, number, 3, of=[2])
    in_company = Replay(offline_store(7), together, 32, fraction, CPU)
    by_itself = Replay(offline_store(7), alone, 32, fraction, CPU)
    streams, own = Streams([0, 1, 2]), Streams([2])
    for _ in range(3):
        many, one = in_company.sample(streams), by_itself.sample(own)
        for name in ("action", "reward", "discount", "terminated", "truncated", "stage"):
            assert torch.equal(getattr(many, name)[2], getattr(one, name)[0])
        assert torch.equal(many.observation.vector[2], one.observation.vector[0])
        assert torch.equal(many.next_observation.vector[2], one.next_observation.vector[0])


def test_who_acted_and_the_stage_are_kept_with_each_transition():
    by_guide, stages = [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 2, 2]
    store = empty(1, 6)
    for number in range(6):
        add(store, number, 1, by_guide=bool(by_guide[number]), stage=stages[number])
    batch = Replay(None, store, 64, None, CPU).sample(Streams([0]))
    drawn = numbers(batch)[0].int().tolist()
    assert set(drawn) == set(range(6))
    assert batch.by_guide[0].tolist() == [by_guide[number] for number in drawn]
    assert batch.share[0].tolist() == [1 - by_guide[number] for number in drawn]
    assert batch.stage[0].tolist() == [stages[number] for number in drawn]
