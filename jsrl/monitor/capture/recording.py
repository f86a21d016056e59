"""Reads a recording back from its folder."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.monitor.capture.recording_files import (
    LAYERS,
    chunk_number,
    chunk_paths,
    read_chunk,
    read_manifest,
)
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import FIELDS, PHASES, WatchedSteps, phase_of_episode


@dataclass(frozen=True)
class LayerRecord:
    """The activations of a layer in N steps, and these steps."""

    values: Float[NDArray[np.float32], "N D"]
    steps: WatchedSteps


class Recording:
    """A recording, as it is on disk now: it may still grow.

    Args:
        folder: the folder of the recording.

    Raises:
        UserError: if the folder holds no recording, or a file of it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        self.sizes: dict[str, int] = dict(manifest["layers"])
        self.interval = int(manifest["interval"])
        self.complete = bool(manifest["complete"])
        self._paths = chunk_paths(folder)
        if not self._paths:
            raise UserError(f"{folder} holds a recording without a single step: nothing to look at")

    def steps(
        self, phase: str | None = None, stage: int | None = None, seed: int | None = None
    ) -> WatchedSteps:
        """The steps of a phase, a stage and a seed, each of which may be None for all.

        Raises:
            UserError: if there is no such phase.
        """
        return self._read((), phase, stage, seed).steps

    def layer(
        self,
        name: str,
        phase: str | None = None,
        stage: int | None = None,
        seed: int | None = None,
    ) -> LayerRecord:
        """The activations of a layer, with the steps in which it had them.

        Raises:
            UserError: if there is no such layer or phase.
        """
        found = self._read((name,), phase, stage, seed)
        return LayerRecord(found.activations[name].numpy(), found.steps)

    def episodes(self, phase: str | None = None, seed: int | None = None) -> list[WatchedSteps]:
        """The steps of the episodes that are there from beginning to end; see ``samples``."""
        return [sample.steps for sample in self.samples((), phase, seed)]

    def samples(
        self, layers: Collection[str], phase: str | None = None, seed: int | None = None
    ) -> list[Sample]:
        """The episodes that are there from beginning to end, in the order of their numbers.

        At each step that is recorded, every environment is recorded. So the episodes at the last
        such step of a seed and phase may still be under way, both while a recording grows and where
        it ends in the middle of episodes. They are left out, and so are those that began after
        them, since the short ones among these ended first. Once files were removed, the episodes at
        the first step have lost their beginning and are left out as well.

        Args:
            layers: the layers whose activations are read.
            phase: which phase is read; None reads all.
            seed: which seed is read; None reads all.

        Raises:
            UserError: if there is no such layer or phase.
        """
        groups: dict[tuple[int, int], list[Sample]] = {}
        everything = self._read(layers, phase, None, seed)
        for places in everything.steps.places_of_episodes():
            episode = everything.take(places)
            steps = episode.steps
            key = int(steps.seed[0]), int(phase_of_episode(steps.phase)[0])
            groups.setdefault(key, []).append(episode)
        return [episode for own in groups.values() for episode in self._whole_episodes(own)]

    def _whole_episodes(self, episodes: list[Sample]) -> list[Sample]:
        """Those episodes of one seed and phase that are not cut short."""
        first = min(int(e.steps.step[0]) for e in episodes)
        last = max(int(e.steps.step[-1]) for e in episodes)
        if not self.complete:
            under_way = min(int(e.steps.episode[0]) for e in episodes if e.steps.step[-1] == last)
            episodes = [e for e in episodes if e.steps.episode[0] < under_way]
        if chunk_number(self._paths[0]) > 0:
            episodes = [e for e in episodes if e.steps.step[0] > first]
        return episodes

    def _read(
        self, layers: Collection[str], phase: str | None, stage: int | None, seed: int | None
    ) -> Sample:
        """The steps of a phase, a stage and a seed, and the activations of some layers in them."""
        for name in layers:
            if name not in self.sizes:
                raise UserError(
                    f"{self.folder} has no layer {name!r}; it has {', '.join(self.sizes)}: choose "
                    "among these"
                )
        _require_phase(phase)
        parts = []
        for path in self._present_paths():
            steps = _read_steps(path)
            mask = steps.where(phase, stage, seed)
            read = {name: read_chunk(path, f"{LAYERS}/{name}")[mask] for name in layers}
            activations = {name: torch.from_numpy(values) for name, values in read.items()}
            parts.append(Sample(steps.take(mask), activations))
        return Sample.concatenate(parts)

    def _present_paths(self) -> list[Path]:
        """The files, except those that whoever records has removed since."""
        return [path for path in self._paths if path.exists()]


def _read_steps(path: Path) -> WatchedSteps:
    fields: dict[str, Any] = {name: read_chunk(path, name) for name in FIELDS}
    return WatchedSteps(**fields)


def _require_phase(phase: str | None) -> None:
    if phase is not None and phase not in PHASES:
        raise UserError(f"phase={phase!r} is none of {', '.join(PHASES)}")
