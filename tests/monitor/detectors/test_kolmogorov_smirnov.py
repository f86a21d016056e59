"""``monitor=kolmogorov_smirnov``: the distances of SciPy, and what they notice."""

import numpy as np
import pytest
import torch
from monitor.episodes import network, sample_of, walk
from scipy import stats
from small_runs import composed

from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.detector import compare
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.margins import STANDARD, margins_of_episodes

NAME = "kolmogorov_smirnov"


def test_distances_are_scipys_ties_and_all():
    rng = np.random.default_rng(0)
    lengths = (1, 9, 4, 30)
    values = rng.normal(size=(sum(lengths), 3))
    values[:, 1] = values[:, 1].round()
    values[:, 2] = 5.0
    # Episode 3 has no step and gets the mean of the others.
    blocks = np.repeat([0, 1, 2, 4], lengths)
    (found,) = margins_of_episodes(
        torch.from_numpy(values), torch.from_numpy(blocks), 5, (NAME,)
    ).values()
    assert found.shape == (3, 5)
    for episode in (0, 1, 2, 4):
        for column in range(3):
            own = values[blocks == episode, column]
            expected = stats.ks_2samp(own, values[:, column]).statistic
            assert found[column, episode].item() == pytest.approx(expected)
    others = found[:, [0, 1, 2, 4]].mean(1)
    torch.testing.assert_close(found[:, 3], others)


def episodes(count, seed, signs_alone=False):
    """Episodes of steps that are drawn anew; or of their column 1 nothing but the sign."""
    rng, module, found = np.random.default_rng(seed), network(), []
    for number in range(count):
        steps = walk(rng, 60)
        steps[:, 1] = rng.normal(size=len(steps))
        if signs_alone:
            steps[:, 1] = np.sign(steps[:, 1])
        found.append(sample_of(steps, module, number))
    return Sample.concatenate(found, renumber=True)


def test_a_column_of_the_same_mean_and_spread_is_noticed_by_its_distance_alone():
    settings = DetectorSettings(2000, 60, margins=(*STANDARD, NAME))
    both = episodes(12, 0), episodes(4, 1, signs_alone=True)
    found = compare(*both, settings, torch.Generator().manual_seed(0))
    p = {margin.kind: margin.p_value for margin in found.margins if margin.column == 1}
    assert p[NAME] == found.smallest_p
    assert p["mean"] > 0.05
    assert found.p_value < 0.05


def test_where_nothing_is_wrong_it_raises_no_alarm():
    settings = DetectorSettings(500, 60, margins=(NAME,))
    both = episodes(12, 2), episodes(4, 3)
    assert compare(*both, settings, torch.Generator().manual_seed(0)).p_value > 0.05


def test_it_is_chosen_by_name():
    typed, _ = composed("run_dir=x", f"monitor={NAME}")
    assert typed.monitor.enabled and typed.monitor.margins == [*STANDARD, NAME]
    typed, _ = composed("run_dir=x", "monitor=on")
    assert typed.monitor.margins == list(STANDARD)
