"""Which samples a difference is due to: witnesses and p-values against loops and SciPy."""

import numpy as np
import pytest
import torch
from scipy import stats

from jsrl.core.errors import UserError
from jsrl.monitor.attribution.witness import rank_samples
from jsrl.monitor.detectors.kernels import gaussian_kernel


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_witness_by_loops():
    x, y = torch.randn(6, 2, generator=generator(1)), torch.randn(4, 2, generator=generator(2))
    kernel, _ = gaussian_kernel(torch.cat([x, y]))
    ranked = rank_samples(x, y)
    assert sorted(ranked.indices.tolist()) == [0, 1, 2, 3]
    for j, score in zip(ranked.indices.tolist(), ranked.scores.tolist(), strict=True):
        others = [kernel[6 + j, 6 + i] for i in range(4) if i != j]
        expected = sum(others) / 3 - kernel[6 + j, :6].mean()
        assert score == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("columns", [4, 8])
def test_samples_with_one_shifted_input_are_ranked_first(columns):
    draw = generator(3)
    x = torch.randn(1000, columns, generator=draw)
    y = torch.randn(1000, columns, generator=draw)
    bad = torch.arange(1000) < 100
    y[bad, 0] += 3
    everything = rank_samples(x, y, top=1000)
    scores = everything.scores[everything.indices.argsort()]
    # The area under the curve is the share of pairs in which the bad one is ranked higher.
    u = stats.mannwhitneyu(scores[bad].numpy(), scores[~bad].numpy()).statistic
    assert u / (100 * 900) >= 0.95
    ranked = rank_samples(x, y)
    assert len(ranked.indices) == 100
    assert bad[ranked.indices].double().mean() > 0.6
    assert (ranked.scores.diff() <= 0).all()


@pytest.mark.parametrize("n, m", [(50, 2), (50, 5), (100, 100)])
def test_conformal_p_values_of_clean_samples_are_uniform(n, m):
    p, draw = [], generator(1)
    for _ in range(4000 // m):
        x, y = (torch.randn(count, 3, generator=draw) for count in (n, m))
        p.append(rank_samples(x, y, top=m).p_values)
    p = torch.cat(p).numpy()
    assert p.min() >= 1 / (n + 1)
    for level in (0.05, 0.2, 0.5):
        exact = np.floor(level * (n + 1)) / (n + 1)
        assert np.mean(p <= level) == pytest.approx(exact, abs=0.025)


def test_a_conformal_p_value_by_loops():
    x, y = torch.randn(7, 2, generator=generator(1)), torch.randn(4, 2, generator=generator(2))
    kernel, _ = gaussian_kernel(torch.cat([x, y]))
    ranked = rank_samples(x, y, top=4)
    for place, p in zip(ranked.indices.tolist(), ranked.p_values.tolist(), strict=True):
        bag, rest = [*range(7), 7 + place], [7 + i for i in range(4) if i != place]

        def score(member, bag=bag, rest=rest):
            others = [kernel[member, i] for i in bag if i != member]
            return float(sum(kernel[member, i] for i in rest) / 3 - sum(others) / 7)

        own = score(7 + place)
        assert p == (1 + sum(score(i) >= own - 1e-6 for i in range(7))) / 8


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg():
    x = torch.randn(200, 2, generator=generator(1))
    y = torch.randn(50, 2, generator=generator(2))
    y[:10] += 4
    ranked = rank_samples(x, y, top=50)
    p = ranked.p_values.numpy()
    by_hand = np.minimum.accumulate((np.sort(p) * 50 / np.arange(1, 51))[::-1])[::-1]
    assert np.allclose(np.sort(ranked.adjusted.numpy()), np.minimum(by_hand, 1))


def test_samples_are_ranked_in_any_unit_and_what_is_wrong_with_them_is_told():
    x = torch.randn(60, 3, generator=generator(1), dtype=torch.float64)
    y = torch.randn(20, 3, generator=generator(2), dtype=torch.float64)
    y[:8] += 3
    expected = rank_samples(x, y, 5)
    assert set(expected.indices.tolist()) <= set(range(8))
    for unit in (1e-24, 1e-20, 1e19, 1e30):
        found = rank_samples((x * unit).float(), (y * unit).float(), 5)
        assert found.indices.tolist() == expected.indices.tolist()
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    whole = rank_samples((1e6 * x).long(), (1e6 * y).long(), 5)
    assert whole.indices.tolist() == expected.indices.tolist()
    y[3, 1] = torch.inf
    for one, other, said in (
        (x, y, "y has 1 numbers that are not finite"),
        (x[:, :2], y, r"x has shape \(60, 2\) and y \(20, 3\)"),
        (x[:1], x, "x has 1 samples"),
    ):
        with pytest.raises(UserError, match=said):
            rank_samples(one, other)
    with pytest.raises(UserError, match="top=0"):
        rank_samples(x, x, 0)
