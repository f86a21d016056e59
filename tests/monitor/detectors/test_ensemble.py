"""Detectors together: who is asked, how families share the level, and whether they keep it."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from monitor.draws import generator
from monitor.windows import rng_of, window
from scipy import stats

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.detector import compare
from jsrl.monitor.detectors.ensemble import make_detector, score_samples
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.joint import joint_of_families, merged, ranking
from jsrl.monitor.detectors.kinds import detectors

ALL = detectors.names()
FEW = DetectorSettings(permutations=199, detectors=ALL)


def test_every_detector_keeps_the_level_where_episodes_are_correlated():
    """Steps of an episode share a level that is drawn once: single steps would reject nearly all.

    The classes of one half of the windows are replaced by actions in the other half.
    """
    nulls, level = 200, 0.1
    rejected = dict.fromkeys((*ALL, "all"), 0)
    tried = dict.fromkeys(rejected, 0)
    for repetition in range(nulls):
        rng = rng_of(repetition)
        of_classes = repetition % 2 == 0
        sides = [window(rng, count, 4, classes=of_classes) for count in (14, 4)]
        asked = tuple(kind for kind in ALL if of_classes or kind != "confidence")
        settings = replace(FEW, permutations=59, detectors=asked)
        found = compare(*sides, settings, generator(repetition))
        for kind, p in [(one.kind, one.p_value) for one in found.detectors]:
            rejected[kind] += p <= level
            tried[kind] += 1
        rejected["all"] += found.p_value <= level
        tried["all"] += 1
    for kind, count in tried.items():
        # Of ten numbers none is outside by chance but once in a hundred test suites.
        assert count >= nulls / 2
        assert stats.binom.cdf(rejected[kind], count, level) > 0.0005, (kind, rejected[kind])
        assert stats.binom.sf(rejected[kind] - 1, count, level) > 0.0005, (kind, rejected[kind])


@pytest.mark.parametrize("classes", [True, False])
def test_every_detector_of_inner_layers_sees_a_shift_of_them(classes):
    reference, tested = window(rng_of(), 40, classes=classes), window(rng_of(1), 6, 6, 1.0, classes)
    asked = tuple(kind for kind in ALL if classes or kind != "confidence")
    found = compare(reference, tested, replace(FEW, detectors=asked), generator())
    p = {one.kind: one.p_value for one in found.detectors}
    # The actions move too, so that few are left that were done before as well.
    alike = ("conditional_mmd",) if classes else ()
    for kind in ("mmd", "mahalanobis", "deep_knn", "random_network", *alike):
        assert p[kind] <= 0.01, kind
    # The inputs are as they were.
    assert min(found.families["inputs"], found.families["margins"]) > 0.05
    assert found.p_value <= 0.02
    assert list(found.families) == ["inputs", "margins", "layers", "outputs", "values"]


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "margins"])
def test_single_samples_are_scored_beside_those_that_are_held_out(kind):
    reference = window(rng_of(), 40)
    changed = window(rng_of(1), 10, 6, 3.0)
    same = score_samples(kind, reference, window(rng_of(2), 10), FEW)
    assert len(same.scores) == 60 and float(same.p_values.min()) >= 1 / 121
    assert 0.3 < float(same.p_values.mean()) < 0.7
    if kind in ("mmd", "mahalanobis", "random_network"):
        moved = score_samples(kind, reference, changed, FEW)
        assert float(moved.p_values.mean()) < float(same.p_values.mean()) / 2


def test_a_weak_family_does_not_drown_a_strong_one():
    rng = np.random.default_rng(0)
    many = torch.from_numpy(rng.standard_t(3, size=(600, 1000)))
    # As far out as the many are somewhere under nearly every split.
    many[:100, 0] = many[:100].amax(1) + 0.1
    one = torch.from_numpy(rng.normal(size=(1, 1000)))
    one[0, 0] = 9
    families = {"many": ranking(many), "one": ranking(one)}
    found = joint_of_families(families)
    assert found.families["one"].p_value == 0.001
    assert found.p_value <= 0.002
    # In one family the many are what decides.
    assert merged(list(families.values())).result.p_value > found.p_value


def by_hand(families):
    """The joint p-value of families without ties, from the definition."""
    ranks = []
    for rows in families:
        place = stats.rankdata(-rows, "max", axis=1)
        z = (rows - rows.mean(1, keepdims=True)) / rows.std(1, ddof=1, keepdims=True)
        smallest = place.min(0)
        excess = np.where(place == smallest, z, -np.inf).max(0)
        key = [(-a, b) for a, b in zip(smallest, excess, strict=True)]
        ranks.append((key, (excess - excess.mean()) / excess.std(ddof=1)))
    places = [np.array([sum(o >= k for o in key) for k in key]) for key, _ in ranks]
    smallest = np.min(places, 0)
    excess = np.max(
        [np.where(p == smallest, e, -np.inf) for p, (_, e) in zip(places, ranks, strict=True)], 0
    )
    key = [(-a, b) for a, b in zip(smallest, excess, strict=True)]
    return sum(one >= key[0] for one in key) / len(key)


def test_the_joint_p_value_of_families_is_that_of_ranking_every_split():
    rng = np.random.default_rng(0)
    for _ in range(30):
        families = [rng.normal(size=(rng.integers(1, 5), 40)) for _ in range(rng.integers(2, 5))]
        families[0][0, 0] += rng.integers(0, 3)
        ranked = {str(i): ranking(torch.from_numpy(rows)) for i, rows in enumerate(families)}
        assert joint_of_families(ranked).p_value == by_hand(families)


def test_what_lacks_its_input_is_left_out_of_the_default_ones_and_refused_where_it_was_asked_for():
    sides = [replace(window(rng_of(seed), classes=False), values=None) for seed in (0, 1)]
    found = compare(*sides, DetectorSettings(99), generator())
    assert found.left_out == (
        "detector confidence is left out: it needs logits",
        "detector twin_q is left out: it needs values",
    )
    with pytest.raises(UserError, match="names twin_q, which needs values"):
        compare(*sides, DetectorSettings(99, detectors=("mmd", "twin_q")), generator())


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("deep_nn", "='deep_nn' is unknown; did you mean deep_knn?"),
        (
            {"kind": "deep_knn", "neighbour": 3},
            "did you mean neighbours?; it has neighbours, layers",
        ),
        ({"kind": "deep_knn", "neighbours": "few"}, "neighbours='few' does not fit"),
        ({"kind": "deep_knn", "neighbours": 0}, "neighbours=0 must be at least 1"),
        (3, "says no kind of detector"),
    ],
)
def test_detectors_that_are_none_are_refused(entry, words):
    with pytest.raises(UserError, match=re.escape(words)):
        make_detector(entry)


def test_bounds_are_told_without_any_test():
    entries = ({"kind": "predictions", "most": 0.34}, {"kind": "confidence", "least": 0.999})
    sides = [window(rng_of(seed)) for seed in (0, 1)]
    found = compare(*sides, DetectorSettings(99, detectors=entries), generator())
    assert len(found.breaches) == 2
    assert "has a share of" in found.breaches[0] and "is below 0.999" in found.breaches[1]
