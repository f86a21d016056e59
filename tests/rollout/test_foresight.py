"""What the guide would do in the successors: in moments, in stores, in data, and on resuming."""

from dataclasses import replace

import fakes
import numpy as np
import pytest
import torch
from collected import CPU, assert_equal, make, run, through_a_file
from fakes import FakeGuide, FakePolicy, FixedSteps

from jsrl.core.arbitration import NEXT_GUIDE
from jsrl.core.specs import DiscreteActions
from jsrl.core.streams import Streams
from jsrl.core.transitions import Frames, TransitionData
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.jumpstart.arbiters import Rule
from jsrl.rollout.foresight import in_successors
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.replay import Replay
from jsrl.rollout.transition_store import TransitionStore

H = [FixedSteps(2), FixedSteps(4)]


class Turns(Rule):
    """The guide acts in every third step, and has a share in every other third."""

    needs = frozenset({NEXT_GUIDE})

    def decide(self, moment, state, streams):
        return (moment.times % 3) / 2, state

    def target(self, moment):
        return torch.zeros_like(moment.draws)


class Looks(FakeGuide):
    """Answers by what it sees, so that it is known what it was shown."""

    def act(self, obs, streams, mask):
        sign = super().act(obs, streams, mask).sign()
        return sign * torch.sin(obs.vector[..., :2] + 1).abs()


def settings(end="truncated", **kwargs):
    return EnvSettings(fakes.COUNTING, {"lengths": (3, 5), "end": end, **kwargs})


def following(seeds=(0, 1), end="truncated", foresees=True):
    collector = make(list(seeds), 2, settings(end))
    collector.follow(Turns(), foresees=foresees)
    return collector


def store_of(seeds=2, n_step=1, next_guide=True):
    spec = describe_env(settings())
    return TransitionStore(
        spec.observation, spec.actions, num_seeds=seeds, num_envs=2, capacity=200,
        discount=0.9, n_step=n_step, device=CPU, next_guide=next_guide,
    )  # fmt: skip


def collect(collector, store, steps, guide):
    for _ in range(steps):
        moment, step, _ = collector.step(FakePolicy(), guide, H)
        store.add(moment, step)
    return store


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("end", ["truncated", "terminated"])
def test_a_minibatch_holds_what_the_guide_does_in_the_last_successor(end, n_step):
    store = collect(following(end=end), store_of(n_step=n_step), 30, Looks())
    batch = store.sample(torch.arange(60).expand(2, -1))
    expected = torch.sin(batch.next_observation.vector[..., :2] + 1).abs()
    expected = torch.where(batch.terminated.bool().unsqueeze(-1), 0.0, expected)
    torch.testing.assert_close(batch.next_guide, expected)
    ended = batch.truncated if end == "truncated" else batch.terminated
    assert 0 < ended.mean() < 1
    if n_step == 1:
        part = batch.part(1, 2)
        assert torch.equal(part.next_guide, batch.next_guide[:, 1::2])


def test_the_guide_does_next_what_it_said_and_is_asked_no_more_than_once_a_state():
    collector, guide = following(), Looks(noise=0.3)
    before, began = None, 4
    for _ in range(40):
        moment, step, _ = collector.step(FakePolicy(), guide, H)
        alone = moment.by_guide & (moment.times > 0)
        if before is not None:
            assert np.array_equal(moment.actions[alone], before[alone])
        before = moment.next_guide
        began += int((step.terminated | step.truncated).sum())
    # In every state that was reached, and in the first one of every episode that began.
    assert guide.rows() == 40 * 4 + began - int((step.terminated | step.truncated).sum())


def test_a_guide_with_memory_is_led_through_each_episode_once():
    """It turns its sign at every step of an episode, also in the one that comes of the last."""
    collector, guide = following(), FakeGuide(stateful=True)
    for _ in range(25):
        moment, _, _ = collector.step(FakePolicy(), guide, H)
        sign = np.where((moment.times + 1) % 2 == 0, 0.5, -0.5)
        assert np.array_equal(moment.next_guide, np.stack([sign, sign], 1).astype(np.float32))


@pytest.mark.parametrize("cut", [1, 5, 13])
def test_a_run_goes_on_in_the_middle_of_episodes_as_if_nothing_had_happened(cut):
    """With a guide that draws and remembers: neither its answers nor its steps come twice."""

    def guide():
        return Looks(noise=0.3, stateful=True)

    collector, first, store = following(), guide(), store_of()
    collect(collector, store, cut, first)
    state = through_a_file((collector.state_dict(), store.state_dict()))
    collect(collector, store, 15, first)
    resumed, second, again = following(), guide(), store_of()
    assert resumed.load_state_dict(state[0], second) == []
    again.load_state_dict(state[1])
    collect(resumed, again, 15, second)
    everything = torch.arange(2 * (cut + 15)).expand(2, -1)
    one, other = store.sample(everything), again.sample(everything)
    for name in ("action", "next_guide", "share", "reward"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_seed_collects_bitwise_the_same_alone_and_in_company():
    def of(seeds, indices):
        guide = Looks(noise=0.3)
        collector, store = following(seeds), store_of(len(seeds))
        for _ in range(20):
            moment, step, _ = collector.step(FakePolicy(), guide, [H[i] for i in indices])
            store.add(moment, step)
        return store.sample(torch.arange(40).expand(len(seeds), -1))

    together = of((3, 8), (0, 1))
    for index, seed in enumerate((3, 8)):
        alone = of((seed,), (index,))
        for name in ("action", "next_guide", "share"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[index])


def test_where_h_alone_is_to_count_the_guide_is_foreseen_too():
    collector, guide = following(), Looks()
    collector.guide_alone = True
    store = collect(collector, store_of(), 12, guide)
    batch = store.sample(torch.arange(24).expand(2, -1))
    torch.testing.assert_close(
        batch.next_guide, torch.sin(batch.next_observation.vector[..., :2] + 1).abs()
    )
    assert 0 < batch.by_guide.mean() < 1


def test_what_is_not_asked_for_costs_nothing():
    guide, unseen = FakeGuide(), following(foresees=False)
    rows, _ = run(unseen, 12, FakePolicy(), guide, H)
    assert guide.rows() < 12 * 4
    assert "foresight" not in unseen.state_dict()
    plain, wide = store_of(next_guide=False).layout, store_of().layout
    assert (wide.width, plain.width) == (plain.width + fakes.ACTION_SIZE, 2 * 3 + 2 + 7)
    looked, _ = run(following(), 12, FakePolicy(), FakeGuide(), H)
    assert_equal(rows, looked)


def recorded(images=False):
    generator = np.random.default_rng(0)
    ends = np.arange(1, 11) % 4 == 0
    frames = None
    if images:
        pictures = {"eye": np.arange(11 * 12, dtype=np.uint8).reshape(11, 1, 3, 4)}
        frames = Frames(pictures, np.arange(10), np.arange(1, 11))
    return TransitionData(
        observations=generator.normal(size=(10, 3)).astype(np.float32),
        actions=np.zeros((10, 2), np.float32),
        rewards=np.zeros(10, np.float32),
        next_observations=generator.normal(size=(10, 3)).astype(np.float32),
        terminals=ends & (np.arange(10) < 5),
        timeouts=ends & (np.arange(10) > 5),
        frames=frames,
    )


@pytest.mark.parametrize("n_step", [1, 2])
def test_the_guide_is_asked_once_in_all_successors_of_the_data(n_step, monkeypatch):
    monkeypatch.setattr("jsrl.rollout.foresight.ROWS_AT_A_TIME", 4)
    spec, data, guide = describe_env(settings()), recorded(), Looks(noise=0.2)
    found = in_successors(guide, data, spec, Streams([0, 1]), CPU)
    store = OfflineStore(
        data, spec.observation, spec.actions, discount=0.9, n_step=n_step, device=CPU
    )
    replay = Replay(store, None, 10, None, CPU)
    assert replay.sample(Streams([0, 1])).next_guide is None
    store.keep_guide_actions(found)
    assert replay.sample(Streams([0, 1])).next_guide.shape == (2, 10, 2)
    batch = store.packed(torch.arange(10).expand(2, -1)).unpack(store.layout)
    expected = torch.sin(batch.next_observation.vector[..., :2] + 1).abs()
    over = batch.terminated.bool().unsqueeze(-1)
    torch.testing.assert_close(batch.next_guide.abs(), torch.where(over, 0.0, expected))
    assert guide.rows() == 2 * (10 - 1)
    alone = in_successors(Looks(noise=0.2), data, spec, Streams([1]), CPU)
    assert torch.equal(alone[0], found[1])


def test_choices_and_pictures_of_the_data_are_shown_as_they_are():
    class Sees(FakeGuide):
        def act(self, obs, streams, mask):
            return torch.where(mask, obs.images["eye"][..., 0, 0, 0].long() // 12, 0)

    spec = describe_env(EnvSettings(fakes.CHOOSING))
    assert isinstance(spec.actions, DiscreteActions)
    found = in_successors(Sees(), recorded(images=True), spec, Streams([0]), CPU)
    assert found[0].tolist() == [1, 2, 3, 0, 5, 6, 7, 8, 9, 10]
    data = replace(recorded(), actions=np.zeros(10, np.int64))
    store = OfflineStore(data, spec.observation, spec.actions, discount=0.9, device=CPU)
    store.keep_guide_actions(found)
    batch = store.packed(torch.arange(10)[None]).unpack(store.layout)
    assert batch.next_guide.dtype == torch.int64
    assert torch.equal(batch.next_guide, found.long())
