"""What is gathered between two records: episodes by who acted, and rates of learning alone."""

import math
import time

import numpy as np
import pytest

from jsrl.rollout.collector import Episode
from jsrl.rollout.tracker import Stopwatch, Tracker


def episode(seed, paid, success, length, guide_steps):
    return Episode(seed, paid, success, length, guide_steps)


def test_episodes_with_the_guide_and_of_the_explorer_alone_are_told_apart():
    tracker = Tracker(2)
    nobody = np.zeros(2, np.float32)
    tracker.add([episode(0, 1.0, 1.0, 10, 4), episode(0, 4.0, 0.0, 20, 0)], nobody)
    tracker.add([episode(1, 7.0, None, 30, 30), episode(0, 2.0, 0.0, 12, 1)], nobody)
    found = tracker.take()
    assert found["collect/return"] == pytest.approx([7 / 3, 7.0])
    assert found["collect/combined_return"] == [1.5, 7.0]
    assert found["collect/combined_success"] == pytest.approx([0.5, math.nan], nan_ok=True)
    assert found["collect/combined_length"] == [11.0, 30.0]
    assert found["collect/exploration_return"] == pytest.approx([4.0, math.nan], nan_ok=True)
    assert found["collect/exploration_length"] == pytest.approx([20.0, math.nan], nan_ok=True)
    assert "collect/return" not in tracker.take()


def test_without_a_guide_nothing_is_said_of_episodes_with_one():
    tracker = Tracker(1)
    tracker.add([episode(0, 1.0, 1.0, 10, 0)], np.zeros(1, np.float32))
    found = tracker.take()
    assert found["collect/exploration_return"] == found["collect/return"] == [1.0]
    assert not any("combined" in name for name in found)


def test_a_tracker_goes_on_from_a_checkpoint_also_of_an_earlier_version():
    tracker, later = Tracker(1), Tracker(1)
    tracker.add([episode(0, 1.0, 1.0, 10, 3)], np.ones(1, np.float32))
    later.load_state_dict(tracker.state_dict())
    assert later.take() == tracker.take()
    earlier = Tracker(1)
    earlier.load_state_dict({"episodes": [[[2.0, 1.0, 5.0]]], "guide_share": [0.0], "steps": 1})
    found = earlier.take()
    assert found["collect/return"] == [2.0]
    assert set(found) == {
        "collect/guide_fraction", "collect/return", "collect/success", "collect/length",
    }  # fmt: skip


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_a_pause_slows_no_rate_down_and_is_part_of_the_total(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    stopwatch = Stopwatch(100.0)
    assert stopwatch.rates(updates=0) == {}
    clock.seconds = 1.0
    with stopwatch.paused():
        clock.seconds = 7.0
    clock.seconds = 10.0
    assert stopwatch.rates(updates=40) == {"throughput/updates_per_second": 40 / (10 - 6)}
    assert stopwatch.total() == 110.0
    clock.seconds = 12.0
    assert stopwatch.rates(updates=40) == {"throughput/updates_per_second": 0.0}


def test_the_first_rate_of_a_stage_counts_from_its_beginning(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    stopwatch = Stopwatch()
    clock.seconds = 50.0  # data were collected before
    stopwatch.begin(updates=0, env_steps=0)
    clock.seconds = 52.0
    assert stopwatch.rates(updates=30, env_steps=0) == {
        "throughput/updates_per_second": 15.0,
        "throughput/env_steps_per_second": 0.0,
    }
