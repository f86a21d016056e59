"""Differences between models by hand-computed cases, by loops and by SciPy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jsrl.statistics import (
    action_differences,
    choice_flips,
    mean_over_pairs,
    rank_flips,
    relative_differences,
    relative_prediction_difference,
    return_differences,
    value_differences,
)
from jsrl.statistics.differences import _checked

DRAWS = np.random.default_rng(0)
PREDICTIONS = DRAWS.uniform(0.5, 2.0, (5, 40))


def test_one_and_three_differ_by_one_pairwise_and_by_half_of_it_mean_centred() -> None:
    predictions = np.array([[1.0], [3.0]])
    assert relative_prediction_difference(predictions) == 1.0
    assert relative_prediction_difference(predictions, "mean_centred") == 0.5


def test_more_models_and_examples_by_hand() -> None:
    predictions = np.array([[1.0, 2.0], [3.0, 2.0], [1.0, 6.0]])
    # Pairs: (1, 3) 1 and (2, 2) 0; (1, 1) 0 and (2, 6) 1; (3, 1) 1 and (2, 6) 1.
    assert relative_prediction_difference(predictions) == pytest.approx((0.5 + 0.5 + 1) / 3)
    # Means 5/3 and 10/3: distances (2/3, 4/3, 2/3) and (4/3, 4/3, 8/3).
    centred = ((8 / 3) / 3 / (5 / 3) + (16 / 3) / 3 / (10 / 3)) / 2
    found = relative_prediction_difference(predictions, "mean_centred")
    assert found == pytest.approx(centred)


def test_the_pairwise_difference_is_the_mean_over_all_pairs_and_examples() -> None:
    total = [
        abs(one - other) / abs((one + other) / 2)
        for first, second in itertools.combinations(PREDICTIONS, 2)
        for one, other in zip(first, second, strict=True)
    ]
    assert relative_prediction_difference(PREDICTIONS) == pytest.approx(np.mean(total))
    pairs = relative_differences(PREDICTIONS)
    assert pairs.shape == (5, 5)
    assert (pairs == pairs.T).all() and (np.diag(pairs) == 0).all()
    assert mean_over_pairs(pairs) == pytest.approx(np.mean(total))


def test_of_two_models_the_mean_centred_variant_is_half_of_the_pairwise_one() -> None:
    two = PREDICTIONS[:2]
    half = relative_prediction_difference(two, "mean_centred")
    assert 2 * half == pytest.approx(relative_prediction_difference(two))


def test_equal_models_differ_by_exactly_nothing() -> None:
    same = np.repeat(PREDICTIONS[:1], 3, axis=0)
    assert relative_prediction_difference(same) == 0
    assert relative_prediction_difference(same, "mean_centred") == 0
    assert rank_flips(same).sum() == value_differences(same).sum() == 0


def test_zeros_that_agree_do_not_differ_and_opposites_differ_without_bound() -> None:
    assert relative_prediction_difference(np.array([[0.0], [0.0]])) == 0
    assert math.isinf(relative_prediction_difference(np.array([[1.0], [-1.0]])))


def test_actions_are_measured_in_their_range() -> None:
    actions = np.array([[[0.0, 0.0], [1.0, -2.0]], [[0.5, 0.0], [-1.0, 2.0]]])
    low, high = np.array([-1.0, -2.0]), np.array([1.0, 2.0])
    # 0.25, 0, 1, 1 of the range.
    assert action_differences(actions, low, high)[0, 1] == pytest.approx(2.25 / 4)
    assert action_differences(actions, -2, 2)[0, 1] == pytest.approx((0.125 + 0 + 0.5 + 1) / 4)


def test_values_are_measured_by_the_spread_of_their_mean() -> None:
    values = np.stack([np.arange(9.0), np.arange(9.0) + 2])
    low, high = np.percentile(values.mean(0), [25, 75])
    assert value_differences(values)[0, 1] == pytest.approx(2 / (high - low)) == 0.5
    # Neither an offset nor a unit matters.
    np.testing.assert_allclose(value_differences(-3 * values - 100), value_differences(values))


def test_rank_flips_are_kendalls_tau() -> None:
    flips = rank_flips(PREDICTIONS)
    for i, j in itertools.combinations(range(5), 2):
        tau = stats.kendalltau(PREDICTIONS[i], PREDICTIONS[j]).statistic
        assert flips[i, j] == pytest.approx((1 - tau) / 2)
    up, down, level = np.arange(4.0), -np.arange(4.0), np.zeros(4)
    assert rank_flips(np.stack([up, down]))[0, 1] == 1
    assert rank_flips(np.stack([up, level]))[0, 1] == 0.5
    assert rank_flips(np.stack([level, level]))[0, 1] == 0


def test_choices_and_returns() -> None:
    choices = np.array([[0, 1, 2, 2], [0, 1, 1, 0], [0, 1, 2, 2]])
    assert choice_flips(choices)[0].tolist() == [0, 0.5, 0]
    returns = return_differences(np.array([-10.0, 20.0, 20.0]), (-50.0, 50.0))
    assert returns[0].tolist() == pytest.approx([0, 0.3, 0.3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relative_prediction_difference(np.ones((1, 5))), "a single run differs from"),
        (lambda: relative_prediction_difference(np.ones((3, 0))), "at least two models and one"),
        (lambda: _checked(np.ones(5), 2), r"an array \[models, examples\], got shape \(5,\)"),
        (
            lambda: relative_prediction_difference(np.array([[1.0], [np.nan], [1.0]])),
            r"those of models \[1\] are not",
        ),
        (
            lambda: relative_prediction_difference(PREDICTIONS, "median"),  # type: ignore[arg-type]
            "variant='median' is unknown",
        ),
        (
            lambda: _checked([np.ones(3), np.ones(4)], 2),
            r"of one shape of all models, got \[\(3,\)",
        ),
        (lambda: action_differences(np.ones((2, 3, 1)), 1, 1), "expected high above low"),
        (lambda: rank_flips(np.ones((2, 1))), "at least two examples to rank"),
    ],
)
def test_mistakes_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
