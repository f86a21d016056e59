"""One test of some episodes against a reference, over all layers at once.

Layers are compared within cells: the same who-acted, and the same time in the episode. Beside them
stand margins, what single columns of the observation do within an episode. All are judged together,
under the same splits of whole episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.errors import UserError
from jsrl.monitor.hooks import INPUTS
from jsrl.monitor.joint import joint_min_p
from jsrl.monitor.kernels import gaussian_kernel_of_sparse, mmd_of_splits, sum_over_blocks
from jsrl.monitor.margins import margins_of_episodes
from jsrl.monitor.rates import DetectionRates, RateSettings, detection_rates
from jsrl.monitor.rows import ACTORS, Rows, concatenate
from jsrl.monitor.sanity import action_bins, action_p_value, count_units, saturation_share
from jsrl.monitor.splits import Splits, best_splits

Cell = tuple[str, str, int]
"""A layer, who acted, and a time bin."""


@dataclass(frozen=True)
class Sample:
    """Rows of one seed, and what the layers said in them, of the network as it is now."""

    rows: Rows
    activations: Mapping[str, Float[Tensor, "N _"]]

    def take(self, which: NDArray[np.int64]) -> "Sample":
        """The rows at these places."""
        where = torch.from_numpy(which)
        picked = {n: v[where.to(v.device)] for n, v in self.activations.items()}
        return Sample(self.rows.take(which), picked)

    def thinned(self, most: int) -> "Sample":
        """At most so many rows, evenly spread, of an episode."""
        count = len(self.rows)
        return self if count <= most else self.take(_spread(count, most))


def together(samples: Sequence[Sample]) -> Sample:
    """Samples after each other; at least one."""
    names = samples[0].activations
    return Sample(
        concatenate([sample.rows for sample in samples]),
        {name: torch.cat([sample.activations[name] for sample in samples]) for name in names},
    )


@dataclass(frozen=True)
class DetectorSettings:
    """How episodes are compared.

    Args:
        permutations: splits that are drawn where there are more; all of them where not.
        rows_per_episode: an episode counts with so many rows at most, evenly spread.
        time_bins: steps at which a new bin of time in the episode begins.
    """

    permutations: int = 50_000
    rows_per_episode: int = 32
    time_bins: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerFinding:
    """What one layer says in one cell, uncorrected."""

    layer: str
    actor: str
    time_bin: int
    p_value: float
    statistic: float
    dead_units: float
    saturated_units: float


@dataclass(frozen=True)
class MarginFinding:
    """What one column of the observation says, uncorrected; ``kind`` is of ``margins.KINDS``."""

    column: int
    actor: str
    kind: str
    p_value: float


@dataclass(frozen=True)
class Finding:
    """What a test found.

    Args:
        p_value: joint over all cells and margins; 0 where something is not finite.
        layers_p_value: joint over the cells of layers alone.
        smallest_p: the smallest that these episodes could have given.
        layers: of each cell.
        margins: of each column of the observation.
        action_p_value: of the χ² of action bins.
        saturation: share of actions at the bounds, of the reference and of the episodes tested.
        finite: False where a number is NaN or infinite, which is a fault without any test.
        cause: a name for what is wrong, where something can tell; None so far.
    """

    p_value: float
    layers_p_value: float
    smallest_p: float
    layers: tuple[LayerFinding, ...]
    margins: tuple[MarginFinding, ...]
    action_p_value: float | None
    saturation: tuple[float, float]
    finite: bool
    cause: str | None = None


class NothingToCompareError(UserError):
    """No cell has two rows on both sides."""


def compare(
    reference: Sample, current: Sample, settings: DetectorSettings, generator: torch.Generator
) -> Finding:
    """Test the episodes of ``current`` against those of ``reference``.

    Raises:
        UserError: if a side is empty, or they have no cell in common.
    """
    for name, sample in (("the reference", reference), ("what is tested", current)):
        if len(sample.rows) == 0:
            raise UserError(f"{name} has no rows; a test needs episodes on both sides")
    saturation = tuple(
        saturation_share(torch.from_numpy(side.rows.actions)) for side in (reference, current)
    )
    if not is_finite(current):
        return Finding(0.0, 0.0, 0.0, (), (), None, (saturation[0], saturation[1]), finite=False)
    both = _Pooled(reference, current, settings)
    if not both.comparable:
        raise NothingToCompareError(
            "the reference and the episodes that are tested have no two rows each by the same "
            "actor at the same time of an episode: lower monitor.interval, or record more"
        )
    splits = best_splits(both.first, both.second, settings.permutations, generator)
    cells, kernels, sizes = both.kernels()
    statistics = mmd_of_splits(torch.stack(kernels), torch.stack(sizes), splits.first_side)
    statistics = statistics.cpu()
    margins, features = both.margins()
    joint = joint_min_p(torch.cat([statistics, differences_of_means(features, splits)]))
    of_layers, of_margins = joint.layer_p_values[: len(cells)], joint.layer_p_values[len(cells) :]
    found = [
        _finding_of_cell(cell, float(p), float(value), both)
        for cell, p, value in zip(cells, of_layers, statistics[:, 0], strict=True)
    ]
    return Finding(
        joint.p_value,
        joint_min_p(statistics).p_value,
        joint.smallest_p,
        tuple(found),
        tuple(
            MarginFinding(*margin, float(p)) for margin, p in zip(margins, of_margins, strict=True)
        ),
        both.action_p_value(splits),
        (saturation[0], saturation[1]),
        finite=True,
    )


def strangeness(earlier: Sample, newest: Sample, settings: DetectorSettings) -> Float[Tensor, " B"]:
    """A score for every episode, the newest last: how far it lies from all others.

    Raises:
        UserError: likewise.
    """
    return _Pooled(earlier, newest, settings).episode_scores()


def rates_of_samples(
    reference: Sample, current: Sample, settings: RateSettings, generator: torch.Generator
) -> DetectionRates:
    """Detection rates of all layers; episodes are numbered from 0 within each side.

    Raises:
        UserError: if the reference has fewer than two episodes.
    """
    first = int(reference.rows.episode.max()) + 1
    blocks = np.concatenate([reference.rows.episode, current.rows.episode + first])
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


def time_bin(times: NDArray[np.int64], edges: Sequence[int]) -> NDArray[np.int64]:
    """The bin of each time: 0 before the first edge."""
    return np.searchsorted(np.asarray(edges, np.int64), times, side="right").astype(np.int64)


def standardised(samples: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Every column by its standard deviation: inputs come in units of their own."""
    spread = samples.std(0)
    return (samples - samples.mean(0)) / torch.where(spread > 0, spread, 1.0)


class _Pooled:
    """Both sides in one, thinned, with their episodes numbered: those of the reference first."""

    def __init__(self, reference: Sample, current: Sample, settings: DetectorSettings) -> None:
        sides = [_thinned(side, settings.rows_per_episode) for side in (reference, current)]
        numbered = [np.unique(side.rows.episode, return_inverse=True) for side in sides]
        self.first, self.second = (len(names) for names, _ in numbered)
        blocks = np.concatenate([numbered[0][1], numbered[1][1] + self.first])
        self.blocks = torch.from_numpy(blocks.reshape(-1).astype(np.int64))
        self.activations = {
            name: torch.cat([side.activations[name] for side in sides])
            for name in sides[0].activations
        }
        actors = np.concatenate([side.rows.actor for side in sides])
        times = np.concatenate([side.rows.time for side in sides])
        bins = time_bin(times, settings.time_bins)
        self.actors = actors
        self.observations = torch.from_numpy(np.concatenate([s.rows.observations for s in sides]))
        self.actions = torch.from_numpy(np.concatenate([side.rows.actions for side in sides]))
        on_first = self.blocks.numpy() < self.first
        self.comparable = False
        self.cells: dict[tuple[str, int], Tensor] = {}
        for actor in np.unique(actors):
            for number in np.unique(bins):
                mask = (actors == actor) & (bins == number)
                # Chosen by both sides together, so that cells do not depend on which is which.
                if mask.sum() >= 4:
                    rows = min((mask & on_first).sum(), (mask & ~on_first).sum())
                    self.comparable |= bool(rows >= 2)
                    where = torch.from_numpy(np.flatnonzero(mask))
                    self.cells[(ACTORS[actor], int(number))] = where

    def kernels(self) -> tuple[list[Cell], list[Tensor], list[Tensor]]:
        """For each cell its kernel, summed over pairs of episodes, and its rows of each episode."""
        cells, kernels, sizes = [], [], []
        count = self.first + self.second
        for name, values in self.activations.items():
            for (actor, number), where in self.cells.items():
                samples = values[where.to(values.device)]
                samples = standardised(samples) if name == INPUTS else samples
                kernel, _ = gaussian_kernel_of_sparse(samples)
                summed, of_blocks = sum_over_blocks(kernel, self.blocks[where], count)
                cells.append((name, actor, number))
                kernels.append(summed)
                sizes.append(of_blocks)
        return cells, kernels, sizes

    def margins(self) -> tuple[list[tuple[int, str, str]], Float[Tensor, "K B"]]:
        """What every column does in every episode, for each actor: column, actor and kind."""
        names: list[tuple[int, str, str]] = []
        features = []
        for actor in np.unique(self.actors):
            where = torch.from_numpy(np.flatnonzero(self.actors == actor))
            found = margins_of_episodes(
                self.observations[where], self.blocks[where], self.first + self.second
            )
            for kind, values in found.items():
                names += [(column, ACTORS[actor], kind) for column in range(len(values))]
                features.append(values)
        return names, torch.cat(features)

    def episode_scores(self) -> Float[Tensor, " B"]:
        """How far each episode lies from all others: the layer that finds it strangest.

        MMD² of the episode against the rest, of each cell, and the distance of its margins from
        their means, in standard deviations over episodes. All episodes are treated alike, so that
        the scores may be ranked.
        """
        _, kernels, sizes = self.kernels()
        alone = Splits(torch.eye(self.first + self.second, dtype=torch.float64), exhaustive=False)
        of_layers = mmd_of_splits(torch.stack(kernels), torch.stack(sizes), alone.first_side)
        of_margins = differences_of_means(self.margins()[1], alone)
        statistics = torch.cat([of_layers.cpu(), of_margins])
        deviation = statistics - statistics.mean(1, keepdim=True)
        spread = deviation.square().mean(1, keepdim=True).sqrt()
        return (deviation / torch.where(spread > 0, spread, 1.0)).amax(0)

    def tested(self, cell: Cell) -> Float[Tensor, "N _"]:
        """A layer's activations in a cell, of the episodes that are tested."""
        name, actor, number = cell
        where = self.cells[(actor, number)]
        where = where[self.blocks[where] >= self.first]
        values = self.activations[name]
        return values[where.to(values.device)]

    def action_p_value(self, splits: Splits) -> float:
        counts = action_bins(self.actions, self.blocks, self.first + self.second)
        return action_p_value(counts, splits)


def _finding_of_cell(cell: Cell, p: float, statistic: float, both: _Pooled) -> LayerFinding:
    units = count_units(both.tested(cell))
    return LayerFinding(*cell, p, statistic, units.dead, units.saturated)


def _thinned(sample: Sample, most: int) -> Sample:
    """At most so many rows of each episode; a watch has thinned its episodes already."""
    episodes, counts = np.unique(sample.rows.episode, return_counts=True)
    if counts.max() <= most:
        return sample
    kept = []
    for episode in episodes:
        own = np.flatnonzero(sample.rows.episode == episode)
        kept.append(own[_spread(len(own), most)] if len(own) > most else own)
    return sample.take(np.sort(np.concatenate(kept)))


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """So many places, evenly spread over more of them."""
    return np.linspace(0, count - 1, most).round().astype(np.int64)


def is_finite(sample: Sample) -> bool:
    """Whether everything that was seen, done and thought is finite."""
    rows = sample.rows
    values = [torch.from_numpy(part) for part in (rows.observations, rows.actions)]
    return all(bool(v.isfinite().all()) for v in (*values, *sample.activations.values()))


def finite_activations(sample: Sample) -> dict[str, Float[NDArray[np.float32], "N _"]]:
    """Activations as arrays, finite rows only."""
    arrays = {name: values.cpu().numpy() for name, values in sample.activations.items()}
    return {name: values[np.isfinite(values).all(1)] for name, values in arrays.items()}
