"""Which answers are given: the counts of classes, or where the actions of a Box lie.

Actions are those that the network answers, whoever acted. They are counted in bins of equal shares
of both sides together, so that their unit does not matter, and by how many of them are at the ends
of their range.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least
from jsrl.monitor.capture.layers import OUTPUTS
from jsrl.monitor.detectors.kinds.base import (
    Detector,
    DetectorOptions,
    Statistics,
    detectors,
    excess_of_second_side,
)
from jsrl.monitor.detectors.pooled import PooledWindows
from jsrl.monitor.detectors.sanity import chi_square
from jsrl.monitor.detectors.splits import Splits
from jsrl.monitor.detectors.window import Window

BINS = 8

AT_END = 0.005
"""The share of a range within which an action counts as at its end."""


@dataclass
class PredictionsOptions(DetectorOptions):
    """Of the detector ``predictions``."""

    # Bins of the actions of a Box, in each dimension.
    bins: int = BINS
    # A line is told where one class has a larger share of a window; null: no bound.
    most: float | None = None

    def check(self) -> None:
        at_least("monitor.detectors.predictions.bins", self.bins, 2)
        if self.most is not None and not 0 < self.most < 1:
            raise UserError(
                f"monitor.detectors.predictions.most={self.most} must lie between 0 and 1"
            )


@detectors.register("predictions", PredictionsOptions)
class Predictions(Detector):
    """χ² of both sides' counts, and for actions of a Box how many more are at an end of the range.

    A sample's score is how rare its class or its bins are in the reference: less the logarithm of
    the share, summed over dimensions.

    Args:
        options: see ``PredictionsOptions``.
    """

    needs = ("logits or actions",)

    def __init__(self, options: PredictionsOptions) -> None:
        super().__init__(options)

    def statistics(self, both: PooledWindows, splits: Splits) -> list[Statistics]:
        window, kind = both.window, self.options.kind
        counts = counts_of_answers(both, self.options.bins)
        if counts is None:
            return []
        # By their logarithm: it orders splits alike, and is of the size of standard deviations.
        largest = chi_square(counts, splits.first_side).amax(0, keepdim=True).clamp_min(0).log1p()
        if window.logits is not None:
            return [Statistics(kind, OUTPUTS, ("classes",), largest)]
        assert window.answers is not None
        at_end = both.episode_means(share_at_end(window.answers)[None])
        every = torch.ones(both.count, dtype=torch.bool)
        more = excess_of_second_side(at_end, every, splits)
        return [
            Statistics(kind, OUTPUTS, ("action bins", "saturation"), torch.cat([largest, more]))
        ]

    def scores(self, reference: Window, window: Window) -> Float[Tensor, " M"]:
        trusted, places = (
            bins_of(side, self.options.bins, reference) for side in (reference, window)
        )
        size = int(torch.cat([trusted, places]).max()) + 1
        found = torch.zeros(len(window), dtype=torch.float64)
        for known, asked in zip(trusted.unbind(1), places.unbind(1), strict=True):
            counts = torch.bincount(known, minlength=size).double()
            found -= ((counts + 1) / (counts.sum() + size)).log()[asked]
        return found

    def breaches(self, window: Window) -> list[str]:
        most, classes = self.options.most, window.classes
        if most is None or classes is None:
            return []
        counts = torch.bincount(classes)
        share = float(counts.max()) / len(classes)
        if share <= most:
            return []
        return [f"class {int(counts.argmax())} has a share of {share:.3f}, above {most}"]


def counts_of_answers(both: PooledWindows, bins: int = BINS) -> Float[Tensor, "B A K"] | None:
    """How many answers of each episode are of each class or in each bin; None without any."""
    window = both.window
    if window.logits is None and window.answers is None:
        return None
    hits = torch.nn.functional.one_hot(bins_of(window, bins)).double()
    return hits.new_zeros(both.count, *hits.shape[1:]).index_add_(0, both.blocks, hits)


def bins_of(window: Window, bins: int, like: Window | None = None) -> Int[Tensor, "N A"]:
    """The class of each sample, or the bin of each action.

    Args:
        window: whose answers.
        bins: how many bins of equal shares each dimension of the actions has; fewer, where many
            actions are equal.
        like: the window whose quantiles are the edges; None: ``window`` itself.
    """
    if window.classes is not None:
        return window.classes[:, None]
    known, asked = (like or window).answers, window.answers
    assert known is not None and asked is not None
    found = np.zeros(asked.shape, np.int64)
    for column in range(asked.shape[1]):
        edges = edges_between(known[:, column].double().numpy(), bins)
        found[:, column] = np.searchsorted(edges, asked[:, column].double().numpy(), side="right")
    return torch.from_numpy(found)


def edges_between(values: Float[NDArray[np.float64], " N"], bins: int) -> NDArray[np.float64]:
    """The edges of bins with equal shares, half way between neighbours.

    No value lies at an edge but one that many are equal to, so that rounding moves none over it.
    """
    ascending = np.sort(values)
    above = np.unique(np.arange(1, bins) * len(values) // bins)
    above = above[above > 0]
    return np.unique((ascending[above - 1] + ascending[above]) / 2)


def share_at_end(actions: Float[Tensor, "N A"]) -> Float[Tensor, " N"]:
    """For each sample the share of its actions at the smallest or largest value of their range."""
    values = actions.double()
    low, high = values.amin(0), values.amax(0)
    near = AT_END * (high - low)
    at_end = (values <= low + near) | (values >= high - near)
    return (at_end & (high > low)).double().mean(1)
