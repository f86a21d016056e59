"""Both sides of a test in one window, divided into cells of the same actor and time."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.monitor.capture.layers import INPUTS
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.reduction import reduced
from jsrl.monitor.detectors.splits import Splits, best_splits
from jsrl.monitor.detectors.window import Window, names_of_actors, pooled

Cell = tuple[str, str, int]
"""A layer, who acted, and a time bin."""


class PooledWindows:
    """Both sides in one, thinned, with their episodes numbered: those of the reference first.

    Args:
        reference: the episodes that are trusted.
        current: the episodes that are tested.
        settings: how episodes are thinned and divided by time.
        fit: whether some detector fits a model. Every second episode of the reference is for it:
            these stay on the side of the reference in every split, so that the others and the
            episodes that are tested are alike where nothing is wrong.

    Raises:
        UserError: if both sides have layers of other names or sizes, or the reference has too few
            episodes to fit a model.
    """

    def __init__(
        self, reference: Window, current: Window, settings: DetectorSettings, *, fit: bool = False
    ) -> None:
        self.settings = settings
        self.sides = tuple(side.thinned(settings.rows_per_episode) for side in (reference, current))
        first, self.current = self.sides
        numbered = [np.unique(side.episode.numpy(), return_inverse=True) for side in self.sides]
        self.first, self.second = (len(names) for names, _ in numbered)
        blocks = np.concatenate([numbered[0][1], numbered[1][1] + self.first])
        self.blocks = torch.from_numpy(blocks.reshape(-1).astype(np.int64))
        both = pooled(first, self.current, self._layers())
        self.window = replace(both, episode=self.blocks)
        self.is_fitted = torch.zeros(self.count, dtype=torch.bool)
        if fit:
            if self.first < 4:
                raise UserError(
                    f"the reference has {self.first} episodes; a detector that fits a model needs "
                    "at least 4, of which it takes every second: record more"
                )
            self.is_fitted[: self.first : 2] = True
        self.comparable = False
        self.cells: dict[tuple[str, int], Tensor] = {}
        self._divide()

    @property
    def count(self) -> int:
        """How many episodes there are on both sides."""
        return self.first + self.second

    def splits(self, permutations: int, generator: torch.Generator) -> Splits:
        """The observed split of all episodes and others, in which those that are fitted stay."""
        movable = (~self.is_fitted).nonzero()[:, 0]
        drawn = best_splits(len(movable) - self.second, self.second, permutations, generator)
        if len(movable) == self.count:
            return drawn
        sides = drawn.first_side.new_ones(self.count, drawn.first_side.shape[1])
        sides[movable] = drawn.first_side
        return Splits(sides, drawn.exhaustive)

    def each_alone(self) -> Splits:
        """Instead of splits, every single episode against all others, in the episodes' order."""
        return Splits(1 - torch.eye(self.count, dtype=torch.float64), exhaustive=False)

    def to_fit(self) -> Window:
        """The episodes on which models are fitted, or all where none are set apart."""
        kept = self.is_fitted if bool(self.is_fitted.any()) else ~self.is_fitted
        return self.window.take(kept[self.blocks].nonzero()[:, 0].numpy())

    def episode_means(self, values: Float[Tensor, "K N"]) -> Float[Tensor, "K B"]:
        """The mean over the samples of each episode, all of which have some."""
        sums = values.new_zeros(len(values), self.count).index_add_(1, self.blocks, values)
        return sums / torch.bincount(self.blocks, minlength=self.count)

    def cell_of_current(self, actor: str, number: int) -> Int[Tensor, " M"]:
        """The places of a cell's samples among those that are tested."""
        where = self.cells[(actor, number)] - len(self.sides[0])
        return where[where >= 0]

    def of_actors(self) -> list[tuple[str, Int[Tensor, " M"]]]:
        """For each actor its name and the places of its samples."""
        actor = self.window.actor
        return [
            (
                name,
                torch.arange(len(self.window))
                if actor is None
                else (actor == number).nonzero()[:, 0],
            )
            for number, name in names_of_actors(self.window).items()
        ]

    def _layers(self) -> dict[str, Tensor]:
        first, second = self.sides
        if first.layers.keys() != second.layers.keys():
            raise UserError(
                f"the reference has layers {', '.join(first.layers)} and what is tested "
                f"{', '.join(second.layers)}; both have to be of one network"
            )
        found = {}
        for name, values in first.layers.items():
            other = second.layers[name]
            if values.shape[1:] != other.shape[1:]:
                raise UserError(
                    f"layer {name} has {tuple(values.shape[1:])} numbers in the reference and "
                    f"{tuple(other.shape[1:])} in what is tested; both have to be of one network"
                )
            found[name] = reduced(
                (values, other.to(values.device)),
                *(name, self.settings.projection_seed),
                standardise=name == INPUTS,
            )
        return found

    def _divide(self) -> None:
        """Find the cells, and whether any of them has two steps on both sides."""
        on_first: Bool[NDArray[np.bool_], " N"] = self.blocks.numpy() < self.first
        time = self.window.time
        times = np.zeros(len(self.window), np.int64) if time is None else time.numpy()
        bins = time_bin(times, self.settings.time_bins)
        for actor, places in self.of_actors():
            acted = np.zeros(len(bins), bool)
            acted[places.numpy()] = True
            for number in np.unique(bins):
                mask = acted & (bins == number)
                # Chosen by both sides together, so that cells do not depend on which is which.
                if mask.sum() >= 4:
                    fewest = min((mask & on_first).sum(), (mask & ~on_first).sum())
                    self.comparable |= bool(fewest >= 2)
                    self.cells[(actor, int(number))] = torch.from_numpy(np.flatnonzero(mask))


def time_bin(times: NDArray[np.int64], edges: Sequence[int]) -> NDArray[np.int64]:
    """The bin of each time, which is 0 before the first edge."""
    return np.searchsorted(np.asarray(edges, np.int64), times, side="right").astype(np.int64)
