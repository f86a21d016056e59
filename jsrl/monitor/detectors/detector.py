"""One test of some episodes against a reference, by all detectors at once.

Layers are compared within cells, which hold the steps of the same actor at the same time in the
episode. Beside them stand margins: what single columns of the observation do within an episode, and
what other detectors look for. One decision is made over all of them, under the same splits of whole
episodes.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.layers import INPUTS
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.ensemble import Decision, Ensemble, decide, ensemble_for, strangeness
from jsrl.monitor.detectors.findings import (
    DetectorSettings,
    Finding,
    LayerFinding,
    MarginFinding,
    NothingToCompareError,
)
from jsrl.monitor.detectors.kinds.predictions import counts_of_answers
from jsrl.monitor.detectors.pooled import Cell, PooledWindows
from jsrl.monitor.detectors.rates import DetectionRates, RateSettings, detection_rates
from jsrl.monitor.detectors.reduction import reduced
from jsrl.monitor.detectors.sanity import action_p_value, count_units, saturation_share
from jsrl.monitor.detectors.splits import Splits
from jsrl.monitor.detectors.window import Window, as_window

LAYERS_KIND, MARGINS_KIND = "mmd", "margins"
"""The detectors whose findings are told for each layer and each column."""


def compare(
    reference: Sample | Window,
    current: Sample | Window,
    settings: DetectorSettings,
    generator: torch.Generator,
) -> Finding:
    """Test the episodes of ``current`` against those of ``reference``.

    Args:
        reference: the episodes that are trusted.
        current: the episodes that are tested.
        settings: how episodes are compared.
        generator: the splits are drawn from it.

    Raises:
        UserError: if a side is empty, both sides have no cell in common, or a detector that was
            asked for lacks something.
    """
    windows = [as_window(side, settings.outputs) for side in (reference, current)]
    for name, window in zip(("the reference", "what is tested"), windows, strict=True):
        if len(window) == 0:
            raise UserError(f"{name} has no steps; a test needs episodes on both sides")
    before, now = (
        0.0 if side.actions is None else saturation_share(side.actions) for side in windows
    )
    if not windows[1].is_finite():
        return Finding(0.0, 0.0, 0.0, (), (), None, (before, now), finite=False)
    ensemble = ensemble_for(settings, *windows)
    both = PooledWindows(windows[0], windows[1], settings, fit=ensemble.fits)
    if not both.comparable:
        raise NothingToCompareError(
            "the reference and the episodes that are tested have no two steps each by the same "
            "actor at the same time of an episode: lower monitor.interval, or record more"
        )
    splits = both.splits(settings.permutations, generator)
    decision = decide(ensemble, both, splits)
    if decision is None:
        raise NothingToCompareError(
            f"no detector has anything to compare: {'; '.join(ensemble.left_out)}"
        )
    return _finding(ensemble, both, splits, decision, (before, now))


def _finding(
    ensemble: Ensemble,
    both: PooledWindows,
    splits: Splits,
    decision: Decision,
    saturation: tuple[float, float],
) -> Finding:
    layers = decision.rankings.get(LAYERS_KIND)
    counts = counts_of_answers(both)
    return Finding(
        decision.joint.p_value,
        1.0 if layers is None else layers.result.p_value,
        decision.joint.smallest_p,
        tuple(_layer_finding(*found, both) for found in decision.of_kind(LAYERS_KIND)),
        tuple(
            MarginFinding(column, actor, kind, p)
            for (column, actor, kind), p, _ in decision.of_kind(MARGINS_KIND)
        ),
        None if counts is None else action_p_value(counts, splits),
        saturation,
        finite=True,
        families={name: found.p_value for name, found in decision.joint.families.items()},
        detectors=decision.findings(),
        left_out=ensemble.left_out,
        breaches=tuple(line for one in ensemble for line in one.breaches(both.current)),
    )


def nonconformity_scores(
    earlier: Sample | Window,
    newest: Sample | Window,
    settings: DetectorSettings,
) -> Float[Tensor, " B"]:
    """How far each of B episodes lies from all others, the newest one last.

    The score is that of the family that finds the episode strangest, and in it that of the layer or
    margin: the MMD² of the episode against the rest in each cell, and the distance of its margins
    from their means, each in standard deviations over episodes. All episodes are treated alike, so
    that the scores may be ranked.

    Raises:
        UserError: if the sides have observations or layers of other sizes.
    """
    windows = [as_window(side, settings.outputs) for side in (earlier, newest)]
    if settings.detectors is None:
        # The largest of many statistics of single episodes says little: two detectors are enough.
        settings = replace(settings, detectors=(LAYERS_KIND, MARGINS_KIND))
    ensemble = ensemble_for(settings, *windows)
    return strangeness(ensemble, PooledWindows(windows[0], windows[1], settings))


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
    layers = [
        # A projection of large numbers may be beyond the range once more.
        torch.nan_to_num(
            reduced(_finite(values, current.activations[name]), name, 0, standardise=name == INPUTS)
        )
        for name, values in reference.activations.items()
    ]
    return detection_rates(layers, torch.from_numpy(blocks), first, settings, generator)


def _finite(*sides: Tensor) -> tuple[Tensor, ...]:
    """What is not finite is replaced; where all is, nothing is copied."""
    return tuple(side if bool(side.isfinite().all()) else torch.nan_to_num(side) for side in sides)


def _layer_finding(cell: Cell, p: float, statistic: float, both: PooledWindows) -> LayerFinding:
    name, actor, number = cell
    where = both.cell_of_current(actor, number)
    values = both.current.layers[name]
    units = count_units(values[where.to(values.device)].flatten(1))
    return LayerFinding(*cell, p, statistic, units.dead, units.saturated)
