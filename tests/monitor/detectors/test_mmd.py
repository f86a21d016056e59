"""Two-sample tests by permutation, against enumeration, SciPy and a case worked out by hand."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from monitor.draws import generator, normal
from monitor.episodes import walk
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from jsrl.monitor.detectors.kernels import median_distance, squared_distances
from jsrl.monitor.detectors.mmd import (
    AutocorrelationWarning,
    mmd_permutation_test,
    mmd_permutation_tests,
)


def mmd_by_loops(kernel, first, second):
    """The unbiased MMD² of one split, written out."""
    total = 0.0
    for side in (first, second):
        pairs = [kernel[i, j] for i in side for j in side if i != j]
        total += sum(pairs) / len(pairs)
    between = [kernel[i, j] for i in first for j in second]
    return total - 2 * sum(between) / len(between)


def kernel_by_scipy(samples):
    distances = pdist(samples)
    # The lower median, as of an even number torch takes it.
    bandwidth = np.sort(distances)[(len(distances) - 1) // 2]
    return np.exp(-(squareform(distances) ** 2) / (2 * bandwidth**2)), bandwidth


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_exhaustive_mode_equals_full_enumeration(shift):
    x, y = normal((5, 3), 1), normal((5, 3), 2, shift)
    kernel, bandwidth = kernel_by_scipy(torch.cat([x, y]).numpy())
    values = [
        mmd_by_loops(kernel, first, [i for i in range(10) if i not in first])
        for first in itertools.combinations(range(10), 5)
    ]
    result = mmd_permutation_test(x, y, exhaustive=True)
    assert len(values) == 252
    assert result.statistic == pytest.approx(values[0], abs=1e-12)
    assert result.bandwidth == pytest.approx(bandwidth, rel=1e-12)
    assert result.p_value == np.mean(np.array(values) >= values[0] - 1e-10)
    assert result.smallest_p == 1 / 252


def test_a_hand_computed_case():
    # Distances 1 within x and within y, 3 between the first ones, and so on: points on a line.
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [4.0]])

    # Distances 1, 3, 4, 2, 3, 1; lower median 2.
    def k(d):
        return np.exp(-(d**2) / 8)

    expected = 2 * k(1) - 2 * (k(3) + k(4) + k(2) + k(3)) / 4
    result = mmd_permutation_test(x.double(), y.double(), exhaustive=True)
    assert result.bandwidth == 2
    assert result.statistic == pytest.approx(expected, abs=1e-12)
    # Of the 6 splits this one and its mirror image are the most extreme.
    assert result.p_value == pytest.approx(2 / 6)


def test_it_agrees_with_scipy_within_monte_carlo_error():
    x, y = normal((20, 2), 3), normal((25, 2), 4, 0.35)
    kernel, _ = kernel_by_scipy(torch.cat([x, y]).numpy())

    def statistic(first, second):
        return mmd_by_loops(kernel, first.astype(int), second.astype(int))

    theirs = stats.permutation_test(
        (np.arange(20.0), np.arange(20.0, 45.0)),
        statistic,
        alternative="greater",
        n_resamples=1000,
        rng=np.random.default_rng(0),
    )
    ours = mmd_permutation_test(x, y, permutations=20_000, generator=generator(5))
    assert ours.statistic == pytest.approx(theirs.statistic, abs=1e-12)
    error = np.sqrt(ours.p_value * (1 - ours.p_value) / 1000)
    assert 0.005 < ours.p_value < 0.5
    assert abs(ours.p_value - theirs.pvalue) < 4 * error


def test_the_p_value_is_never_zero():
    result = mmd_permutation_test(
        normal((30, 2), 1), normal((30, 2), 2, 5.0), permutations=99, generator=generator()
    )
    assert result.p_value == result.smallest_p == 1 / 100


def test_independent_samples_are_rejected_at_the_nominal_rate():
    rejected = 0
    for batch in range(20):
        x, y = normal((50, 40, 3), 2 * batch).float(), normal((50, 30, 3), 2 * batch + 1).float()
        found = mmd_permutation_tests([x], [y], 199, generator=generator(batch))
        rejected += int((found.p_values <= 0.05).sum())
    assert 0.035 <= rejected / 1000 <= 0.065


def test_whole_episodes_are_permuted_as_blocks():
    rng = np.random.default_rng(0)
    groups_x, groups_y = (
        torch.arange(12).repeat_interleave(15),
        torch.arange(8).repeat_interleave(15),
    )
    rejected = {"episodes": 0, "steps": 0}
    for i in range(300):
        x = torch.from_numpy(np.concatenate([walk(rng, 15, columns=2) for _ in range(12)]))
        y = torch.from_numpy(np.concatenate([walk(rng, 15, columns=2) for _ in range(8)]))
        blocks = mmd_permutation_test(x, y, groups_x, groups_y, 199, generator=generator(i))
        rejected["episodes"] += blocks.p_value <= 0.05
        if i < 40:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AutocorrelationWarning)
                single = mmd_permutation_test(x, y, permutations=199, generator=generator(i))
            rejected["steps"] += single.p_value <= 0.05
    assert rejected["episodes"] / 300 <= 0.08
    # What goes wrong otherwise.
    assert rejected["steps"] / 40 > 0.5


def test_blocks_of_unequal_length_equal_enumeration():
    lengths_x, lengths_y = (2, 5, 3), (4, 1, 6)
    x, y = normal((10, 2), 1), normal((11, 2), 2, 0.5)
    blocks = np.repeat(np.arange(6), [*lengths_x, *lengths_y])
    kernel, _ = kernel_by_scipy(torch.cat([x, y]).numpy())
    values = []
    for first in itertools.combinations(range(6), 3):
        on_first = np.isin(blocks, first)
        values.append(mmd_by_loops(kernel, np.flatnonzero(on_first), np.flatnonzero(~on_first)))
    groups = torch.from_numpy(blocks)
    result = mmd_permutation_test(x, y, groups[:10], groups[10:], exhaustive=True)
    assert result.statistic == pytest.approx(values[0], abs=1e-12)
    assert result.p_value == np.mean(np.array(values) >= values[0] - 1e-10)


def test_a_dead_layer_is_flagged_and_rejects_nothing():
    # Far from 0, where the products that distances are made of are only nearly equal.
    x = torch.full((30, 16), 1234.567)
    result = mmd_permutation_test(x, x[:20], permutations=50, generator=generator())
    assert result.degenerate
    assert result.p_value == 1
    assert result.bandwidth == 0


def test_equal_rows_have_no_distance_and_others_their_own():
    samples = torch.cat([torch.full((2, 64), 1e4), torch.full((1, 64), 1e4 + 1)])
    distances = squared_distances(samples - samples.mean(0))
    assert distances[0, 1] == 0
    assert distances[0, 2] == pytest.approx(64, rel=1e-3)
    assert median_distance(distances) == pytest.approx(8, rel=1e-3)


def test_many_tests_at_once_are_the_tests_one_by_one():
    x = [normal((4, 12, d), d) for d in (2, 5)]
    y = [normal((4, 9, d), d + 10, 0.6) for d in (2, 5)]
    many = mmd_permutation_tests(x, y, 300, generator=generator(7))
    for layer in range(2):
        for test in range(4):
            one = mmd_permutation_test(
                x[layer][test], y[layer][test], permutations=300, generator=generator(7)
            )
            assert many.statistics[test, layer] == pytest.approx(one.statistic, abs=1e-12)
            assert many.p_values[test, layer] == one.p_value


def test_autocorrelated_steps_without_groups_are_warned_of():
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(walk(rng, 200)) for _ in range(2))
    with pytest.warns(AutocorrelationWarning, match="groups_x"):
        mmd_permutation_test(x, y, permutations=9, generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mmd_permutation_test(
            normal((50, 3), 1), normal((50, 3), 2), permutations=9, generator=generator()
        )
