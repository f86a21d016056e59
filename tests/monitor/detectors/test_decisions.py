"""What is made of statistics: joint decisions, rates, sanity checks, sequences of tests."""

import numpy as np
import pytest
import torch
from monitor.episodes import walk
from scipy import stats

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.joint import joint_min_p
from jsrl.monitor.detectors.kernels import gaussian_kernel, mmd_of_splits
from jsrl.monitor.detectors.rates import RateSettings, detection_rates
from jsrl.monitor.detectors.sanity import (
    action_p_value,
    chi_square,
    count_units,
    saturation_share,
    twin_disagreement,
)
from jsrl.monitor.detectors.sequential import (
    BETS,
    AlphaSpending,
    ConformalMartingale,
    conformal_p_value,
)
from jsrl.monitor.detectors.splits import all_splits, drawn_splits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_joint_p_value_by_hand():
    # Of 4 splits; the first is the observed one. Ranks: (2, 4, 3, 1) and (3, 1, 4, 2) out of 4.
    statistics = torch.tensor([[3.0, 1.0, 2.0, 9.0], [2.0, 5.0, 1.0, 3.0]], dtype=torch.float64)
    found = joint_min_p(statistics)
    assert found.layer_p_values.tolist() == [0.5, 0.75]
    # Smallest p of each split: 2/4, 1/4, 3/4, 1/4. Two are smaller than the first's, none equal.
    assert found.p_value == 0.75


def test_splits_with_the_same_smallest_p_are_told_apart_by_how_far_out_they_lie():
    rng = np.random.default_rng(0)
    statistics = torch.from_numpy(rng.normal(size=(6, 1000)))
    statistics[2, 0] = 50.0
    assert joint_min_p(statistics).p_value == 1 / 1000


def by_ranks(statistics):
    """The joint p-value by ranking every split in every layer, as the definition reads."""
    layers, splits = statistics.shape
    ranks = [[(of >= one - 1e-10).sum() for one in of] for of in statistics]
    spread = statistics.std(1, ddof=1)
    extreme = []
    for split in range(splits):
        rank = min(ranks[layer][split] for layer in range(layers))
        excess = max(
            (statistics[layer, split] - statistics[layer].mean()) / (spread[layer] or 1)
            for layer in range(layers)
            if ranks[layer][split] == rank
        )
        extreme.append((-rank, excess + 1e-9))
    return sum(one >= (extreme[0][0], extreme[0][1] - 1e-9) for one in extreme) / splits


@pytest.mark.parametrize("kind", ["continuous", "ties", "nearly ties", "shifted", "one is dead"])
def test_the_joint_p_value_is_that_of_ranking_every_split(kind):
    rng = np.random.default_rng(0)
    for _ in range(60):
        shape = rng.integers(1, 7), rng.integers(2, 60)
        statistics = rng.normal(size=shape)
        if kind in ("ties", "nearly ties"):
            statistics = rng.integers(0, 5, size=shape).astype(float)
        if kind == "nearly ties":
            statistics += 1e-12 * rng.normal(size=shape)
        if kind == "shifted":
            statistics[0, 0] += 3
        if kind == "one is dead":
            statistics[0] = 0
        assert joint_min_p(torch.from_numpy(statistics)).p_value == by_ranks(statistics)


def test_statistics_that_are_not_finite_are_refused():
    statistics = torch.zeros(2, 10, dtype=torch.float64)
    statistics[1, 3] = torch.nan
    with pytest.raises(UserError, match="a statistic is not finite"):
        joint_min_p(statistics)


def test_dependent_layers_are_rejected_together_at_the_nominal_rate():
    rejected = 0
    for repetition in range(1000):
        draw = generator(repetition)
        inputs = torch.randn(40, 3, generator=draw, dtype=torch.float64)
        hidden = torch.tanh(inputs @ torch.randn(3, 8, generator=draw, dtype=torch.float64))
        layers = [inputs, hidden, hidden[:, :4].relu()]
        kernels = torch.stack([gaussian_kernel(layer)[0] for layer in layers])
        splits = drawn_splits(25, 15, 199, draw)
        statistics = mmd_of_splits(kernels, torch.ones(3, 40), splits.first_side)
        rejected += joint_min_p(statistics).p_value <= 0.05
    assert 0.02 <= rejected / 1000 <= 0.065


def test_a_dead_layer_has_no_say_in_the_joint_decision():
    statistics = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 200)))
    dead = torch.zeros(1, 200, dtype=torch.float64)
    alone, together = joint_min_p(statistics), joint_min_p(torch.cat([statistics, dead]))
    assert together.p_value == alone.p_value
    assert together.layer_p_values[1] == 1


def test_the_detection_rate_exceeds_its_null_quantile_where_there_is_a_shift():
    rng = np.random.default_rng(0)
    settings = RateSettings(tests=30, samples=40, permutations=99, null_splits=20)

    def rates(shift):
        episodes = [walk(rng, 20, rho=0.5, columns=2) for _ in range(60)]
        for episode in episodes[40:]:
            episode += shift
        layers = [torch.from_numpy(np.concatenate(episodes))]
        blocks = torch.arange(60).repeat_interleave(20)
        return detection_rates(layers, blocks, 40, settings, generator())

    shifted, clean = rates(1.0), rates(0.0)
    assert shifted.rates[0] > max(0.9, shifted.null_quantiles[0])
    # Overlapping samples of few episodes: far above 5 % under the null.
    assert clean.null_quantiles[0] > 0.1
    assert clean.rates[0] <= clean.null_quantiles[0]


def in_equal_bins(actions, episodes):
    """How many actions of each episode, all of one length, lie in each of 8 bins of [-1, 1]."""
    edges = np.linspace(-1, 1, 9)
    counts = [
        [np.histogram(column, edges)[0] for column in episode.T]
        for episode in actions.numpy().reshape(episodes, -1, actions.shape[1])
    ]
    return torch.tensor(np.array(counts), dtype=torch.float64)


def test_chi_square_is_that_of_scipy():
    rng = np.random.default_rng(0)
    actions = torch.from_numpy(rng.uniform(-1, 1, (300, 2)).astype(np.float32))
    blocks = torch.arange(10).repeat_interleave(30)
    counts = in_equal_bins(actions, 10)
    assert counts.sum() == 600
    splits = all_splits(6, 4)
    found = chi_square(counts, splits.first_side)
    for dimension in range(2):
        table = np.stack([counts[:6, dimension].sum(0), counts[6:, dimension].sum(0)])
        theirs = stats.chi2_contingency(table, correction=False).statistic
        assert found[dimension, 0] == pytest.approx(theirs)
    assert action_p_value(counts, splits) > 1 / 210
    actions[blocks >= 6] = 1.0
    collapsed = in_equal_bins(actions, 10)
    assert action_p_value(collapsed, splits) == pytest.approx(1 / 210)


def test_units_actions_and_critics_are_counted():
    activations = torch.tensor([[0.0, 1.0, 0.3], [0.0, 0.995, -0.2], [0.0, 1.0, 5.0]])
    units = count_units(activations)
    assert (units.dead, units.saturated) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert saturation_share(torch.tensor([[1.0, 0.2], [-1.0, 0.5]])) == 0.5
    assert twin_disagreement(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 5.0])) == 2.0


def test_alpha_spending_says_what_it_can_reach():
    spending = AlphaSpending(0.05, 200)
    assert spending.per_test == pytest.approx(0.00025)
    # 3 of 29 in 3,654 ways, 3 of 30 in 4,060: 4,000 are needed.
    assert not spending.reachable(26, 3)
    assert spending.reachable(27, 3)
    assert spending.reference_needed(3) == 27
    with pytest.raises(UserError, match=r"monitor\.level=1"):
        AlphaSpending(1.0, 200)
    with pytest.raises(UserError, match=r"monitor\.horizon=0"):
        AlphaSpending(0.05, 0)


def test_a_martingale_has_the_capital_that_was_written_out():
    p = [0.3, 0.02, 0.7]
    martingale = ConformalMartingale(0.05, horizon=5)
    for value in p:
        martingale.update(value)
    begun = [
        np.mean([np.prod([bet * value ** (bet - 1) for value in p[start:]]) for bet in BETS])
        for start in range(3)
    ]
    assert np.exp(martingale.log_capital) == pytest.approx((sum(begun) + 2) / 5)


def test_a_martingale_is_fair_and_seldom_errs():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        martingale = ConformalMartingale(0.05, horizon=50)
        for p in rng.uniform(size=50):
            martingale.update(1 - p)
            if martingale.alarm:
                alarms += 1
                break
    assert alarms / 400 <= 0.05


def test_a_martingale_notices_small_p_values_after_a_long_good_time():
    martingale = ConformalMartingale(0.05, horizon=200)
    for p in np.random.default_rng(0).uniform(size=100):
        martingale.update(1 - p)
    assert not martingale.alarm
    steps = 0
    while not martingale.alarm:
        martingale.update(0.01)
        steps += 1
    assert steps <= 8
    with pytest.raises(UserError, match="p_value=0"):
        martingale.update(0.0)


def test_a_conformal_p_value_is_a_smoothed_rank():
    assert conformal_p_value([1.0, 2.0, 3.0, 4.0], 0.0) == 0.25
    assert conformal_p_value([4.0, 2.0, 3.0, 1.0], 0.0) == 1.0
    assert conformal_p_value([2.0, 2.0], 0.5) == 0.5
    for scores, draw in (([], 0.5), ([1.0, float("nan")], 0.5), ([1.0], 1.0)):
        with pytest.raises(UserError):
            conformal_p_value(scores, draw)


def test_statistics_of_another_shape_are_refused_and_whole_numbers_are_judged():
    with pytest.raises(UserError, match=r"shape \(5,\); expected \[L, R\]"):
        joint_min_p(torch.zeros(5))
    assert joint_min_p(torch.tensor([[9, 1, 2, 3]])).p_value == 0.25
