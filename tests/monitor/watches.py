"""Watches that are quick to fill, and episodes for them, for tests of the monitor."""

import numpy as np
from monitor.episodes import network, sample_of, walk

from jsrl.core.streams import Streams
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.watch.episode_watch import Watch
from jsrl.monitor.watch.settings import WatchSettings

FEW = DetectorSettings(permutations=600)


def settings(**changes):
    """At each test 0.05: reached by 8 and 2 episodes (45 splits), not by 8 and 1 (9 splits)."""
    few = {"level": 0.5, "horizon": 10, "window": 3, "reference": 8, "detector": FEW}
    return WatchSettings(**(few | changes))


def watch_of(own, seed=0):
    return Watch(own, Streams([seed], ("test",)))


class EpisodeSource:
    """Numbered episodes of AR(1) steps, seen through a network."""

    def __init__(self, seed=0, module=None):
        self.rng, self.module, self.number = np.random.default_rng(seed), module or network(), 0

    def episode(self, shift=0.0, length=20):
        observations = walk(self.rng, length) + np.float32(shift)
        self.number += 1
        return sample_of(observations, self.module, self.number - 1)

    def forward(self, steps):
        return sample_of(steps.observations, self.module).activations


def ready(own, seed=0):
    """A watch whose reference is complete, and where its episodes come from."""
    source, watch = EpisodeSource(seed), watch_of(own, seed)
    for _ in range(own.reference):
        assert not watch.ready
        assert watch.add(source.episode()) is None
    assert watch.ready
    return watch, source


def numbers(samples):
    """Which episodes these are; ``steps_of`` numbers their steps by them."""
    return [int(sample.steps.step[0]) // 1000 for sample in samples]
