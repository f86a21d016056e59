"""What all detectors share: their options, their registry, and how scores become a test.

A detector looks for one kind of change. It gives statistics under splits of whole episodes, all
detectors under the same ones, so that whatever it computes has a calibrated p-value, and it gives
each single sample a score. Both are larger where the samples are stranger.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.registry import KindOptions, Registry
from jsrl.monitor.capture.layers import INPUTS, OUTPUTS
from jsrl.monitor.detectors.pooled import PooledWindows
from jsrl.monitor.detectors.splits import Splits
from jsrl.monitor.detectors.window import Window

MARGINS, LAYERS, VALUES = "margins", "layers", "values"
FAMILIES = (INPUTS, MARGINS, LAYERS, OUTPUTS, VALUES)
"""The families that share the level: what goes into the network as a whole, single columns of it,
inner layers, what comes out, and critics."""


@dataclass
class DetectorOptions(KindOptions):
    """What every detector has: nothing but its kind."""


@dataclass(frozen=True)
class Statistics:
    """K statistics under R splits, the first of which is the observed one.

    Args:
        kind: of the detector.
        family: one of ``FAMILIES``.
        names: what each of them is of.
        values: larger is stranger. They are of the size of an MMD² or of standard deviations.
    """

    kind: str
    family: str
    names: tuple[Any, ...]
    values: Float[Tensor, "K R"]


class Detector(ABC):
    """A kind of detector; see ``MakeDetector`` for how one is made.

    ``needs``: the parts of a window without which it cannot work; where one of several will do,
    they are joined by " or ". ``fits``: whether it fits a model, for which every second episode of
    the reference is set apart.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    fits: bool = False

    def __init__(self, options: Any) -> None:
        self.options = options

    def lacks(self, window: Window) -> str | None:
        """The first thing that it needs and the window lacks."""
        for need in self.needs:
            if not any(_has(window, part) for part in need.split(" or ")):
                return need
        return None

    @abstractmethod
    def statistics(self, both: PooledWindows, splits: Splits) -> list[Statistics]:
        """Its statistics under every split of the episodes of both sides."""

    @abstractmethod
    def scores(self, reference: Window, window: Window) -> Float[Tensor, " M"]:
        """How strange each sample of ``window`` is beside the reference."""

    def breaches(self, window: Window) -> list[str]:
        """A line for each plain bound of its options that the window breaks, without any test."""
        return []


Scorer = Callable[[Window], Float[Tensor, "K N"]]
"""Gives K scores for each sample, as a model that was fitted finds them."""


class ScoringDetector(Detector):
    """A detector that scores samples: an episode is as strange as its samples are on average.

    ``family`` is that of its statistics, and ``score_names`` are the names of its K scores.
    """

    family: ClassVar[str]
    score_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def fit(self, trusted: Window) -> Scorer:
        """A model of trusted samples, or what needs none."""

    def statistics(self, both: PooledWindows, splits: Splits) -> list[Statistics]:
        found = self.fit(both.to_fit())(both.window).double()
        features = both.episode_means(found)
        counted = ~both.is_fitted
        values = excess_of_second_side(features, counted, splits)
        return [Statistics(self.options.kind, self.family, self.score_names, values)]

    def scores(self, reference: Window, window: Window) -> Float[Tensor, " M"]:
        found = self.fit(reference)(window)
        return found[0].double()


def excess_of_second_side(
    features: Float[Tensor, "K B"], counted: Tensor, splits: Splits
) -> Float[Tensor, "K R"]:
    """The mean of the second side less that of the first, over the episodes that count.

    It is in units of the standard deviation over episodes.
    """
    some = features[:, counted]
    z = splits.first_side[counted]
    spread = some.std(1, keepdim=True)
    some = (some - some.mean(1, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
    count = z.sum(0)
    first = some @ z
    return (some.sum(1, keepdim=True) - first) / (len(z) - count) - first / count


class MakeDetector(Protocol):
    """Makes a detector of its options."""

    def __call__(self, options: Any) -> Detector: ...


detectors: Registry[MakeDetector] = Registry("monitor.detectors", DetectorOptions)
"""The kinds of ``monitor.detectors``."""


def _has(window: Window, part: str) -> bool:
    if part == "layers":
        return bool(window.layers)
    if part == "inner layers":
        return bool(window.inner_layers)
    return getattr(window, part) is not None


def embedding(window: Window, layer: str | None, key: str) -> Float[Tensor, "N D"]:
    """A layer of the window in float64, the last inner one where none is named.

    Raises:
        UserError: if there is no such layer.
    """
    name = layer or (window.inner_layers or tuple(window.layers))[-1]
    if name not in window.layers:
        raise UserError(
            f"{key}.layer={name!r} was not captured; choose one of {', '.join(window.layers)}"
        )
    return window.layers[name].double().cpu()
