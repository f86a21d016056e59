import numpy as np
import pytest
import torch
from monitor.episodes import network, sample_of, walk
from scipy import stats

from jsrl.core.errors import UserError
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.kinds.mahalanobis import fit_action_conditional
from jsrl.monitor.studies.baselines import (
    kolmogorov_smirnov,
    mahalanobis,
    raw_observations,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def episodes(count, seed=0, shift=0.0):
    rng, module = np.random.default_rng(seed), network()
    return Sample.concatenate(
        [sample_of(walk(rng) + np.float32(shift), module, i) for i in range(count)], renumber=True
    )


def test_kolmogorov_smirnov_is_that_of_scipy_with_bonferroni():
    x, y = episodes(10), episodes(3, 1)
    values = [
        stats.ks_2samp(x.steps.observations[:, c], y.steps.observations[:, c]).pvalue
        for c in range(6)
    ]
    assert kolmogorov_smirnov(x, y) == pytest.approx(min(1.0, 6 * min(values)))
    # A column that is the same everywhere is not counted.
    for side in (x, y):
        side.steps.observations[:, 5] = 2.0
    assert kolmogorov_smirnov(x, y) == pytest.approx(min(1.0, 5 * min(values[:5])))


def test_the_mahalanobis_distance_is_that_of_the_residual():
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(500, 2)).astype(np.float32)
    noise = rng.multivariate_normal(np.zeros(2), [[1.0, 0.5], [0.5, 2.0]], 500)
    features = (actions @ [[1.0, -2.0], [0.5, 3.0]] + 7 + noise).astype(np.float32)
    model = fit_action_conditional(torch.from_numpy(features), torch.from_numpy(actions))
    assert torch.allclose(model.weights[0], torch.tensor([7.0, 7.0]).double(), atol=0.3)
    design = np.c_[np.ones(500), actions]
    left = features - design @ np.linalg.lstsq(design, features, rcond=None)[0]
    covariance = left.T @ left / 500
    shrunk = 0.95 * covariance + 0.05 * np.trace(covariance) / 2 * np.eye(2)
    expected = np.einsum("ni,ij,nj->n", left, np.linalg.inv(shrunk), left)
    ours = model.distances(torch.from_numpy(features), torch.from_numpy(actions))
    assert np.allclose(ours.numpy(), expected, rtol=1e-3)


def test_baselines_that_permute_episodes_tell_a_shift():
    x, y = episodes(30), episodes(4, 1, 3.0)
    assert raw_observations(x, y, 499, generator()) <= 0.05
    assert mahalanobis(x, y, "hidden", 499, generator()) <= 0.05


def test_baselines_that_permute_episodes_reject_clean_ones_at_the_nominal_rate():
    rejected = np.zeros(2)
    for repetition in range(150):
        x, y = episodes(16, 2 * repetition), episodes(4, 2 * repetition + 1)
        p = [raw_observations(x, y, 99, generator(repetition))]
        p.append(mahalanobis(x, y, "hidden", 99, generator(repetition)))
        rejected += np.array(p) <= 0.05
    # Three standard errors of 150 repetitions.
    assert (rejected / 150 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)).all()


def test_the_mahalanobis_distance_needs_episodes_to_fit_and_to_compare():
    with pytest.raises(UserError, match="the reference has 3 episodes"):
        mahalanobis(episodes(3), episodes(3, 1), "hidden", 99, generator())
