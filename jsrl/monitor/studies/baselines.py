"""Other ways to notice changed inputs, to compare with: a p-value each, for the same episodes."""

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.kinds.mahalanobis import ActionConditional, fit_action_conditional
from jsrl.monitor.detectors.mmd import mmd_permutation_test
from jsrl.monitor.detectors.splits import best_splits


def raw_observations(
    reference: Sample, current: Sample, permutations: int, generator: torch.Generator
) -> float:
    """The p-value of the MMD of the observations, whole episodes permuted, without any network."""
    x, y = (torch.from_numpy(side.steps.observations) for side in (reference, current))
    of_x, of_y = (torch.from_numpy(side.steps.episode) for side in (reference, current))
    found = mmd_permutation_test(x, y, of_x, of_y, permutations, generator=generator)
    return found.p_value


def kolmogorov_smirnov(reference: Sample, current: Sample) -> float:
    """Two-sample Kolmogorov-Smirnov tests of every column: the smallest p times their number.

    Steps count as independent draws, which the steps of an episode are not. The test is commonly
    used in this way, and its false alarms come from it.
    """
    x, y = reference.steps.observations, current.steps.observations
    varying = [c for c in range(x.shape[1]) if np.ptp(np.concatenate([x[:, c], y[:, c]])) > 0]
    found = (float(scipy.stats.ks_2samp(x[:, c], y[:, c]).pvalue) for c in varying)
    smallest = min(found, default=1.0)
    return min(1.0, smallest * max(1, len(varying)))


def mahalanobis(
    reference: Sample, current: Sample, layer: str, permutations: int, generator: torch.Generator
) -> float:
    """The p-value of the action-conditional Mahalanobis distance of one layer.

    The model is fitted on every second episode of the reference. The other half and the episodes in
    question are compared by the mean distance of an episode, under permutations of episodes.

    Raises:
        UserError: if the reference has fewer than four episodes.
    """
    names = np.unique(reference.steps.episode)
    if len(names) < 4:
        raise UserError(f"the reference has {len(names)} episodes; this comparison needs 4")
    fitted = np.isin(reference.steps.episode, names[::2])
    to_fit, to_compare = (reference.take(np.flatnonzero(mask)) for mask in (fitted, ~fitted))
    model = fit_action_conditional(
        to_fit.activations[layer], torch.from_numpy(to_fit.steps.actions)
    )
    means = [_episode_means(model, side, layer) for side in (to_compare, current)]
    splits = best_splits(len(means[0]), len(means[1]), permutations, generator)
    both, z = torch.cat(means), splits.first_side
    count = z.sum(0)
    first = both @ z
    statistics = (both.sum() - first) / (len(both) - count) - first / count
    return float((statistics >= statistics[0] - 1e-9).double().mean())


def _episode_means(model: ActionConditional, side: Sample, layer: str) -> Float[Tensor, " B"]:
    actions = torch.from_numpy(side.steps.actions)
    distances = model.distances(side.activations[layer].cpu(), actions)
    blocks: Int[Tensor, " N"] = torch.from_numpy(
        np.unique(side.steps.episode, return_inverse=True)[1].reshape(-1)
    )
    sums = torch.zeros(int(blocks.max()) + 1, dtype=torch.float64)
    return sums.index_add_(0, blocks, distances) / torch.bincount(blocks)
