"""The store of transitions against lists that are read one transition at a time."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import fields

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
    add,
    expected,
    numbers_of,
)

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.rollout.transition_store import TransitionStore

GAMMA = 0.9
SPECS = st.sampled_from([VECTOR, PIXELS, ONLY_PIXELS])


def make(spec, actions=BOX, *, seeds=1, envs=1, capacity=8, n=1, directory=None):
    return TransitionStore(
        spec,
        actions,
        num_seeds=seeds,
        num_envs=envs,
        capacity=capacity,
        discount=GAMMA,
        n_step=n,
        device=CPU,
        directory=directory,
    )


def walked(store, spec, actions, walks, count):
    for _ in range(count):
        add(store, spec, actions, [walk.step() for walk in walks])


def check(store, actions, walks, capacity, n):
    """Every transition that is held is the one that the lists have."""
    envs = len(walks[0].steps)
    added = len(walks[0].steps[0]) * envs
    assert len(store) == min(added, capacity)
    indices = torch.arange(len(store)).expand(len(walks), -1)
    batch = store.sample(indices)
    observations, successors = numbers_of(batch.observation), numbers_of(batch.next_observation)
    for seed, walk in enumerate(walks):
        for number in range(max(0, added - capacity), added):
            slot = number % capacity
            want = expected(walk.steps[number % envs], number // envs, n, GAMMA)
            assert observations[seed, slot] == want.pop("observation")
            assert successors[seed, slot] == want.pop("next_observation")
            action = batch.action[seed, slot]
            if actions is CHOICE:
                assert action.dtype == torch.int64 and action.item() == want["action"]
            else:
                share = want["action"] / 50
                assert action.tolist() == pytest.approx([share, -share, 0])
            del want["action"]
            for name, value in want.items():
                found = getattr(batch, name)[seed, slot].item()
                assert found == pytest.approx(float(value), rel=1e-5), name


@given(
    spec=SPECS,
    actions=st.sampled_from([BOX, CHOICE]),
    seeds=st.integers(1, 3),
    envs=st.integers(1, 3),
    more=st.integers(0, 14),
    count=st.integers(1, 25),
    n=st.integers(1, 6),
    seed=st.integers(0, 10**6),
)
def test_what_is_sampled_is_what_the_episodes_were(
    spec, actions, seeds, envs, more, count, n, seed
):
    capacity = 2 * envs + more
    store = make(spec, actions, seeds=seeds, envs=envs, capacity=capacity, n=n)
    walks = [Walk((seed, s), envs) for s in range(seeds)]
    walked(store, spec, actions, walks, count)
    check(store, actions, walks, capacity, n)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_episodes_without_end_and_of_one_step_are_right_after_many_rounds(chance):
    store = make(PIXELS, envs=2, capacity=11, n=3)
    walks = [Walk(0, 2, 2 * chance, 0.0)]
    for _ in range(40):
        walked(store, PIXELS, BOX, walks, 1)
        check(store, BOX, walks, 11, 3)


def test_a_return_through_a_termination_and_a_time_limit_by_hand():
    """A value counts only after a limit, and the return is as long as the episode lasts."""
    for terminated in (True, False):
        store = make(VECTOR, n=5)
        walk = Walk(0, 1, 0.0, 0.0)
        for reward in (1.0, 2.0, 4.0):
            one = walk.step()[0]
            one.reward = reward
            one.terminated, one.truncated = reward == 4 and terminated, reward == 4
            add(store, VECTOR, BOX, [[one]])
        batch = store.sample(torch.tensor([[0, 1, 2]]))
        powers = [GAMMA**3, GAMMA**2, GAMMA]
        rewards = [1 + 2 * GAMMA + 4 * GAMMA**2, 2 + 4 * GAMMA, 4]
        assert batch.reward[0].tolist() == pytest.approx(rewards)
        assert batch.discount[0].tolist() == pytest.approx([0] * 3 if terminated else powers)
        assert batch.truncated[0].tolist() == [1, 1, 1]
        assert numbers_of(batch.next_observation)[0].tolist() == [one.successor] * 3


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_store_goes_on_from_a_checkpoint_in_mid_episode(tmp_path, mapped, n):
    directory = tmp_path / "images" if mapped else None
    arguments = {"seeds": 2, "envs": 2, "capacity": 13, "n": n}
    store = make(PIXELS, directory=directory, **arguments)
    walks = [Walk((5, s), 2) for s in range(2)]
    for before in (3, 9):
        walked(store, PIXELS, BOX, walks, before)
        torch.save(store.state_dict(), tmp_path / "store.pt")
        resumed = make(PIXELS, directory=directory, **arguments)
        resumed.load_state_dict(torch.load(tmp_path / "store.pt", weights_only=True))
        # What the first store writes afterwards does not reach the second one.
        same = [walk.step() for walk in walks]
        add(store, PIXELS, BOX, same)
        add(resumed, PIXELS, BOX, same)
        for _ in range(4):
            same = [walk.step() for walk in walks]
            add(resumed, PIXELS, BOX, same)
            check(resumed, BOX, walks, 13, n)
            add(store, PIXELS, BOX, same)
        indices = Streams([1, 2]).integers("minibatch", len(store), (64,))
        assert_equal(store.sample(indices), resumed.sample(indices))


def assert_equal(one, other):
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs), field.name
        elif mine is None:
            assert theirs is None, field.name
        else:
            assert torch.equal(mine.vector, theirs.vector), field.name
            assert mine.images.keys() == theirs.images.keys()
            assert all(torch.equal(mine.images[k], theirs.images[k]) for k in mine.images)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("spec", [VECTOR, PIXELS])
def test_a_seed_samples_the_same_alone_and_in_company(spec, n):
    seeds = [3, 8, 4]
    together = make(spec, seeds=3, envs=2, capacity=17, n=n)
    alone = make(spec, seeds=1, envs=2, capacity=17, n=n)
    walked(together, spec, BOX, [Walk(seed, 2) for seed in seeds], 30)
    walked(alone, spec, BOX, [Walk(8, 2)], 30)
    many = together.sample(Streams(seeds).integers("minibatch", 17, (50,)))
    one = alone.sample(Streams([8]).integers("minibatch", 17, (50,)))
    for name in ("reward", "discount", "action", "terminated", "share"):
        assert torch.equal(getattr(many, name)[1:2], getattr(one, name))
    for name in ("observation", "next_observation"):
        assert np.array_equal(numbers_of(getattr(many, name))[1:2], numbers_of(getattr(one, name)))


def test_images_are_mapped_from_files_that_leave_nothing_behind(tmp_path):
    store = make(PIXELS, envs=2, capacity=11, directory=tmp_path / "new")
    walks = [Walk(0, 2, 0.8)]
    walked(store, PIXELS, BOX, walks, 60)
    check(store, BOX, walks, 11, 1)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"replay.directory=.*choose a folder") as error:
        make(PIXELS, directory=tmp_path / "file" / "below")
    assert "\n" not in str(error.value)


@contextmanager
def room(size):
    """How many bytes a file may have, as on a full disk.

    It is over before the test is: what pytest says of that may go to a file too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_is_one_line_at_the_beginning(tmp_path):
    refused = pytest.raises(UserError, match=r"cannot hold 6e-05 GB of images.*choose a folder")
    with room(1000), refused as error:
        make(PIXELS, capacity=10_000, directory=tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_later_loses_nothing(tmp_path):
    """Only successors that are kept apart need more room in a run."""
    store = make(PIXELS, capacity=40, directory=tmp_path)
    walks = [Walk(0, 1, 2.0, 0.0)]
    walked(store, PIXELS, BOX, walks, 17)
    steps = [walks[0].step()]
    with room(100), pytest.raises(UserError, match=r"replay.directory"):
        add(store, PIXELS, BOX, steps)
    assert len(store) == 17
    add(store, PIXELS, BOX, steps)
    check(store, BOX, walks, 40, 1)


def test_successors_kept_apart_give_their_room_back(tmp_path):
    """Once every transition that is held ends its episode, no more room is needed."""
    store = make(PIXELS, capacity=8, directory=tmp_path)
    walks = [Walk(0, 1, 2.0, 0.0)]
    walked(store, PIXELS, BOX, walks, 24)
    with room(1):
        walked(store, PIXELS, BOX, walks, 200)
    check(store, BOX, walks, 8, 1)


def test_a_number_that_is_not_one_does_not_break_an_episode():
    store = make(VECTOR, n=3)
    walk = Walk(0, 1, 0.0, 0.0)
    for _ in range(3):
        step = walk.step()[0]
        step.observation = step.successor = np.nan
        add(store, VECTOR, BOX, [[step]])
    assert store.left(torch.tensor([[0, 1, 2]])).tolist() == [[2, 1, 0]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"n": 0}, "n_step=0"), ({"envs": 4, "capacity": 7}, "online.buffer_size=7")],
)
def test_sizes_out_of_range_are_refused_in_one_line(arguments, words):
    with pytest.raises(UserError, match=words):
        make(VECTOR, **arguments)


MEMORY = """
import numpy as np, resource, torch
from pathlib import Path
from jsrl.core.observations import Observation
from jsrl.core.specs import BoxActions, ImagePart, ObservationSpec
from jsrl.core.transitions import Moment
from jsrl.envs.make import Step
from jsrl.rollout.transition_store import TransitionStore
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
spec = ObservationSpec((), (ImagePart((), (64, 64, 3), (2, 0, 1), (3, 64, 64)),))
images = torch.randint(0, 255, (257, 1, 3, 64, 64), dtype=torch.uint8)
pages = int(Path("/proc/self/statm").read_text().split()[1])
before = pages * resource.getpagesize()
store = TransitionStore(spec, BoxActions((-1.0,), (1.0,), (1,)), num_seeds=1, num_envs=1,
    capacity=100_000, discount=0.99, device=torch.device("cpu"))
flag, number = np.zeros(1, bool), np.zeros(1, np.int64)
for i in range(110_000):
    ended = np.array([i % 200 == 199])
    after = images[(i * 7 + 3) % 257] if ended[0] else images[(i + 1) % 257]
    seen, seen_then = (Observation(torch.zeros(1, 0), {"observation": x})
        for x in (images[i % 257], after))
    action = np.zeros((1, 1), np.float32)
    store.add(Moment(seen, action, number, number, flag, number, ~flag),
        Step(seen_then, np.zeros(1, np.float32), flag, ended, np.zeros(1, np.float32)))
store.sample(torch.randint(0, 100_000, (1, 256)))
print(peak() - before)
"""


@pytest.mark.slow
def test_a_hundred_thousand_images_take_at_most_1400_megabytes():
    """Episodes of 200 steps; the peak of the process above what it had before the store."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", MEMORY], env=environment, capture_output=True, text=True, check=True
    )
    used = int(found.stdout)
    assert 100_000 * 64 * 64 * 3 <= used <= 1.4e9, used
