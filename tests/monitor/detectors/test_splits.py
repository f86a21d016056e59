"""Splits of two samples: all of them, each once, or drawn without the observed one."""

import pytest
import torch
from monitor.draws import generator
from scipy import stats

from jsrl.monitor.detectors.splits import all_splits, best_splits, drawn_splits


def test_splits_begin_with_the_observed_one():
    every = all_splits(3, 2)
    assert every.first_side.shape == (5, 10)
    assert every.first_side[:, 0].tolist() == [1, 1, 1, 0, 0]
    assert len(every.first_side.T.unique(dim=0)) == 10
    drawn = drawn_splits(30, 20, 500, generator())
    assert drawn.first_side[:, 0].tolist() == [1] * 30 + [0] * 20
    assert (drawn.first_side.sum(0) == 30).all()
    assert best_splits(3, 2, 9, generator()).exhaustive
    assert not best_splits(3, 2, 8, generator()).exhaustive


@pytest.mark.parametrize(
    "first, second, permutations",
    [(3, 2, 8), (3, 2, 4), (3, 2, 1), (30, 3, 5000), (30, 3, 2000), (1, 9, 5), (40, 40, 999)],
)
def test_drawn_splits_differ_from_the_observed_one_and_from_each_other(first, second, permutations):
    for seed in range(3):
        drawn = drawn_splits(first, second, permutations, generator(seed))
        assert drawn.first_side.shape == (first + second, permutations + 1)
        assert not drawn.exhaustive and drawn.smallest_p == 1 / (permutations + 1)
        assert len(drawn.first_side.T.unique(dim=0)) == permutations + 1
        assert (drawn.first_side[:, 0].nonzero()[:, 0] == torch.arange(first)).all()
        assert (drawn.first_side.sum(0) == first).all()
        again = drawn_splits(first, second, permutations, generator(seed))
        assert torch.equal(again.first_side, drawn.first_side)


@pytest.mark.parametrize("permutations", [9, 10, 10_000])
def test_where_there_are_no_more_splits_each_is_taken_once(permutations):
    drawn = drawn_splits(3, 2, permutations, generator())
    assert drawn.exhaustive
    assert len(drawn.first_side.T.unique(dim=0)) == drawn.first_side.shape[1] == 10


@pytest.mark.parametrize("permutations", [3, 7])
def test_every_other_split_is_drawn_equally_often(permutations):
    # Of 15 splits; with 7 most of them are taken, which goes another way.
    counts = torch.zeros(15)
    every = all_splits(4, 2).first_side.T
    for seed in range(2000):
        drawn = drawn_splits(4, 2, permutations, generator(seed)).first_side.T[1:]
        counts += (every[:, None] == drawn).all(2).sum(1)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:].numpy()).pvalue > 0.001


@pytest.mark.parametrize("permutations", [6, 13])
def test_p_values_of_drawn_splits_have_exactly_their_level(permutations):
    # 28 splits of 6 and 2 numbers. With draws that leave out the observed one but may repeat each
    # other, p ≤ 1/14 would have a probability of 8.8 % instead of 7.1 %.
    repetitions, found = 3000, torch.zeros(permutations + 1)
    for seed in range(repetitions):
        draw = generator(seed)
        values = torch.randn(8, generator=draw, dtype=torch.float64)
        splits = drawn_splits(6, 2, permutations, draw)
        as_large = values @ splits.first_side >= values @ splits.first_side[:, 0] - 1e-12
        found[int(as_large.sum()) - 1] += 1
    assert stats.chisquare(found.numpy()).pvalue > 0.001
