"""Replay buffers, and how a minibatch is mixed from them."""

from collections import Counter, deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.core.transitions import Batch, TransitionData, TransitionLayout
from jsrl.rollout.replay import OFFLINE_STAGE, OfflineBuffer, OnlineBuffer, Replay, pack

CPU = torch.device("cpu")
LAYOUT = TransitionLayout(2, 1)


def numbered_rows(first, count, seeds):
    """Rows whose first column says which transition and which seed they are."""
    rows = np.zeros((seeds, count, LAYOUT.width), np.float32)
    rows[..., 0] = np.arange(first, first + count) + 1000 * np.arange(seeds)[:, None]
    return rows


def filled(seeds, count, capacity=None):
    buffer = OnlineBuffer(seeds, capacity or count, LAYOUT, CPU)
    buffer.add(numbered_rows(0, count, seeds))
    return buffer


def offline_buffer(count):
    rows = np.zeros((count, LAYOUT.width), np.float32)
    rows[:, 0] = -1 - np.arange(count)
    return OfflineBuffer(rows, CPU)


def test_the_fields_of_a_row_are_where_the_layout_says():
    assert LAYOUT.width == 2 + 1 + 2 + 5
    batch = Batch(torch.arange(float(LAYOUT.width)).view(1, 1, -1), LAYOUT)
    assert batch.observations.flatten().tolist() == [0, 1]
    assert batch.actions.flatten().tolist() == [2]
    assert batch.observations_actions.flatten().tolist() == [0, 1, 2]
    assert batch.next_observations.flatten().tolist() == [3, 4]
    names = ("rewards", "terminated", "truncated", "by_guide", "stage")
    assert [getattr(batch, name).item() for name in names] == [5, 6, 7, 8, 9]


def test_packed_offline_data_keep_every_field_and_are_nobodys_guide_steps():
    generator = np.random.default_rng(0)
    data = TransitionData(
        observations=generator.normal(size=(4, 2)).astype(np.float32),
        actions=np.array([[1.0], [-1.0], [0.5], [0.0]], np.float32),
        rewards=np.arange(4, dtype=np.float32),
        next_observations=generator.normal(size=(4, 2)).astype(np.float32),
        terminals=np.array([False, True, False, False]),
        timeouts=np.array([False, False, False, True]),
    )
    batch = Batch(torch.from_numpy(pack(data, LAYOUT, 0.9)).unsqueeze(0), LAYOUT)
    assert np.array_equal(batch.observations[0].numpy(), data.observations)
    assert np.array_equal(batch.next_observations[0].numpy(), data.next_observations)
    assert batch.actions.flatten().tolist() == pytest.approx([0.9, -0.9, 0.5, 0.0])
    assert batch.rewards.flatten().tolist() == [0, 1, 2, 3]
    assert batch.terminated.flatten().tolist() == [0, 1, 0, 0]
    assert batch.truncated.flatten().tolist() == [0, 0, 0, 1]
    assert batch.by_guide.sum() == 0
    assert (batch.stage == OFFLINE_STAGE).all()
    assert data.actions.max() == 1.0
    assert pack(data, LAYOUT)[:, LAYOUT.action].max() == 1.0


@given(
    capacity=st.integers(1, 12),
    additions=st.lists(st.integers(1, 12), max_size=12),
    seeds=st.integers(1, 3),
)
def test_the_online_buffer_is_first_in_first_out(capacity, additions, seeds):
    buffer = OnlineBuffer(seeds, capacity, LAYOUT, CPU)
    oracle: deque[float] = deque(maxlen=capacity)
    added = 0
    for count in (min(count, capacity) for count in additions):
        buffer.add(numbered_rows(added, count, seeds))
        oracle.extend(range(added, added + count))
        added += count
        assert len(buffer) == len(oracle)
        stored = buffer.sample(torch.arange(len(buffer)).expand(seeds, -1))[..., 0]
        for seed in range(seeds):
            assert sorted(stored[seed].tolist()) == [1000 * seed + x for x in oracle]
        latest = buffer.latest(5)[0, :, 0].tolist()
        assert latest == list(oracle)[-5:]


def test_a_restored_buffer_holds_the_same_and_goes_on_at_the_same_place():
    buffer = filled(2, 5)
    buffer.add(numbered_rows(5, 3, 2))
    restored = OnlineBuffer(2, 5, LAYOUT, CPU)
    restored.load_state_dict(buffer.state_dict())
    for one in (buffer, restored):
        one.add(numbered_rows(8, 4, 2))
    everything = torch.arange(5).expand(2, -1)
    assert torch.equal(buffer.sample(everything), restored.sample(everything))
    half_full = OnlineBuffer(1, 10, LAYOUT, CPU)
    half_full.load_state_dict(filled(1, 4, capacity=10).state_dict())
    assert len(half_full) == 4


def test_a_saved_buffer_does_not_change_with_later_additions():
    buffer = filled(1, 3)
    state = buffer.state_dict()
    before = state["rows"].clone()
    buffer.add(numbered_rows(50, 3, 1))
    assert torch.equal(state["rows"], before)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 0), (0.25, 64), (0.5, 128), (0.1, 26), (1.0, 256)]
)
def test_every_minibatch_holds_exactly_the_offline_share(fraction, expected):
    replay = Replay(LAYOUT, offline_buffer(50), filled(2, 40), 256, fraction, CPU)
    streams = Streams([0, 1])
    for _ in range(3):
        rows = replay.sample(streams).rows
        assert rows.shape == (2, 256, LAYOUT.width)
        assert (rows[..., 0] < 0).sum(1).tolist() == [expected, expected]


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_share_outside_of_zero_to_one_is_refused(fraction):
    with pytest.raises(UserError, match=r"online\.offline_fraction"):
        Replay(LAYOUT, offline_buffer(5), filled(1, 5), 4, fraction, CPU)


def test_merged_minibatches_are_uniform_over_the_union_of_both_buffers():
    replay = Replay(LAYOUT, offline_buffer(30), filled(1, 10, capacity=100), 400, None, CPU)
    streams = Streams([5])
    drawn = Counter(
        value for _ in range(20) for value in replay.sample(streams).rows[0, :, 0].tolist()
    )
    assert set(drawn) == {-1.0 - i for i in range(30)} | {float(i) for i in range(10)}
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_each_part_of_a_minibatch_is_uniform_over_its_buffer(fraction):
    replay = Replay(LAYOUT, offline_buffer(20), filled(1, 10, capacity=50), 200, fraction, CPU)
    streams = Streams([6])
    drawn = Counter(
        value for _ in range(20) for value in replay.sample(streams).rows[0, :, 0].tolist()
    )
    for part, size in (([x for x in drawn if x < 0], 20), ([x for x in drawn if x >= 0], 10)):
        if part:
            assert len(part) == size
            assert stats.chisquare([drawn[x] for x in part]).pvalue > 1e-3


def test_a_single_buffer_fills_the_whole_minibatch():
    streams = Streams([0])
    offline = Replay(LAYOUT, offline_buffer(5), None, 8, 0.25, CPU).sample(streams)
    online = Replay(LAYOUT, None, filled(1, 5), 8, 0.25, CPU).sample(streams)
    assert (offline.rows[..., 0] < 0).all()
    assert (online.rows[..., 0] >= 0).all()


@pytest.mark.parametrize("fraction", [None, 0.25])
def test_the_minibatches_of_a_seed_do_not_depend_on_its_company(fraction):
    rows = numbered_rows(0, 20, 3)
    together = OnlineBuffer(3, 20, LAYOUT, CPU)
    together.add(rows)
    alone = OnlineBuffer(1, 20, LAYOUT, CPU)
    alone.add(rows[2:])
    in_company = Replay(LAYOUT, offline_buffer(7), together, 32, fraction, CPU)
    by_itself = Replay(LAYOUT, offline_buffer(7), alone, 32, fraction, CPU)
    streams, own = Streams([0, 1, 2]), Streams([2])
    for _ in range(3):
        assert torch.equal(in_company.sample(streams).rows[2], by_itself.sample(own).rows[0])


def test_who_acted_and_the_stage_are_kept_with_each_transition():
    rows = numbered_rows(0, 6, 1)
    rows[0, :, LAYOUT.by_guide] = [1, 1, 1, 0, 0, 0]
    rows[0, :, LAYOUT.stage] = [0, 0, 1, 1, 2, 2]
    buffer = OnlineBuffer(1, 6, LAYOUT, CPU)
    buffer.add(rows)
    batch = Replay(LAYOUT, None, buffer, 64, None, CPU).sample(Streams([0]))
    for number, by_guide, stage in zip(
        batch.rows[0, :, 0].int().tolist(),
        batch.by_guide[0].tolist(),
        batch.stage[0].tolist(),
        strict=True,
    ):
        assert by_guide == rows[0, number, LAYOUT.by_guide]
        assert stage == rows[0, number, LAYOUT.stage]
