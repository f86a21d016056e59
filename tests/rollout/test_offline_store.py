"""Offline transitions and their n-step returns against lists that are read one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered_steps import (
    BOX,
    CHOICE,
    CPU,
    ONLY_PIXELS,
    PIXELS,
    VECTOR,
    Walk,
    expected,
    numbered,
    numbers_of,
)
from specs import box, vector

from jsrl.core.transitions import Frames, TransitionData
from jsrl.rollout.offline_store import OFFLINE_STAGE, OfflineStore

GAMMA = 0.9


def recorded(walk, spec, actions):
    """The steps of a walk's only environment, as a dataset holds them."""

    def column(name, kind):
        return np.array([getattr(one, name) for one in walk.steps[0]], kind)

    seen, then = column("observation", np.int64), column("successor", np.int64)
    share = column("action", np.float32) / 50
    frames = None
    if spec.images:
        images = numbered(spec, np.arange(walk.next_number + 1)).images
        frames = Frames({name: image.numpy() for name, image in images.items()}, seen, then)
    return TransitionData(
        observations=numbered(spec, seen).vector.numpy(),
        actions=column("action", np.int64)
        if actions is CHOICE
        else np.stack([share, -share, share * 0], -1),
        rewards=column("reward", np.float32),
        next_observations=numbered(spec, then).vector.numpy(),
        terminals=column("terminated", bool),
        timeouts=column("truncated", bool),
        frames=frames,
    )


@given(
    spec=st.sampled_from([VECTOR, PIXELS, ONLY_PIXELS]),
    actions=st.sampled_from([BOX, CHOICE]),
    count=st.integers(1, 40),
    n=st.integers(1, 50),
    chance=st.sampled_from([0.0, 0.1, 0.6, 2.0]),
    seed=st.integers(0, 10**6),
)
def test_what_is_gathered_is_what_the_episodes_were(spec, actions, count, n, chance, seed):
    """Through terminations, time limits and the end of the data, which may be in mid-episode."""
    walk = Walk(seed, 1, chance, chance_of_jump=0.0)
    for _ in range(count):
        walk.step()
    data = recorded(walk, spec, actions)
    store = OfflineStore(data, spec, actions, discount=GAMMA, n_step=n, device=CPU)
    assert len(store) == count
    indices = torch.from_numpy(np.random.default_rng(seed).integers(0, count, (2, 60)))
    batch = store.packed(indices).unpack(store.layout)
    seen, then = numbers_of(batch.observation), numbers_of(batch.next_observation)
    for place in np.ndindex(*indices.shape):
        want = expected(walk.steps[0], int(indices[place]), n, GAMMA)
        assert seen[place] == want["observation"] and then[place] == want["next_observation"]
        for name in ("reward", "discount", "terminated", "truncated"):
            found = getattr(batch, name)[place].item()
            assert found == pytest.approx(float(want[name]), rel=1e-6), name
        if actions is CHOICE:
            assert batch.action[place].item() == want["action"]
        else:
            share = want["action"] / 50
            assert batch.action[place].tolist() == pytest.approx([share, -share, 0])
    assert batch.action.dtype == (torch.int64 if actions is CHOICE else torch.float32)
    assert (batch.by_guide == 0).all() and (batch.share == 0).all()
    assert (batch.stage == OFFLINE_STAGE).all()


def by_hand(**changes):
    """Five transitions: the second terminates, the fourth runs into a limit, the last goes on."""
    flags = np.arange(5)
    numbers = np.arange(5, dtype=np.float32)
    arguments = {
        "observations": numbers[:, None],
        "actions": np.array([[1.0], [-1.0], [0.5], [0.0], [-0.95]], np.float32),
        "rewards": np.array([1.0, 2.0, 4.0, 8.0, 16.0], np.float32),
        "next_observations": numbers[:, None] + 10,
        "terminals": flags == 1,
        "timeouts": flags == 3,
    }
    return TransitionData(**arguments | changes)


def everything(data, **changes):
    arguments = {"discount": 0.5, "device": CPU} | changes
    store = OfflineStore(data, vector(1), box([-1], [1]), **arguments)
    return store.packed(torch.arange(len(data)).unsqueeze(0)).unpack(store.layout)


def test_returns_of_three_steps_by_hand():
    batch = everything(by_hand(), n_step=3)
    assert batch.reward[0].tolist() == [1 + 0.5 * 2, 2, 4 + 0.5 * 8, 8, 16]
    assert batch.discount[0].tolist() == [0, 0, 0.25, 0.5, 0.5]
    assert batch.next_observation.vector[0, :, 0].tolist() == [11, 11, 13, 13, 14]
    assert batch.terminated[0].tolist() == [1, 1, 0, 0, 0]
    assert batch.truncated[0].tolist() == [0, 0, 1, 1, 0]
    assert batch.observation.vector[0, :, 0].tolist() == [0, 1, 2, 3, 4]


def test_single_steps_by_hand():
    batch = everything(by_hand())
    assert batch.reward[0].tolist() == [1, 2, 4, 8, 16]
    assert batch.discount[0].tolist() == [0.5, 0, 0.5, 0.5, 0.5]
    assert batch.next_observation.vector[0, :, 0].tolist() == [10, 11, 12, 13, 14]


def test_a_limit_in_the_step_of_a_termination_does_not_bring_the_value_back():
    ends = np.arange(5) == 2
    batch = everything(by_hand(terminals=ends, timeouts=ends), n_step=5)
    assert batch.reward[0].tolist() == [1 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4, 4, 8 + 8, 16]
    assert batch.discount[0].tolist() == [0, 0, 0, 0.25, 0.5]


def test_actions_are_clipped_where_a_preset_asks_for_it_and_the_data_stay_as_they_are():
    data = by_hand()
    found = everything(data, action_clip=0.9).action[0, :, 0].tolist()
    assert found == pytest.approx([0.9, -0.9, 0.5, 0.0, -0.9])
    assert everything(data).action[0, :, 0].tolist() == data.actions[:, 0].tolist()
    assert data.actions.max() == 1.0


def test_choices_are_not_clipped():
    walk = Walk(0, 1)
    for _ in range(10):
        walk.step()
    data = recorded(walk, VECTOR, CHOICE)
    store = OfflineStore(data, VECTOR, CHOICE, discount=GAMMA, device=CPU, action_clip=0.9)
    batch = store.packed(torch.arange(10).unsqueeze(0)).unpack(store.layout)
    assert batch.action[0].tolist() == data.actions.tolist()
