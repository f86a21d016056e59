"""What the monitor of a deployed policy keeps: recordings, and a reference that others load."""

import numpy as np
import pytest
import torch
from monitor.episodes import COLUMNS, network, sample_of, walk
from monitor.monitored import filled, gaussian, p_values, play, wrap
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.monitor import Recording
from jsrl.monitor.watch.unfinished_episodes import MOST_STEPS, UnfinishedEpisodes

A_SPLIT = 1.01 / 35
"""One of the splits more or less. A loaded reference passes through the network as a batch, not
step by step, and that is rounded differently: a split that is nearly as extreme as the observed one
may come to lie on its other side."""


def test_every_second_step_is_looked_at_and_time_goes_on_between(tmp_path):
    rng, monitor = np.random.default_rng(0), wrap(interval=2)
    episodes = [walk(rng, 6) for _ in range(4)]
    for episode in episodes:
        play(monitor, episode)
    monitor.save_reference(tmp_path)
    steps = Recording(tmp_path).steps()
    assert steps.time.tolist() == [1, 3, 5] * 4
    assert steps.step.tolist() == list(range(2, 25, 2))
    expected = np.concatenate([episode[1::2] for episode in episodes])
    assert np.array_equal(steps.observations, expected)
    answers = network()(torch.from_numpy(expected)).detach().numpy()
    np.testing.assert_allclose(steps.actions, answers, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        Recording(tmp_path).layer("outputs").values, answers, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("ended", [True, False])
def test_what_was_looked_at_is_recorded(tmp_path, ended):
    rng, monitor = np.random.default_rng(0), wrap(interval=2, record=tmp_path / "seen", seed=7)
    episodes = rng.normal(size=(3, 2, 6, COLUMNS)).astype(np.float32)
    for number, robots in enumerate(episodes):
        for step in range(6):
            monitor(torch.from_numpy(robots[:, step]))
        if ended or number < 2:
            monitor.end_episode()
    monitor.close()
    recording = Recording(tmp_path / "seen")
    found = recording.layer("outputs", "deployed", seed=7)
    assert found.steps.time.tolist() == [1, 1, 3, 3, 5, 5] * 3
    assert found.steps.step.tolist() == np.repeat(range(2, 19, 2), 2).tolist()
    answers = network()(torch.from_numpy(found.steps.observations)).detach().numpy()
    np.testing.assert_allclose(found.values, answers, rtol=1e-5, atol=1e-6)
    whole = recording.episodes("deployed", 7)
    # Of the two robots the last episodes are whole only if they ended.
    assert [int(steps.episode[0]) for steps in whole] == list(range(6 if ended else 4))
    assert np.array_equal(whole[3].observations, episodes[1, 1, 1::2])


def test_of_a_long_episode_a_bounded_number_of_steps_is_kept_evenly_spread():
    unfinished, policy = UnfinishedEpisodes(), network()
    for count in range(1000):
        if unfinished.keeps(3, count):
            unfinished.add(3, sample_of(np.full((1, COLUMNS), count, np.float32), policy))
    kept = unfinished.pop(3).steps.observations[:, 0]
    assert MOST_STEPS / 2 < len(kept) <= MOST_STEPS
    assert np.array_equal(kept, np.arange(0, 1000, 4))
    assert unfinished.pop(3) is None


def test_a_recording_is_not_gone_on_with(tmp_path):
    with wrap(record=tmp_path / "new") as monitor:
        play(monitor, walk(np.random.default_rng(0)))
    assert len(Recording(tmp_path / "new").episodes()) == 1
    with pytest.raises(UserError, match="is there already; choose a new folder"):
        wrap(record=tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made: Not a directory"):
        wrap(record=tmp_path / "file" / "new")


def test_a_saved_reference_serves_another_monitor_of_the_same_network(tmp_path):
    rng = np.random.default_rng(0)
    monitor = filled(rng)
    monitor.save_reference(tmp_path)
    again = wrap()
    again.load_reference(str(tmp_path))
    assert again.ready
    expected = p_values(monitor, np.random.default_rng(1))
    assert p_values(again, np.random.default_rng(1)) == pytest.approx(expected, abs=A_SPLIT)
    assert len(expected) == 4 and len(set(expected)) > 1
    # Loaded observations pass through the network as it is, not as it was.
    other = wrap(network(1))
    other.load_reference(tmp_path)
    anew = filled(np.random.default_rng(0), network(1))
    fresh = p_values(anew, np.random.default_rng(1))
    assert p_values(other, np.random.default_rng(1)) == pytest.approx(fresh, abs=A_SPLIT)


def test_the_reference_of_a_policy_of_the_package_can_be_loaded(tmp_path):
    def act(monitor):
        for observation in walk(rng):
            monitor.act(Observation(torch.from_numpy(observation).view(1, 1, -1)), None)
        return monitor.end_episode()

    rng, monitor = np.random.default_rng(0), wrap(gaussian())
    for _ in range(4):
        assert act(monitor) == []
    monitor.save_reference(tmp_path)
    again = wrap(gaussian())
    again.load_reference(tmp_path)
    assert again.ready
    assert 0 < act(again)[0].p_value <= 1


def test_a_saved_reference_takes_the_place_of_an_earlier_one(tmp_path):
    first, second = (filled(np.random.default_rng(seed)) for seed in (0, 1))
    first.save_reference(tmp_path)
    second.save_reference(tmp_path)
    again = wrap()
    again.load_reference(tmp_path)
    expected = p_values(second, np.random.default_rng(2))
    assert p_values(again, np.random.default_rng(2)) == pytest.approx(expected, abs=A_SPLIT)


@pytest.mark.parametrize(
    "sizes", [(COLUMNS, 8), (COLUMNS - 1, 16)], ids=["other layers", "other inputs"]
)
def test_the_reference_of_another_network_is_refused(tmp_path, sizes):
    filled(np.random.default_rng(0)).save_reference(tmp_path)
    columns, width = sizes
    other = nn.Sequential(
        *(nn.Linear(columns, 16), nn.ReLU(), nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 2))
    )
    monitor = wrap(other)
    with pytest.raises(UserError, match="another network"):
        monitor.load_reference(tmp_path)
    assert not monitor.ready


def test_a_reference_that_is_not_complete_is_not_saved(tmp_path):
    rng, monitor = np.random.default_rng(0), wrap()
    for _ in range(3):
        play(monitor, walk(rng))
    with pytest.raises(UserError, match="the reference has 3 of 4 episodes"):
        monitor.save_reference(tmp_path / "reference")
    assert not (tmp_path / "reference").exists()
    with pytest.raises(UserError, match="is no recording"):
        monitor.load_reference(tmp_path)
