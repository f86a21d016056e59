"""Both sides of a test in one sample, divided into cells of the same actor and time."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.monitor.capture.layers import INPUTS
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import ACTORS
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.kernels import gaussian_kernel_of_sparse, sum_over_blocks
from jsrl.monitor.detectors.margins import margins_of_episodes

Cell = tuple[str, str, int]
"""A layer, who acted, and a time bin."""


class PooledSamples:
    """Both sides in one, thinned, with their episodes numbered: those of the reference first.

    Args:
        reference: the episodes that are trusted.
        current: the episodes that are tested.
        settings: how episodes are thinned and divided by time.
    """

    def __init__(self, reference: Sample, current: Sample, settings: DetectorSettings) -> None:
        sides = [
            side.thinned_in_each_episode(settings.rows_per_episode) for side in (reference, current)
        ]
        numbered = [np.unique(side.steps.episode, return_inverse=True) for side in sides]
        self.first, self.second = (len(names) for names, _ in numbered)
        blocks = np.concatenate([numbered[0][1], numbered[1][1] + self.first])
        self.blocks = torch.from_numpy(blocks.reshape(-1).astype(np.int64))
        self.activations = {
            name: torch.cat([side.activations[name] for side in sides])
            for name in sides[0].activations
        }
        self.actors = np.concatenate([side.steps.actor for side in sides])
        times = np.concatenate([side.steps.time for side in sides])
        self.observations = torch.from_numpy(np.concatenate([s.steps.observations for s in sides]))
        self.actions = torch.from_numpy(np.concatenate([side.steps.actions for side in sides]))
        self._margins = settings.margins
        self.comparable = False
        self.cells: dict[tuple[str, int], Tensor] = {}
        self._divide(time_bin(times, settings.time_bins))

    def _divide(self, bins: NDArray[np.int64]) -> None:
        """Find the cells, and whether any of them has two steps on both sides."""
        on_first = self.blocks.numpy() < self.first
        for actor in np.unique(self.actors):
            for number in np.unique(bins):
                mask = (self.actors == actor) & (bins == number)
                # Chosen by both sides together, so that cells do not depend on which is which.
                if mask.sum() >= 4:
                    fewest = min((mask & on_first).sum(), (mask & ~on_first).sum())
                    self.comparable |= bool(fewest >= 2)
                    where = torch.from_numpy(np.flatnonzero(mask))
                    self.cells[(ACTORS[actor], int(number))] = where

    def kernels(self) -> tuple[list[Cell], list[Tensor], list[Tensor]]:
        """For each cell its kernel, summed over pairs of episodes, and its steps of each episode.

        Returns:
            The cells, their summed kernels ``[B, B]`` and their numbers of steps ``[B]``.
        """
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
        """What every column does in every episode, for each actor.

        Returns:
            The column, the actor and the kind of each of K margins, and their values.
        """
        names: list[tuple[int, str, str]] = []
        features = []
        for actor in np.unique(self.actors):
            where = torch.from_numpy(np.flatnonzero(self.actors == actor))
            found = margins_of_episodes(
                *(self.observations[where], self.blocks[where], self.first + self.second),
                self._margins,
            )
            for kind, values in found.items():
                names += [(column, ACTORS[actor], kind) for column in range(len(values))]
                features.append(values)
        none = torch.zeros(0, self.first + self.second, dtype=torch.float64)
        return names, torch.cat([none, *features])

    def tested_activations(self, cell: Cell) -> Float[Tensor, "N _"]:
        """A layer's activations in a cell, in the episodes that are tested."""
        name, actor, number = cell
        where = self.cells[(actor, number)]
        where = where[self.blocks[where] >= self.first]
        values = self.activations[name]
        return values[where.to(values.device)]


def time_bin(times: NDArray[np.int64], edges: Sequence[int]) -> NDArray[np.int64]:
    """The bin of each time, which is 0 before the first edge."""
    return np.searchsorted(np.asarray(edges, np.int64), times, side="right").astype(np.int64)


def standardised(samples: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Every column in units of its standard deviation, since inputs come in units of their own."""
    # In float64 squares do not overflow, and the mean of equal numbers is not rounded.
    values = samples.double()
    spread = values.std(0) if len(values) > 1 else torch.zeros_like(values[0])
    z = (values - values.mean(0)) / torch.where(spread > 0, spread, 1.0)
    return z.to(samples.dtype)
