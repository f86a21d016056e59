"""Wide layers and pictures: what a test costs, and what it still sees."""

import numpy as np
import pytest
import torch
from monitor.draws import generator, normal
from monitor.episodes import steps_of

from jsrl.core.streams import Streams
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.detector import compare
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.reduction import NUMBERS, WIDE, averaged_in_runs, reduced
from jsrl.monitor.detectors.window import Window
from jsrl.monitor.watch.episode_watch import Watch
from jsrl.monitor.watch.settings import WatchSettings


def test_a_projection_keeps_distances_and_is_the_same_for_a_seed():
    x, y = normal((20, 5000), 0), normal((10, 5000), 1)
    found = reduced((x, y), "hidden", 3)
    assert found.shape == (30, NUMBERS)
    assert torch.equal(found, reduced((x, y), "hidden", 3))
    assert not torch.equal(found, reduced((x, y), "hidden", 4))
    assert not torch.equal(found, reduced((x, y), "other", 3))
    # Which side a sample is on does not matter.
    swapped = reduced((y, x), "hidden", 3)
    assert torch.allclose(torch.cat([swapped[10:], swapped[:10]]), found)
    ratio = torch.pdist(found) / torch.pdist(torch.cat([x, y]))
    assert 0.95 < float(ratio.mean()) < 1.05 and float(ratio.min()) > 0.6


def test_narrow_layers_stay_as_they_are_and_maps_become_statistics_of_channels():
    x, y = normal((5, WIDE), 0), normal((4, WIDE), 1)
    assert torch.equal(reduced((x, y), "hidden", 0), torch.cat([x, y]))
    maps = normal((6, 3, 7, 5), 2)
    found = reduced((maps[:4], maps[4:]), "map", 0).numpy()
    values = maps.numpy().reshape(6, 3, -1)
    assert found == pytest.approx(np.concatenate([values.mean(2), values.std(2)], 1))
    assert reduced((normal((4, 200, 3, 3), 3),), "map", 0).shape == (4, NUMBERS)


def test_columns_are_averaged_in_runs():
    x = normal((9, 10), 0)
    z = (x - x.mean(0)) / x.std(0)
    found = averaged_in_runs((x[:5], x[5:]), 4)
    oracle = [z[:, start : start + 3].mean(1) for start in (0, 3, 6, 9)]
    assert torch.allclose(found, torch.stack(oracle, 1))


class Pictures:
    """Episodes of 36 x 36 pictures: an AR(1) blend of fixed scenes, and the noise of a camera."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.scenes = np.random.default_rng(99).normal(size=(6, 36, 36)).cumsum(1).cumsum(2) / 20
        self.number = 0

    def episode(self, occluded=False, length=8):
        blend = self.rng.normal(size=6) + 0.3 * self.rng.normal(size=(length, 6)).cumsum(0)
        pictures = np.tensordot(blend, self.scenes, 1)
        pictures += 0.1 * self.rng.normal(size=pictures.shape)
        if occluded:
            pictures[:, :18, :18] = 0.0
        observations = pictures.reshape(length, -1).astype(np.float32)
        self.number += 1
        inputs = torch.from_numpy(observations)
        return Sample(steps_of(observations, self.number), {"inputs": inputs})


def test_a_quarter_of_a_picture_that_goes_dark_raises_an_alarm_within_six_episodes():
    """At the promised level: any alarm in 200 episodes has a probability of at most 5 %."""
    settings = WatchSettings(detector=DetectorSettings(6000), reference=40)
    watch, source = Watch(settings, Streams([0], ("test",))), Pictures()
    for _ in range(settings.reference):
        watch.trust(source.episode())
    clean = [watch.add(source.episode()) for _ in range(3)]
    assert not any(check.alarm for check in clean)
    found = [watch.add(source.episode(occluded=True)) for _ in range(6)]
    assert all(check.method == "permutations" and check.level <= 0.05 / 200 for check in found)
    assert any(check.alarm for check in found)
    worst = min(found[-1].finding.margins, key=lambda margin: margin.p_value)
    assert worst.column == -1 and len(found[-1].finding.margins) == 4


def test_pictures_of_a_size_of_which_no_covariance_fits_into_memory_are_compared():
    """4 x 84 x 84 columns: a covariance would take 6 GB in float64."""
    rng = np.random.default_rng(0)

    def side(episodes, shift):
        values = torch.from_numpy(rng.normal(size=(episodes * 2, 28224)).astype(np.float32) + shift)
        episode = torch.arange(episodes).repeat_interleave(2)
        return Window(episode, {"inputs": values}, values)

    same, moved = side(10, 0), side(4, 0.1)
    found = compare(side(12, 0), moved, DetectorSettings(400), generator())
    assert len(found.margins) == 4 and found.p_value < 0.01
    assert compare(side(12, 0), same, DetectorSettings(400), generator()).p_value > 0.01


def test_permutations_are_tied_to_the_level():
    settings = DetectorSettings()
    assert settings.for_level(0.05).permutations == 1000
    assert settings.for_level(0.05 / 200).permutations == settings.permutations
