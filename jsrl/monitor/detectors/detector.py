"""One test of some episodes against a reference, over all layers at once.

Layers are compared within cells, which hold the steps of the same actor at the same time in the
episode. Beside them stand margins: what single columns of the observation do within an episode. One
joint decision is made over all of them, under the same splits of whole episodes.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.layers import INPUTS
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.findings import (
    DetectorSettings,
    Finding,
    LayerFinding,
    MarginFinding,
    NothingToCompareError,
)
from jsrl.monitor.detectors.joint import joint_min_p
from jsrl.monitor.detectors.kernels import mmd_of_splits
from jsrl.monitor.detectors.pooled import Cell, PooledSamples, standardised
from jsrl.monitor.detectors.rates import DetectionRates, RateSettings, detection_rates
from jsrl.monitor.detectors.sanity import action_bins, action_p_value, count_units, saturation_share
from jsrl.monitor.detectors.splits import Splits, best_splits


def compare(
    reference: Sample, current: Sample, settings: DetectorSettings, generator: torch.Generator
) -> Finding:
    """Test the episodes of ``current`` against those of ``reference``.

    Args:
        reference: the episodes that are trusted.
        current: the episodes that are tested.
        settings: how episodes are compared.
        generator: the splits are drawn from it.

    Raises:
        UserError: if a side is empty, or both sides have no cell in common.
    """
    for name, sample in (("the reference", reference), ("what is tested", current)):
        if len(sample.steps) == 0:
            raise UserError(f"{name} has no steps; a test needs episodes on both sides")
    before, now = (
        saturation_share(torch.from_numpy(side.steps.actions)) for side in (reference, current)
    )
    if not current.is_finite():
        return Finding(0.0, 0.0, 0.0, (), (), None, (before, now), finite=False)
    both = PooledSamples(reference, current, settings)
    if not both.comparable:
        raise NothingToCompareError(
            "the reference and the episodes that are tested have no two steps each by the same "
            "actor at the same time of an episode: lower monitor.interval, or record more"
        )
    return _finding(
        both, best_splits(both.first, both.second, settings.permutations, generator), (before, now)
    )


def _finding(both: PooledSamples, splits: Splits, saturation: tuple[float, float]) -> Finding:
    """The joint decision over all cells and margins under the same splits."""
    cells, kernels, sizes = both.kernels()
    statistics = mmd_of_splits(torch.stack(kernels), torch.stack(sizes), splits.first_side)
    statistics = statistics.cpu()
    margins, features = both.margins()
    joint = joint_min_p(torch.cat([statistics, differences_of_means(features, splits)]))
    of_layers, of_margins = joint.layer_p_values[: len(cells)], joint.layer_p_values[len(cells) :]
    counts = action_bins(both.actions, both.blocks, both.first + both.second)
    return Finding(
        joint.p_value,
        joint_min_p(statistics).p_value,
        joint.smallest_p,
        tuple(
            _layer_finding(cell, float(p), float(value), both)
            for cell, p, value in zip(cells, of_layers, statistics[:, 0], strict=True)
        ),
        tuple(
            MarginFinding(*margin, float(p)) for margin, p in zip(margins, of_margins, strict=True)
        ),
        action_p_value(counts, splits),
        saturation,
        finite=True,
    )


def nonconformity_scores(
    earlier: Sample, newest: Sample, settings: DetectorSettings
) -> Float[Tensor, " B"]:
    """How far each of B episodes lies from all others, the newest one last.

    The score is that of the layer or margin that finds the episode strangest: the MMD² of the
    episode against the rest in each cell, and the distance of its margins from their means, each in
    standard deviations over episodes. All episodes are treated alike, so that the scores may be
    ranked.

    Raises:
        UserError: if the sides have observations or layers of other sizes.
    """
    both = PooledSamples(earlier, newest, settings)
    _, kernels, sizes = both.kernels()
    alone = Splits(torch.eye(both.first + both.second, dtype=torch.float64), exhaustive=False)
    statistics = differences_of_means(both.margins()[1], alone)
    # Few and short episodes may leave no cell with enough steps.
    if kernels:
        of_layers = mmd_of_splits(torch.stack(kernels), torch.stack(sizes), alone.first_side)
        statistics = torch.cat([of_layers.cpu(), statistics])
    deviation = statistics - statistics.mean(1, keepdim=True)
    spread = deviation.square().mean(1, keepdim=True).sqrt()
    return (deviation / torch.where(spread > 0, spread, 1.0)).amax(0)


def rates_of_samples(
    reference: Sample, current: Sample, settings: RateSettings, generator: torch.Generator
) -> DetectionRates:
    """The detection rates of all layers.

    Args:
        reference: the episodes that are trusted, numbered from 0.
        current: the episodes in question, numbered from 0.
        settings: of the small tests.
        generator: samples and permutations are drawn from it.

    Raises:
        UserError: if the reference has fewer than two episodes.
    """
    first = int(reference.steps.episode.max()) + 1
    blocks = np.concatenate([reference.steps.episode, current.steps.episode + first])
    layers = []
    for name, values in reference.activations.items():
        both = torch.nan_to_num(torch.cat([values, current.activations[name]]))
        layers.append(standardised(both) if name == INPUTS else both)
    return detection_rates(layers, torch.from_numpy(blocks), first, settings, generator)


def differences_of_means(features: Float[Tensor, "K B"], splits: Splits) -> Float[Tensor, "K R"]:
    """|mean of a feature over one side less that over the other| under every split of episodes."""
    z = splits.first_side
    count = z.sum(0)
    first = features @ z
    second = features.sum(1, keepdim=True) - first
    return (first / count - second / (len(z) - count)).abs()


def _layer_finding(cell: Cell, p: float, statistic: float, both: PooledSamples) -> LayerFinding:
    units = count_units(both.tested_activations(cell))
    return LayerFinding(*cell, p, statistic, units.dead, units.saturated)
