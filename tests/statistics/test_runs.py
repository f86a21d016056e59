"""The bootstrap over runs against every resample that there is, and its coverage."""

import itertools

import numpy as np
import pytest

from jsrl.statistics import (
    interval_of,
    mean_centred_means,
    mean_over_pairs,
    pair_means,
    ratio_interval,
    relative_differences,
    relative_prediction_difference,
    resampled_runs,
)

PREDICTIONS = np.random.default_rng(1).uniform(0.5, 2.0, (4, 30))


def every_resample(runs: int) -> list[tuple[int, ...]]:
    """All draws of ``runs`` runs with replacement, those of one run alone left out."""
    return [r for r in itertools.product(range(runs), repeat=runs) if len(set(r)) > 1]


def test_a_resample_counts_runs_and_never_holds_one_alone() -> None:
    for runs in (2, 3, 8):
        counts = resampled_runs(runs, 2000)
        assert counts.shape == (2000, runs)
        assert (counts.sum(1) == runs).all()
        assert ((counts > 0).sum(1) >= 2).all()
        # The same again: two activations are resampled alike.
        np.testing.assert_array_equal(counts, resampled_runs(runs, 2000))
    frequencies = resampled_runs(4, 20_000).mean(0)
    np.testing.assert_allclose(frequencies, 1, atol=0.03)


def test_pairs_of_a_run_with_itself_are_left_out() -> None:
    pairs = relative_differences(PREDICTIONS)
    for draw in every_resample(4)[::17]:
        counts = np.bincount(draw, minlength=4)[None]
        different = [pairs[i, j] for i, j in itertools.combinations(draw, 2) if i != j]
        assert pair_means(pairs, counts)[0] == pytest.approx(np.mean(different))
    whole = np.ones((1, 4), np.int64)
    assert pair_means(pairs, whole)[0] == pytest.approx(mean_over_pairs(pairs))


def test_the_mean_centred_variant_is_resampled_with_its_mean() -> None:
    for draw in every_resample(4)[::23]:
        counts = np.bincount(draw, minlength=4)[None]
        expected = relative_prediction_difference(PREDICTIONS[list(draw)], "mean_centred")
        assert mean_centred_means(PREDICTIONS, counts)[0] == pytest.approx(expected)


def test_the_interval_is_that_of_every_resample_there_is() -> None:
    pairs = relative_differences(PREDICTIONS)
    everything = np.array([np.bincount(draw, minlength=4) for draw in every_resample(4)])
    exact = interval_of(pair_means(pairs, everything))
    found = interval_of(pair_means(pairs, resampled_runs(4)))
    assert found == pytest.approx(exact, abs=0.003)


def test_a_ratio_is_taken_within_a_resample() -> None:
    pairs = relative_differences(PREDICTIONS)
    counts = resampled_runs(4)
    means = pair_means(pairs, counts)
    # Half of it in every resample: nothing of the spread is left.
    assert ratio_interval(means / 2, means) == pytest.approx((0.5, 0.5))
    assert ratio_interval(0 * means, 0 * means) == (1.0, 1.0)
    low, high = ratio_interval(pair_means(relative_differences(PREDICTIONS**2), counts), means)
    assert low < mean_over_pairs(relative_differences(PREDICTIONS**2)) / means.mean() < high


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Models are one example each from a normal distribution: E|x - y| = 2σ/√π.
    draws, truth, covered = np.random.default_rng(2), 2 / np.sqrt(np.pi), 0
    counts = resampled_runs(16, 500)
    for _ in range(300):
        x = draws.standard_normal(16)
        low, high = interval_of(pair_means(np.abs(x[:, None] - x), counts))
        covered += low <= truth <= high
    assert 0.82 <= covered / 300 <= 0.99


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="at least two runs, got 1"):
        resampled_runs(1)
    with pytest.raises(ValueError, match="the same resamples of both, got 3 and 4"):
        ratio_interval(np.ones(3), np.ones(4))
