"""One test over all layers and margins, and the margins themselves."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from monitor.episodes import COLUMNS, network, sample_of, walk

from jsrl.core.errors import UserError
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.detector import compare, nonconformity_scores
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.margins import STANDARD, margins_of_episodes
from jsrl.monitor.detectors.margins.standard import residuals
from jsrl.monitor.detectors.pooled import time_bin

FEW = DetectorSettings(permutations=999)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def episodes(count, seed=0, change=None, **where):
    rng, module = np.random.default_rng(seed), network()
    found = []
    for number in range(count):
        steps = walk(rng)
        if change is not None:
            change(steps)
        found.append(sample_of(steps, module, number, **where))
    return Sample.concatenate(found, renumber=True)


def test_margins_by_hand():
    # Two episodes of one column: 0, 2 and 4, 4, 10; the last episode of three has no row.
    values = torch.tensor([[0.0], [2.0], [4.0], [4.0], [10.0]])
    blocks = torch.tensor([0, 0, 1, 1, 1])
    found = margins_of_episodes(values, blocks, 3)
    spread = float(values.double().std())
    overall = float(values.double().mean())
    expected = {
        "mean": [(1 - overall) / spread, (6 - overall) / spread],
        "spread": [1 / spread, np.std([4, 4, 10]) / spread],
        "change": [2 / spread, 3 / spread],
    }
    for kind, (first, second) in expected.items():
        assert found[kind][0].tolist() == pytest.approx([first, second, (first + second) / 2])
    assert set(found) == set(STANDARD)


@pytest.mark.filterwarnings("error")
def test_an_observation_of_images_alone_has_no_margins():
    blocks = torch.tensor([0, 0, 1, 1])
    found = margins_of_episodes(torch.zeros(4, 0), blocks, 2)
    assert all(found[kind].shape == (0, 2) for kind in STANDARD)


def test_relation_is_what_a_regression_on_the_other_columns_leaves():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3))
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    ours = residuals(torch.from_numpy(z)).numpy()
    for column in range(3):
        others = np.delete(z, column, 1)
        left = z[:, column] - others @ np.linalg.lstsq(others, z[:, column], rcond=None)[0]
        # Up to the ridge.
        assert np.allclose(ours[:, column], left, atol=0.02)


def test_equal_columns_leave_nothing_until_one_of_them_lies():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(300, 2)))
    doubled = torch.cat([x, x[:, :1]], 1)
    blocks = torch.arange(10).repeat_interleave(30)
    before = margins_of_episodes(doubled, blocks, 10)["relation"]
    assert before[0].max() < 0.01
    doubled[270:, 0] += 0.5
    after = margins_of_episodes(doubled, blocks, 10)["relation"]
    assert after[0, 9] > 3 * after[0, :9].max()


@pytest.mark.parametrize(
    "kind, column, change",
    [
        ("mean", 2, lambda steps: np.add(steps[:, 2], 4, out=steps[:, 2])),
        ("spread", 1, lambda steps: np.multiply(steps[:, 1], 0.0, out=steps[:, 1])),
        ("change", 4, lambda steps: steps[::2].__setitem__((slice(None), 4), 0.0)),
    ],
)
def test_the_margin_of_the_column_that_changed_is_the_smallest(kind, column, change):
    finding = compare(episodes(40), episodes(5, 1, change), FEW, generator())
    assert finding.p_value <= 0.005
    smallest = min(finding.margins, key=lambda margin: margin.p_value)
    assert smallest.column == column
    own = {m.kind: m.p_value for m in finding.margins if m.column == column}
    assert own[kind] == smallest.p_value


def test_clean_episodes_are_rejected_at_the_nominal_rate():
    rejected = {"all": 0, "layers": 0}
    rng, module = np.random.default_rng(3), network()
    pool = [sample_of(walk(rng), module, number) for number in range(200)]
    for repetition in range(400):
        order = np.random.default_rng(repetition).permutation(200)
        reference, current = (
            Sample.concatenate([pool[i] for i in part], renumber=True)
            for part in (order[:20], order[20:24])
        )
        finding = compare(reference, current, DetectorSettings(199, 10), generator(repetition))
        rejected["all"] += finding.p_value <= 0.05
        rejected["layers"] += finding.layers_p_value <= 0.05
    # Three standard errors above: the pool is one draw of 200 episodes.
    assert 0.02 <= rejected["all"] / 400 <= 0.08
    assert 0.02 <= rejected["layers"] / 400 <= 0.08


def test_who_acted_is_compared_with_its_like():
    def far(steps):
        steps += 5

    guide = {"actor": 0}
    reference = renumbered(
        Sample.concatenate([episodes(20), episodes(20, 1, far, **guide)], renumber=True)
    )
    current = renumbered(
        Sample.concatenate([episodes(5, 2), episodes(5, 3, **guide)], renumber=True)
    )
    finding = compare(reference, current, FEW, generator())
    of_cell = {(f.layer, f.actor): f.p_value for f in finding.layers}
    # The guide no longer acts far from the others: its own cells alone tell.
    for layer in ("inputs", "hidden", "outputs"):
        assert of_cell[layer, "exploration"] > 0.05
    assert of_cell["inputs", "guide"] <= 0.01
    assert finding.p_value <= 0.05


def renumbered(sample):
    """Every twenty steps an episode of their own."""
    steps = sample.steps
    numbers = np.arange(len(steps)) // 20
    return Sample(replace(steps, episode=numbers), sample.activations)


def test_time_bins_are_cells_of_their_own():
    settings = DetectorSettings(99, 20, (5, 10))
    finding = compare(episodes(20), episodes(4, 1), settings, generator())
    assert {f.time_bin for f in finding.layers} == {0, 1, 2}
    assert time_bin(np.array([0, 4, 5, 9, 10, 99]), (5, 10)).tolist() == [0, 0, 1, 1, 2, 2]


def test_what_is_not_finite_is_a_fault_without_a_test():
    bad = episodes(3, 1)
    bad.steps.observations[7, 2] = np.nan
    finding = compare(episodes(20), bad, FEW, generator())
    assert (finding.finite, finding.p_value) == (False, 0.0)


def test_an_empty_side_is_explained():
    whole = episodes(5)
    nothing = whole.take(np.zeros(0, np.int64))
    with pytest.raises(UserError, match="the reference has no steps"):
        compare(nothing, whole, FEW, generator())
    with pytest.raises(UserError, match="what is tested has no steps"):
        compare(whole, nothing, FEW, generator())


def test_the_strangest_episode_has_the_highest_score():
    scores = nonconformity_scores(episodes(30), episodes(1, 1, lambda s: s[:, 3].fill(3.0)), FEW)
    assert len(scores) == 31
    assert scores.argmax() == 30
    assert len(scores) == len(episodes(31).steps) // 20
    assert COLUMNS == 6


def test_no_margin_at_all_leaves_the_layers():
    settings = replace(FEW, margins=())
    found = compare(episodes(5), episodes(4, seed=1), settings, generator())
    assert found.margins == () and found.p_value == found.layers_p_value


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("mean", "sprad"), "'sprad', which is unknown; did you mean spread?"),
        (("mean",) * 2, "twice"),
    ],
)
def test_margins_that_are_none_are_refused(names, words):
    with pytest.raises(UserError, match=re.escape(words)):
        DetectorSettings(margins=names)
