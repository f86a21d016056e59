"""Several detectors, one decision: which ones are asked, and how they share the level.

Every detector gives statistics under the same splits of whole episodes. They are put together by
family, whichever detector they are of, and the families decide together; see ``joint``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.registry import nearest, option_names
from jsrl.monitor.detectors.findings import DetectorFinding, DetectorSettings
from jsrl.monitor.detectors.joint import (
    FamiliesResult,
    Ranking,
    joint_of_families,
    merged,
    ranking,
)
from jsrl.monitor.detectors.kinds import FAMILIES, Detector, DetectorOptions, Statistics, detectors
from jsrl.monitor.detectors.pooled import PooledWindows
from jsrl.monitor.detectors.splits import Splits
from jsrl.monitor.detectors.window import Window

KEY = "monitor.detectors"

DEFAULT = ("mmd", "margins", "predictions", "confidence", "twin_q")
"""What is asked where nothing else is said, each if the window has what it needs. None of them fits
a model: that takes half of the reference, and smallest p-values with it."""


@dataclass(frozen=True)
class Ensemble:
    """The detectors that are asked.

    Args:
        detectors: all of different kinds.
        left_out: a line for each of the default ones that lacks something.
    """

    detectors: tuple[Detector, ...]
    left_out: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether any of them fits a model."""
        return any(detector.fits for detector in self.detectors)

    def __iter__(self) -> Iterator[Detector]:
        return iter(self.detectors)


@dataclass(frozen=True)
class Decision:
    """What an ensemble decides.

    Args:
        joint: the p-value of all families together, and of each.
        rankings: for each detector all its statistics.
        statistics: all statistics that there are.
    """

    joint: FamiliesResult
    rankings: Mapping[str, Ranking]
    statistics: tuple[Statistics, ...]

    def findings(self) -> tuple[DetectorFinding, ...]:
        """What each detector shows by itself."""
        found = []
        for kind, own in self.rankings.items():
            names = [name for one in self.statistics if one.kind == kind for name in one.names]
            p = own.p_values.tolist()
            named = tuple((_shown(name), value) for name, value in zip(names, p, strict=True))
            found.append(DetectorFinding(kind, own.result.p_value, named))
        return tuple(found)

    def of_kind(self, kind: str) -> list[tuple[Any, float, float]]:
        """The name, the p-value and the observed value of each statistic of a detector."""
        parts = [one for one in self.statistics if one.kind == kind]
        if not parts:
            return []
        names = [name for one in parts for name in one.names]
        values = torch.cat([one.values[:, 0] for one in parts]).tolist()
        return list(zip(names, self.rankings[kind].p_values.tolist(), values, strict=True))


@dataclass(frozen=True)
class ScoredSamples:
    """M samples with their scores, larger where they are stranger.

    Args:
        scores: as the detector gives them.
        p_values: the conformal p-values: the share of held-out reference samples with such a score,
            at least 1/(their number + 1). Steps of an episode are alike: between them p-values
            order, and do not decide.
    """

    scores: Float[Tensor, " M"]
    p_values: Float[Tensor, " M"]


def make_detector(entry: Any, key: str = KEY) -> Detector:
    """The detector of a name, of options, or of a mapping with ``kind`` and options.

    Raises:
        UserError: if there is no such kind, or an option is unknown or out of range.
    """
    options = entry if isinstance(entry, DetectorOptions) else _options(entry, key)
    options.check()
    made: Detector = detectors.build(options)
    return made


def make_detectors(entries: Sequence[Any]) -> tuple[Detector, ...]:
    """All detectors, each of another kind.

    Raises:
        UserError: if an entry is refused by ``make_detector``, a kind comes twice, or none is
            named.
    """
    found = tuple(make_detector(entry, f"{KEY}[{i}]") for i, entry in enumerate(entries))
    kinds = [detector.options.kind for detector in found]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise UserError(f"{KEY} names {twice} twice; name each detector once")
    if not found:
        raise UserError(f"{KEY} is empty; name at least one of {', '.join(detectors.names())}")
    return found


def ensemble_for(settings: DetectorSettings, reference: Window, current: Window) -> Ensemble:
    """The detectors that are asked of these windows.

    Raises:
        UserError: if a detector that was asked for lacks something.
    """
    found, lines = [], []
    for detector in make_detectors(DEFAULT if settings.detectors is None else settings.detectors):
        lack = detector.lacks(reference) or detector.lacks(current)
        if lack is None:
            found.append(detector)
            continue
        kind = detector.options.kind
        if settings.detectors is not None:
            raise UserError(
                f"{KEY} names {kind}, which needs {lack}; the samples do not have that: record "
                f"it, or leave {kind} out"
            )
        lines.append(f"detector {kind} is left out: it needs {lack}")
    return Ensemble(tuple(found), tuple(lines))


def movable_episodes(settings: DetectorSettings, reference: int) -> int:
    """How many of so many reference episodes are permuted: those on which no model is fitted."""
    if settings.detectors is None:
        return reference
    fits = any(detector.fits for detector in make_detectors(settings.detectors))
    return reference // 2 if fits else reference


def decide(ensemble: Ensemble, both: PooledWindows, splits: Splits) -> Decision | None:
    """The decision of all families under these splits; None where no detector says anything."""
    found = [one for detector in ensemble for one in detector.statistics(both, splits)]
    if not found:
        return None
    ranked = [ranking(one.values) for one in found]
    families = {
        family: merged([r for one, r in zip(found, ranked, strict=True) if one.family == family])
        for family in sorted({one.family for one in found}, key=_place_of_family)
    }
    kinds = {
        kind: merged([r for one, r in zip(found, ranked, strict=True) if one.kind == kind])
        for kind in dict.fromkeys(one.kind for one in found)
    }
    return Decision(joint_of_families(families), kinds, tuple(found))


def strangeness(ensemble: Ensemble, both: PooledWindows) -> Float[Tensor, " B"]:
    """How far each episode lies from all others by the statistic that finds it strangest.

    All episodes are treated alike, so that detectors that fit a model, for which some would be set
    apart, have no say.
    """
    alone = both.each_alone()
    furthest = torch.zeros(both.count, dtype=torch.float64)
    for detector in ensemble:
        for one in [] if detector.fits else detector.statistics(both, alone):
            deviation = one.values - one.values.mean(1, keepdim=True)
            spread = deviation.square().mean(1, keepdim=True).sqrt()
            found = deviation / torch.where(spread > 0, spread, 1.0)
            furthest = torch.maximum(furthest, found.amax(0))
    return furthest


def score_samples(
    kind: Any, reference: Window, window: Window, settings: DetectorSettings
) -> ScoredSamples:
    """What one detector finds of single samples.

    Half of the reference's episodes are what samples are held against; the other half is scored in
    the same way, and a sample's rank among these gives its p-value.

    Args:
        kind: a name, options, or a mapping; see ``make_detector``.
        reference: what is trusted, at least 4 episodes.
        window: the samples that are scored.
        settings: how wide layers are reduced; ``rows_per_episode`` counts for the reference.

    Raises:
        UserError: if the detector lacks something, or the reference has too few episodes.
    """
    detector = make_detector(kind)
    lack = detector.lacks(reference) or detector.lacks(window)
    if lack is not None:
        raise UserError(f"detector {detector.options.kind} needs {lack}; the samples lack that")
    both = PooledWindows(reference, window, settings, fit=True)
    on_window = both.blocks >= both.first
    held_out = ~on_window & ~both.is_fitted[both.blocks]
    held, asked = (both.window.take(m.nonzero()[:, 0].numpy()) for m in (held_out, on_window))
    trusted = both.to_fit()
    calibration = detector.scores(trusted, held)
    scores = detector.scores(trusted, asked)
    ordered = calibration.sort().values
    as_large = len(ordered) - torch.searchsorted(ordered, scores - 1e-9)
    return ScoredSamples(scores, (1 + as_large).double() / (len(ordered) + 1))


def _options(entry: Any, key: str) -> DetectorOptions:
    given = {"kind": entry} if isinstance(entry, str) else entry
    if not isinstance(given, Mapping) or not isinstance(given.get("kind"), str):
        raise UserError(
            f"{key}={entry!r} says no kind of detector; expected a name, or {{kind: NAME, OPTION: "
            "VALUE}, such as {kind: deep_knn, neighbours: 20}"
        )
    kind = given["kind"]
    if kind not in detectors.names():
        raise UserError(
            f"{key}={kind!r} is unknown{nearest(kind, detectors.names())}; choose among "
            f"{', '.join(detectors.names())}"
        )
    options = detectors[kind].options
    own = option_names(options)
    for name in given:
        if name not in own:
            has = ", ".join(option for option in own if option != "kind") or "nothing to set"
            raise UserError(
                f"{key}.{name} is no option of detector {kind}{nearest(str(name), own)}; it has "
                f"{has}"
            )
    try:
        made: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), dict(given)))
    except OmegaConfBaseException as error:
        named = f"{key}.{error.key}={given.get(error.key)!r}" if error.key in given else key
        raise UserError(f"{named} does not fit: {str(error).splitlines()[0]}") from error
    assert isinstance(made, DetectorOptions)
    return made


def _place_of_family(family: str) -> tuple[int, str]:
    """The families of the package in their order, others behind them."""
    return (FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), family)


def _shown(name: Any) -> str:
    return name if isinstance(name, str) else " ".join(str(part) for part in name)
