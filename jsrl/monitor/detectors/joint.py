"""One decision over many statistics: the smallest p-value, compared under the same permutations.

Westfall and Young, "Resampling-Based Multiple Testing", 1993, single-step minP. Layers see the
same inputs, so that their tests depend on each other: what is corrected for is what the
permutations show.

Statistics come in families, such as the margins of single columns and the inner layers. The
smallest p-value is taken within each family first, and each split so gets a p-value from each
family; the smallest of these is compared once more under the same splits. A family of a thousand
statistics then counts as much as a family of one: with F families p is at most about F times that
of the strongest family, whatever the others hold.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.mmd import tolerance

TIE = 1e-9
"""How far what tells splits of the same p-value apart may differ by rounding."""

Ranked = tuple[NDArray[np.int64], NDArray[np.float64]]
"""For each split, the rank of a row's statistic and how far out it lies."""


@dataclass(frozen=True)
class JointResult:
    """One p-value for all layers, and each layer's own, uncorrected."""

    p_value: float
    layer_p_values: Float[Tensor, " L"]
    smallest_p: float


@dataclass(frozen=True)
class FamiliesResult:
    """One p-value over all families, and what each family shows by itself."""

    p_value: float
    families: dict[str, JointResult]
    smallest_p: float


@dataclass(frozen=True)
class _Smallest:
    """For each of R splits, its smallest rank among some rows, and how far out the rows are there.

    A rank is how many splits are as extreme or more, at least 1.
    """

    ranks: NDArray[np.int64]
    excess: NDArray[np.float64]

    def p_value(self) -> float:
        """That of the first split: the share of splits that are as extreme or more."""
        first, excess = self.ranks[0], self.excess[0]
        tied = (self.ranks == first) & (self.excess >= excess - TIE)
        return float(((self.ranks < first) | tied).mean())

    def place(self) -> NDArray[np.int64]:
        """How many splits are as extreme as each split, or more."""
        order = np.lexsort((-self.excess, self.ranks))
        ranks, excess = self.ranks[order], self.excess[order]
        # Of splits that are tied the last one counts them all.
        last = np.ones(len(order), bool)
        last[:-1] = (ranks[1:] != ranks[:-1]) | (excess[:-1] - excess[1:] > TIE)
        ends = np.flatnonzero(last) + 1
        place = np.empty(len(order), np.int64)
        place[order] = ends[np.searchsorted(ends, np.arange(1, len(order) + 1))]
        return place


@dataclass(frozen=True)
class Ranking:
    """Some statistics, with the smallest rank that each split has among them.

    Args:
        p_values: of each statistic alone.
        smallest: of each split.
    """

    p_values: Float[Tensor, " L"]
    smallest: _Smallest

    @property
    def result(self) -> JointResult:
        """The joint test of these statistics."""
        return JointResult(self.smallest.p_value(), self.p_values, 1 / len(self.smallest.ranks))


def joint_min_p(statistics: Tensor) -> JointResult:
    """The joint test of L statistics under R shared splits, of which the first is the observed one.

    Statistics ``[L, R]`` are of the size of an MMD² or of standard deviations: what differs by less
    than 1e-10 (in float32 2e-6) counts as equal.

    A layer whose statistic is the same under every split (a dead one) has p-value 1 throughout, and
    no say. Splits that share the smallest p-value are told apart by how far out of all splits the
    statistic lies that has it, in standard deviations: without that, a p-value below L/R could not
    come out.

    Raises:
        UserError: if there is no layer or a single split, or a statistic is not finite.
    """
    return ranking(statistics).result


def joint_of_families(families: Mapping[str, Ranking]) -> FamiliesResult:
    """The joint test of families of statistics, all under the same splits.

    Raises:
        UserError: if there is no family.
    """
    if not families:
        raise UserError("there is no family of statistics; expected at least 1")
    results = {name: of.result for name, of in families.items()}
    smallest_p = max(result.smallest_p for result in results.values())
    if len(results) == 1:
        (alone,) = results.values()
        return FamiliesResult(alone.p_value, results, smallest_p)
    # How far out lies what is told apart by the rank: in units of the family's own, since the
    # largest of many statistics is far out under every split.
    both = _smallest(
        (of.smallest.place(), _standardised(of.smallest.excess)) for of in families.values()
    )
    return FamiliesResult(both.p_value(), results, smallest_p)


def merged(rankings: Sequence[Ranking]) -> Ranking:
    """The statistics of several rankings as one; there must be at least one."""
    smallest = _smallest((of.smallest.ranks, of.smallest.excess) for of in rankings)
    return Ranking(torch.cat([of.p_values for of in rankings]), smallest)


def ranking(statistics: Tensor) -> Ranking:
    """Rank R splits by each of L statistics ``[L, R]``; see ``joint_min_p``.

    Raises:
        UserError: if there is no statistic or a single split, or a number is not finite.
    """
    if statistics.ndim != 2:
        raise UserError(f"statistics have shape {tuple(statistics.shape)}; expected [L, R]")
    if not statistics.is_floating_point():
        statistics = statistics.double()
    layers, splits = statistics.shape
    if layers < 1 or splits < 2:
        raise UserError(f"expected at least 1 layer and 2 splits, got {layers} and {splits}")
    if not bool(statistics.isfinite().all()):
        raise UserError("a statistic is not finite: look at the samples that it is of")
    equal = tolerance(statistics)
    observed = torch.zeros(layers, dtype=torch.float64)

    def ranked() -> Iterator[Ranked]:
        for place, values in enumerate(statistics.cpu().double()):
            row = values.numpy()
            ranks = _ranks(row, equal)
            observed[place] = float(ranks[0]) / splits
            yield ranks, _standardised(row)

    smallest = _smallest(ranked())
    return Ranking(observed, smallest)


def _smallest(rows: Iterable[Ranked]) -> _Smallest:
    """The smallest rank of each split over the rows, one row after another."""
    best: _Smallest | None = None
    for ranks, excess in rows:
        if best is None:
            best = _Smallest(ranks.copy(), excess.copy())
            continue
        below, equal = ranks < best.ranks, ranks == best.ranks
        # Over all rows that share the smallest rank, the one that lies furthest out.
        np.maximum(best.excess, excess, out=best.excess, where=equal)
        np.copyto(best.excess, excess, where=below)
        np.copyto(best.ranks, ranks, where=below)
    assert best is not None
    return best


def _ranks(values: NDArray[np.float64], equal: float) -> NDArray[np.int64]:
    """For each value, how many are as large, itself among them; those nearly equal count."""
    order = np.argsort(values)
    ascending = values[order]
    ranks = np.empty(len(values), np.int64)
    ranks[order] = len(values) - np.searchsorted(ascending, ascending - equal)
    return ranks


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = values.std(ddof=1)
    return (values - values.mean()) / (spread if spread > 0 else 1.0)
