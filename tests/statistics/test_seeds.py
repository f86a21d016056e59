"""Statistics over seeds, against SciPy and against numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from jsrl.statistics import (
    bootstrap_interval,
    episodes_interval,
    expanded_interval,
    improvement_interval,
    interquartile_mean,
    interquartile_mean_interval,
    mean_intervals,
    probability_of_improvement,
    summarise,
)


def test_interquartile_mean_is_the_mean_of_the_middle_half():
    # Eight values: two are cut at each end, and (3 + 4 + 5 + 60) / 4 = 18 remains.
    assert interquartile_mean([1, 2, 3, 4, 5, 60, 700, 8000]) == 18.0
    assert interquartile_mean([8000, 5, 1, 60, 3, 2, 700, 4]) == 18.0


def test_interquartile_mean_of_fewer_than_four_values_cuts_nothing():
    assert interquartile_mean([0.0, 0.0, 9.0]) == 3.0
    assert interquartile_mean([7.5]) == 7.5


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0, 2.0]]])
def test_values_without_a_statistic_are_refused(values):
    with pytest.raises(ValueError, match="expected"):
        interquartile_mean(values)
    with pytest.raises(ValueError, match="expected"):
        bootstrap_interval(values)


def test_bootstrap_of_two_values_is_known_by_hand():
    # A resample of {0, 1} has the mean 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    assert bootstrap_interval([0.0, 1.0], level=0.95) == [0.0, 1.0]
    assert bootstrap_interval([0.0, 1.0], level=0.4) == [0.5, 0.5]


def test_bootstrap_agrees_with_the_normal_interval_on_many_values():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    low, high = bootstrap_interval(values.tolist())
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert np.allclose([low, high], expected, atol=0.02)


def test_bootstrap_repeats_itself_and_leaves_the_global_generator_alone():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    values = [0.1, 0.4, 0.35, 0.8, 0.77]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_bootstrap_takes_a_statistic_and_narrows_with_the_level():
    values = [0.0, 1.0, 2.0, 3.0, 100.0]
    assert bootstrap_interval(values, np.median)[1] <= 100.0
    wide, narrow = bootstrap_interval(values, level=0.99), bootstrap_interval(values, level=0.5)
    assert wide[0] <= narrow[0] < narrow[1] < wide[1]
    low, high = bootstrap_interval(values, interquartile_mean, resamples=500)
    assert 0.0 <= low < interquartile_mean(values) < high <= 100.0


def test_degenerate_bootstraps(recwarn):
    assert bootstrap_interval([0.3]) is None
    assert bootstrap_interval([0.3, 0.3, 0.3]) == [0.3, 0.3]
    assert len(recwarn) == 0


def test_summary_keeps_failed_seeds_and_leaves_them_out_of_the_statistics():
    summary = summarise([1.0, None, 3.0, float("nan")])
    assert summary == {
        "mean": 2.0,
        "iqm": 2.0,
        "ci95": [1.0, 3.0],
        "per_seed": [1.0, None, 3.0, None],
        "failed": 2,
    }


def test_summary_of_one_seed_has_no_interval():
    assert summarise([0.5]) == {
        "mean": 0.5,
        "iqm": 0.5,
        "ci95": None,
        "per_seed": [0.5],
        "failed": 0,
    }


def test_summary_of_an_undefined_measure_is_null():
    assert summarise([None, float("inf")]) == {
        "mean": None,
        "iqm": None,
        "ci95": None,
        "per_seed": [None, None],
        "failed": 2,
    }


def test_probability_of_improvement_counts_pairs():
    # Of the four pairs 3 > 1, 3 > 2, 2 > 1 are won and 2 = 2 is a draw: 3.5 of 4.
    assert probability_of_improvement([3.0, 2.0], [1.0, 2.0]) == 0.875
    assert probability_of_improvement([1.0, 2.0], [3.0, 2.0]) == 0.125
    assert probability_of_improvement([0.5], [0.5, 0.5, 0.5]) == 0.5
    assert probability_of_improvement([1.0, 2.0], [0.0]) == 1.0


def test_probability_of_improvement_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(3)
    for _ in range(20):
        first = rng.integers(0, 5, size=rng.integers(1, 9)) / 4
        second = rng.integers(0, 5, size=rng.integers(1, 9)) / 4
        statistic = stats.mannwhitneyu(first, second).statistic
        expected = statistic / (len(first) * len(second))
        assert probability_of_improvement(first, second) == pytest.approx(expected)


def test_the_interval_of_the_improvement_is_known_by_hand_for_two_seeds():
    # A resample of {0, 2} is (0, 0), (0, 2) or (2, 2) with probability 1/4, 1/2, 1/4; against
    # (1, 1) it wins 0, 1/2 or all of the pairs.
    assert improvement_interval([0.0, 2.0], [1.0, 1.0]) == [0.0, 1.0]
    assert improvement_interval([0.0, 2.0], [1.0, 1.0], level=0.4) == [0.5, 0.5]
    assert improvement_interval([2.0, 3.0], [0.0, 1.0]) == [1.0, 1.0]
    assert improvement_interval([2.0], [0.0, 1.0]) is None
    assert improvement_interval([2.0, 3.0], [0.0]) is None


def test_the_interval_of_the_improvement_agrees_with_scipys_bootstrap():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.4, 1.0, size=12), rng.normal(0.0, 1.0, size=9)
    expected = stats.bootstrap(
        (first, second),
        lambda x, y: np.mean([np.mean(a > y) for a in x]),
        vectorized=False,
        n_resamples=2_000,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    interval = improvement_interval(first, second)
    assert np.allclose(interval, [expected.low, expected.high], atol=0.03)
    assert interval == improvement_interval(first, second)
    assert interval[0] < probability_of_improvement(first, second) < interval[1]


def test_intervals_of_few_seeds_are_those_of_hesterberg():
    """The mean of a large sample: the normal interval with √(n/(n - 1))·t for 1.96."""
    values = np.random.default_rng(0).normal(3.0, 2.0, size=40)
    spread = values.std() / np.sqrt(40) * np.sqrt(40 / 39) * stats.t.ppf(0.975, 39)
    found = expanded_interval(values)
    assert found == pytest.approx([values.mean() - spread, values.mean() + spread], abs=0.05)
    low, high = bootstrap_interval(values[:5].tolist())
    wide = expanded_interval(values[:5])
    assert wide[0] < low - 0.1 and wide[1] > high + 0.1
    other = expanded_interval(values[:5], values[5:9])
    assert other[1] - other[0] > wide[1] - wide[0]
    assert expanded_interval([1.0], [1.0, 2.0]) is None


def test_the_interval_of_the_interquartile_mean_is_that_of_its_bootstrap():
    values = [0.0, 1.0, 2.0, 3.0, 100.0]
    interval = interquartile_mean_interval(values)
    # Of five values one is cut at each end.
    assert interval == bootstrap_interval(values, lambda sample: np.sort(sample)[1:4].mean())
    assert interquartile_mean_interval([0.3]) is None
    assert interquartile_mean_interval([0.3, 0.3]) == [0.3, 0.3]


def test_the_interval_of_a_share_of_episodes_is_wilsons():
    """Against the formula of Wilson (1927), worked out here."""
    values = np.array([1.0, 0, 1, 1, 0, 1, 1, 1, 0, 1])
    n, p, z = 10, 0.7, stats.norm.ppf(0.975)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert episodes_interval(values) == pytest.approx([centre - half, centre + half])
    low, high = episodes_interval(np.ones(100))
    assert (round(low, 3), high) == (0.963, 1.0)  # all succeeded, and yet it is not certain


def test_the_interval_over_episodes_is_a_bootstrap_where_values_are_not_0_and_1():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert np.allclose(episodes_interval(values), expected, atol=0.05)
    assert episodes_interval(np.full(9, 60)) == [60.0, 60.0]


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], [np.inf, 0.0]])
def test_there_is_no_interval_over_one_episode_or_undefined_values(values):
    assert episodes_interval(np.array(values)) is None


def test_intervals_at_many_points_are_those_at_each():
    rng = np.random.default_rng(0)
    values = np.round(rng.uniform(size=(5, 700)), 2)
    values[:, 3] = 0.25
    values[2, 100:200] = np.nan
    values[1:, 5] = np.inf
    values[:, 6] = np.nan
    found = mean_intervals(values, resamples=300)
    assert found.shape == (700, 2)
    for point in [*range(10), *range(95, 105), 199, 200, 699]:
        column = values[:, point]
        column = column[np.isfinite(column)].tolist()
        expected = bootstrap_interval(column, resamples=300) if column else None
        assert found[point] == pytest.approx(expected or [np.nan, np.nan], nan_ok=True, abs=1e-12)
    for shape in ((0, 0), (0, 3), (1, 3), (4, 0)):
        assert np.isnan(mean_intervals(np.zeros(shape))).all()
