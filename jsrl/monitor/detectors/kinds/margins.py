"""What single columns of the observation do within an episode, or all of them where they are many.

Each of the columns by itself finds the one sensor of thirty that fails. Of thousands of pixels some
are the most extreme under any split, and a quarter of the picture that goes dark is drowned by
them: there the columns of a kind are taken together, as the length of their vector of differences.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.ranges import at_least
from jsrl.monitor.detectors.kinds.base import (
    MARGINS,
    Detector,
    DetectorOptions,
    Statistics,
    detectors,
)
from jsrl.monitor.detectors.margins import margins_of_episodes
from jsrl.monitor.detectors.pooled import PooledWindows
from jsrl.monitor.detectors.reduction import averaged_in_runs
from jsrl.monitor.detectors.splits import Splits
from jsrl.monitor.detectors.window import Window

MOST_COLUMNS = 128
"""Up to so many columns stand by themselves; of more, the kinds of margins are pooled."""

MOST_POOLED = 1024
"""Of still more columns, neighbours are averaged first: a camera has tens of thousands."""

POOLED = -1
"""The column of a margin that is of all columns together."""

Margin = tuple[int, str, str]
"""The column, who acted, and the kind."""


@dataclass
class MarginsOptions(DetectorOptions):
    """Of the detector ``margins``."""

    # Columns up to which each one stands by itself; beyond that all are pooled.
    columns: int = MOST_COLUMNS

    def check(self) -> None:
        at_least("monitor.detectors.margins.columns", self.columns, 0)


@detectors.register("margins", MarginsOptions)
class Margins(Detector):
    """The margins of ``monitor.margins``, for each actor; see ``jsrl.monitor.detectors.margins``.

    A sample's score is how many standard deviations its furthest column is off the reference.

    Args:
        options: see ``MarginsOptions``.
    """

    needs = ("observations",)

    def __init__(self, options: MarginsOptions) -> None:
        super().__init__(options)

    def statistics(self, both: PooledWindows, splits: Splits) -> list[Statistics]:
        observations = both.window.observations
        assert observations is not None
        names: list[Margin] = []
        parts: list[Tensor] = []
        for actor, where in both.of_actors():
            if observations.shape[1] <= self.options.columns:
                found = margins_of_episodes(
                    *(observations[where], both.blocks[where], both.count), both.settings.margins
                )
                for kind, features in found.items():
                    names += [(column, actor, kind) for column in range(len(features))]
                    parts.append(differences_of_means(features, splits))
                continue
            for kind, products in pooled_margins(observations[where], both, where).items():
                names.append((POOLED, actor, kind))
                parts.append(length_of_differences(products, splits)[None])
        if not names:
            return []
        return [Statistics(self.options.kind, MARGINS, tuple(names), torch.cat(parts))]

    def scores(self, reference: Window, window: Window) -> Float[Tensor, " M"]:
        assert reference.observations is not None and window.observations is not None
        found = torch.zeros(len(window), dtype=torch.float64)
        for trusted, values in zip(
            reference.observations.split(MOST_POOLED, 1),
            window.observations.split(MOST_POOLED, 1),
            strict=True,
        ):
            spread = trusted.double().std(0)
            off = (values.double() - trusted.double().mean(0)).abs()
            far = off / torch.where(spread > 0, spread, 1.0)
            found = torch.maximum(found, far.amax(1)) if far.shape[1] else found
        return found


def pooled_margins(
    observations: Float[Tensor, "N D"], both: PooledWindows, where: Tensor
) -> dict[str, Float[Tensor, "B B"]]:
    """For each kind the products of episodes' margins, summed over all columns.

    Every column's margin is in units of its standard deviation over episodes. A column is related
    to its neighbours alone, ``MOST_COLUMNS`` of them, so that no covariance is larger than that.
    """
    columns = averaged_in_runs((observations,), MOST_POOLED)
    products: dict[str, Tensor] = {}
    for some in columns.split(MOST_COLUMNS, 1):
        found = margins_of_episodes(some, both.blocks[where], both.count, both.settings.margins)
        for kind, features in found.items():
            spread = features.std(1, keepdim=True)
            z = features - features.mean(1, keepdim=True)
            z = z / torch.where(spread > 1e-9, spread, torch.inf)
            products[kind] = products.get(kind, torch.zeros(1, dtype=z.dtype)) + z.T @ z
    return {kind: total / columns.shape[1] for kind, total in products.items()}


def length_of_differences(products: Float[Tensor, "B B"], splits: Splits) -> Float[Tensor, " R"]:
    """The length of the difference of both sides' mean vectors, of whose episodes all products are.

    With the weights w of episodes, 1/n on one side and -1/m on the other, it is √(wᵀ products w).
    """
    parts = []
    for z in splits.first_side.split(max(1, (1 << 23) // len(products)), 1):
        count = z.sum(0)
        weights = z / count - (1 - z) / (len(z) - count)
        parts.append((weights * (products @ weights)).sum(0).clamp_min(0).sqrt())
    return torch.cat(parts)


def differences_of_means(features: Float[Tensor, "K B"], splits: Splits) -> Float[Tensor, "K R"]:
    """|mean of a feature over one side less that over the other| under every split of episodes."""
    z = splits.first_side
    count = z.sum(0)
    first = features @ z
    second = features.sum(1, keepdim=True) - first
    return (first / count - second / (len(z) - count)).abs()
