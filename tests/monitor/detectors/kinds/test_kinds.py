"""Each kind of detector beside scikit-learn, SciPy, or a computation by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monitor.windows import rng_of, window
from scipy import stats
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.ensemble import make_detector
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.kinds.confidence import fit_temperature
from jsrl.monitor.detectors.kinds.deep_knn import credibility
from jsrl.monitor.detectors.kinds.mahalanobis import fit_class_conditional
from jsrl.monitor.detectors.kinds.margins import POOLED, differences_of_means
from jsrl.monitor.detectors.kinds.predictions import bins_of, share_at_end
from jsrl.monitor.detectors.mmd import mmd_permutation_test
from jsrl.monitor.detectors.pooled import PooledWindows
from jsrl.monitor.detectors.splits import all_splits
from jsrl.monitor.detectors.window import Window

SETTINGS = DetectorSettings()


def single(values, **more):
    """Samples that are episodes of one step each."""
    values = torch.as_tensor(np.asarray(values, float))
    return Window(torch.arange(len(values)), {"hidden": values}, **more)


def of_kind(entry, reference, tested):
    """The statistics of a detector under all splits of the episodes that may move."""
    detector = make_detector(entry)
    both = PooledWindows(reference, tested, SETTINGS, fit=detector.fits)
    splits = both.splits(10_000, torch.Generator().manual_seed(0))
    return detector.statistics(both, splits), splits


def test_mmd_is_that_of_the_two_sample_test():
    rng = rng_of()
    x, y = single(rng.normal(size=(7, 3))), single(rng.normal(size=(5, 3)) + 1)
    (found,), splits = of_kind("mmd", x, y)
    oracle = mmd_permutation_test(x.layers["hidden"], y.layers["hidden"], exhaustive=True)
    assert found.values[0, 0] == pytest.approx(oracle.statistic)
    assert (found.values[0] >= found.values[0, 0] - 1e-10).double().mean() == oracle.p_value
    assert splits.exhaustive and found.names == (("hidden", "exploration", 0),)


def test_differences_of_means_are_those_of_the_permutation_test_of_scipy():
    rng = rng_of()
    x, y = rng.normal(size=6), rng.normal(size=4) + 1
    found = differences_of_means(torch.from_numpy(np.concatenate([x, y]))[None], all_splits(6, 4))
    oracle = stats.permutation_test(
        (x, y), lambda a, b: abs(a.mean() - b.mean()), alternative="greater", n_resamples=np.inf
    )
    assert (found[0] >= found[0, 0] - 1e-9).double().mean() == pytest.approx(oracle.pvalue)


def test_many_columns_are_pooled_into_the_length_of_their_differences():
    rng = rng_of()
    x, y = rng.normal(size=(8, 300)), rng.normal(size=(3, 300)) + 0.5
    sides = [single(v, observations=torch.from_numpy(v)) for v in (x, y)]
    settings = replace(SETTINGS, margins=("mean",))
    both = PooledWindows(*sides, settings)
    splits = all_splits(8, 3)
    (found,) = make_detector("margins").statistics(both, splits)
    assert found.names == ((POOLED, "exploration", "mean"),)
    z = stats.zscore(np.concatenate([x, y]), ddof=1)
    for split in (0, 5, 100):
        first = splits.first_side[:, split].numpy().astype(bool)
        length = np.linalg.norm(z[first].mean(0) - z[~first].mean(0)) / np.sqrt(300)
        assert float(found.values[0, split]) == pytest.approx(length)


def test_mahalanobis_of_classes_is_that_of_scikit_learn():
    rng = rng_of()
    classes = np.repeat([0, 2, 5], 20)
    x = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)) + classes[:, None]
    centred = x - np.stack([x[classes == c].mean(0) for c in classes])
    covariance = EmpiricalCovariance(assume_centered=True).fit(centred)
    asked = rng.normal(size=(10, 4))
    means = [x[classes == c].mean(0) for c in (0, 2, 5)]
    oracle = np.min([covariance.mahalanobis(asked - mean) for mean in means], 0)
    ours = fit_class_conditional(torch.from_numpy(x), torch.from_numpy(classes), 0.0)
    assert ours.distances(torch.from_numpy(asked)).numpy() == pytest.approx(oracle)


def test_mahalanobis_given_the_action_is_that_of_what_a_regression_leaves():
    reference, tested = (window(rng_of(s), 30, classes=False) for s in (0, 1))
    detector = make_detector({"kind": "mahalanobis", "shrinkage": 0.0})
    features, actions = reference.layers["hidden"].numpy(), reference.actions.numpy()
    regression = LinearRegression().fit(actions, features)
    covariance = EmpiricalCovariance(assume_centered=True)
    covariance.fit(features - regression.predict(actions))
    left = tested.layers["hidden"].numpy() - regression.predict(tested.actions.numpy())
    found = detector.scores(reference, tested).numpy()
    assert found == pytest.approx(covariance.mahalanobis(left), rel=1e-4)


def test_deep_neighbours_are_those_of_scikit_learn():
    reference, tested = window(rng_of(), 20, labels=True), window(rng_of(1), 5)
    tested = replace(tested, episode=tested.episode + 100)
    layers = ["hidden", "outputs"]
    detector = make_detector({"kind": "deep_knn", "neighbours": 7, "layers": layers})
    labels = reference.labels.numpy()

    def nonconformity(side, leave_out):
        found = np.zeros((len(side), 3))
        for name in layers:
            index = NearestNeighbors().fit(reference.layers[name].numpy())
            order = index.kneighbors(side.layers[name].numpy(), len(labels), False)
            for i, places in enumerate(order):
                own = reference.episode[places] == side.episode[i] if leave_out else ~(places < 1e9)
                near = labels[places[~np.asarray(own)][:7]]
                found[i] += [(near != c).sum() for c in range(3)]
        return found

    known = nonconformity(reference, True)[np.arange(len(labels)), labels]
    asked = nonconformity(tested, False)
    oracle = [max(np.mean(known >= value) for value in row) for row in asked]
    assert (1 - detector.scores(reference, tested)).numpy() == pytest.approx(oracle)


def test_credibility_by_hand():
    calibration = torch.tensor([0.0, 0.0, 2.0, 5.0]).double()
    asked = torch.tensor([[1.0, 6.0], [5.0, 9.0], [0.0, 0.0]]).double()
    assert credibility(calibration, asked).tolist() == [0.5, 0.25, 1.0]


def test_conditional_mmd_weighs_the_mmd_of_each_class():
    reference, tested = window(rng_of(), 8, 12), window(rng_of(1), 6, 12, 0.3)
    one_class = torch.tensor([[1.0, 0.0]]).double()
    of_one = [replace(w, logits=one_class.expand(len(w), 2)) for w in (reference, tested)]
    (found,), _ = of_kind("conditional_mmd", *of_one)
    plain = [Window(w.episode, {"hidden": w.layers["hidden"]}) for w in of_one]
    (oracle,), _ = of_kind("mmd", *plain)
    assert torch.allclose(found.values, oracle.values)
    # Other shares of the classes are no change of what each class looks like.
    rng = rng_of(3)
    counts = (30, 90), (90, 30)
    shares = []
    for few, many in counts:
        classes = np.repeat([0, 1], (few, many))
        values = rng.normal(size=(120, 2)) + 6 * classes[:, None]
        logits = torch.nn.functional.one_hot(torch.from_numpy(classes)).double()
        shares.append(single(values, logits=logits))
    detector = make_detector("conditional_mmd")
    both = PooledWindows(*shares, SETTINGS)
    splits = both.splits(199, torch.Generator().manual_seed(0))
    values = detector.statistics(both, splits)[0].values[0]
    of_all = make_detector("mmd").statistics(both, splits)[0].values[0]
    assert (values >= values[0]).double().mean() > 0.05
    assert (of_all >= of_all[0]).double().mean() == 1 / 200


def test_the_temperature_is_that_of_the_largest_likelihood():
    rng = rng_of()
    logits = rng.normal(size=(4000, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    # Labels that were drawn from the probabilities themselves: three times as sure is too sure.
    found = fit_temperature(torch.from_numpy(3 * logits), torch.from_numpy(labels))
    assert found == pytest.approx(3.0, rel=0.08)
    temperatures = np.linspace(found - 0.05, found + 0.05, 3)
    loss = [
        -np.log(np.exp(3 * logits / t) / np.exp(3 * logits / t).sum(1, keepdims=True))[
            np.arange(4000), labels
        ].mean()
        for t in temperatures
    ]
    assert loss[1] < min(loss[0], loss[2])


def test_confidence_fits_its_temperature_on_labels_alone():
    entry = {"kind": "confidence", "temperature": None}
    reference, tested = window(rng_of(), 20, labels=True), window(rng_of(1), 4)
    (found,), splits = of_kind(entry, reference, replace(tested, labels=tested.classes))
    assert found.values.shape[1] == splits.first_side.shape[1]
    # Every second episode is what it is fitted on.
    assert bool((splits.first_side[:20:2] == 1).all())
    with pytest.raises(UserError, match="the reference does not have"):
        of_kind(entry, replace(reference, labels=None), tested)


def test_the_counts_of_classes_are_compared_by_the_chi_squared_of_scipy():
    sides = [window(rng_of(seed), 6) for seed in (0, 1)]
    (found,), _ = of_kind("predictions", *sides)
    table = [torch.bincount(side.classes, minlength=3).numpy() for side in sides]
    oracle = stats.chi2_contingency(table, correction=False).statistic
    assert float(found.values[0, 0].exp() - 1) == pytest.approx(oracle)


def test_actions_are_counted_in_any_unit_and_saturated_at_the_ends_of_their_own_range():
    actions = torch.tensor([[-200.0], [-200.0], [0.0], [50.0], [100.0], [199.9]])
    assert share_at_end(actions).tolist() == [1, 1, 0, 0, 0, 1]
    uniform = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) * 1000
    counts = torch.bincount(bins_of(Window(torch.arange(1000), actions=uniform), 8)[:, 0])
    assert counts.tolist() == [125] * 8


def test_critics_disagree_by_their_range():
    values = torch.tensor([[1.0, 4.0, 2.0], [0.0, 0.0, -1.0]])
    asked = Window(torch.arange(2), values=values)
    assert make_detector("twin_q").scores(asked, asked).tolist() == [3, 1]
    with pytest.raises(UserError, match="one only"):
        make_detector("twin_q").scores(asked, replace(asked, values=values[:, :1]))


def test_a_random_network_is_predicted_where_it_was_seen():
    rng = rng_of()
    seen, again, new = (single(rng.normal(size=(400, 3)) + far) for far in (0, 0, 4))
    detector = make_detector("random_network")
    of_seen, of_again, of_new = (detector.scores(seen, side) for side in (seen, again, new))
    assert float(of_again.median()) < 3 * float(of_seen.median())
    assert float(of_new.median()) > 30 * float(of_again.median())
    other = make_detector({"kind": "random_network", "seed": 1}).scores(seen, new)
    assert torch.equal(detector.scores(seen, new), of_new) and not torch.equal(other, of_new)
