"""Recordings on disk: rows and activations in files of some thousand rows each.

A file is whole or not there, so that a crash loses what was not yet written and nothing else. A
folder of them is read back by ``Recording``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.errors import UserError
from jsrl.files import read_json_record, replacing, write_whole
from jsrl.monitor.rows import PHASES, Rows, concatenate, phase_of_episode

MANIFEST = "recording.json"
CHUNK = re.compile(r"chunk-\d+\.hdf5")
LAYERS = "layers"
COLUMNS = tuple(f.name for f in fields(Rows))

Activations = Mapping[str, Float[NDArray[np.float32], "N _"]]


@dataclass(frozen=True)
class LayerRecord:
    """What a layer said in N steps, and which steps these were."""

    values: Float[NDArray[np.float32], "N D"]
    rows: Rows


class RecordingWriter:
    """Writes a recording, at most ``chunk_rows`` rows of it in memory.

    Args:
        folder: of the recording; made if need be.
        sizes: of each layer.
        chunk_rows: rows of a file.
        chunks: so many files are kept, the newest; None keeps all.
        interval: steps between two that are recorded.

    Raises:
        UserError: if the folder cannot be written, or holds a recording of another network.
    """

    def __init__(
        self,
        folder: Path,
        sizes: Mapping[str, int],
        chunk_rows: int = 4096,
        chunks: int | None = 64,
        *,
        interval: int = 1,
    ) -> None:
        self.folder = folder
        self.sizes = dict(sizes)
        self._interval = interval
        self._chunk_rows = chunk_rows
        self._keep = chunks
        self._rows: list[Rows] = []
        self._activations: list[dict[str, NDArray[np.float32]]] = []
        self._pending = 0
        self._next = 1 + max((chunk_number(path) for path in chunk_paths(folder)), default=-1)
        if (folder / MANIFEST).exists():
            require_same_network(read_manifest(folder), self.sizes, folder)
        else:
            self._write_manifest(complete=False)
        self._complete = False

    def add(self, rows: Rows, activations: Activations) -> None:
        """Add rows; full files are written.

        Raises:
            UserError: if a file cannot be written.
        """
        if self._complete:
            self._write_manifest(complete=False)
        self._rows.append(rows)
        self._activations.append(dict(activations))
        self._pending += len(rows)
        if self._pending >= self._chunk_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory, as a file that may be shorter."""
        if self._pending == 0:
            return
        path = self.folder / f"chunk-{self._next:08d}.hdf5"
        rows = concatenate(self._rows)
        try:
            with replacing(path) as beside, h5py.File(beside, "w") as file:
                for name in COLUMNS:
                    file.create_dataset(name, data=getattr(rows, name))
                for name in self.sizes:
                    values = np.concatenate([part[name] for part in self._activations])
                    file.create_dataset(f"{LAYERS}/{name}", data=values)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror or error}; make room, then run the "
                "same command again"
            ) from error
        self._next += 1
        self._rows, self._activations, self._pending = [], [], 0
        for old in chunk_paths(self.folder)[: -self._keep] if self._keep else ():
            old.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what was recorded, by an earlier start of the same."""
        self.load_state_dict({"next": 0})
        self._write_manifest(complete=False)

    def complete(self) -> None:
        """Write what is in memory, and that every episode is there to its end."""
        self.flush()
        self._write_manifest(complete=True)

    def _write_manifest(self, *, complete: bool) -> None:
        manifest = {
            "layers": self.sizes,
            "phases": list(PHASES),
            "interval": self._interval,
            "complete": complete,
        }
        text = json.dumps(manifest, indent=1)
        write_whole(self.folder / MANIFEST, f"{text}\n".encode())
        self._complete = complete

    def state_dict(self) -> dict[str, Any]:
        """What is not written yet, and which file comes next."""
        found: dict[str, Any] = {"next": self._next}
        if self._pending:
            rows = concatenate(self._rows)
            found["rows"] = rows_state(rows)
            found["activations"] = {
                name: torch.from_numpy(np.concatenate([part[name] for part in self._activations]))
                for name in self.sizes
            }
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: files that were written later are removed, and come again."""
        self._next = state["next"]
        for path in chunk_paths(self.folder):
            if chunk_number(path) >= self._next:
                path.unlink()
        self._rows, self._activations, self._pending = [], [], 0
        if "rows" in state:
            rows = rows_from(state["rows"])
            self._rows, self._pending = [rows], len(rows)
            self._activations = [{n: v.numpy() for n, v in state["activations"].items()}]


class Recording:
    """A recording, as it is on disk now: it may still grow.

    Args:
        folder: of the recording.

    Raises:
        UserError: if the folder holds none, or a file of it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        self.sizes: dict[str, int] = dict(manifest["layers"])
        self.interval = int(manifest["interval"])
        self._complete = bool(manifest["complete"])
        self._paths = chunk_paths(folder)
        if not self._paths:
            raise UserError(f"{folder} holds a recording without a single row: nothing to look at")

    def rows(
        self, phase: str | None = None, stage: int | None = None, seed: int | None = None
    ) -> Rows:
        """The rows of a phase, a stage and a seed; None takes all."""
        _check_phase(phase)
        parts = []
        for path in self._there():
            rows = self._read_rows(path)
            parts.append(rows.take(rows.where(phase, stage, seed)))
        return concatenate(parts)

    def layer(
        self,
        name: str,
        phase: str | None = None,
        stage: int | None = None,
        seed: int | None = None,
    ) -> LayerRecord:
        """What a layer said, with its rows.

        Raises:
            UserError: if there is no such layer or phase.
        """
        if name not in self.sizes:
            raise UserError(f"{self.folder} has no layer {name!r}; it has {', '.join(self.sizes)}")
        _check_phase(phase)
        rows, values = [], []
        for path in self._there():
            of_file = self._read_rows(path)
            mask = of_file.where(phase, stage, seed)
            rows.append(of_file.take(mask))
            values.append(_read(path, f"{LAYERS}/{name}")[mask])
        return LayerRecord(np.concatenate(values), concatenate(rows))

    def episodes(self, phase: str | None = None, seed: int | None = None) -> list[Rows]:
        """The episodes that are there from beginning to end, in the order of their numbers.

        Every environment has a row at each step that is recorded. So the episodes at the last such
        step of a seed and phase may still be under way, while a recording grows and where it ends
        in the middle: they are left out, and those that began after them, since of these the short
        ones ended first. Once files were removed, those at the first step have lost their
        beginning.
        """
        groups: dict[tuple[int, int], list[Rows]] = {}
        for rows in self.rows(phase, seed=seed).episodes():
            key = int(rows.seed[0]), int(phase_of_episode(rows.phase)[0])
            groups.setdefault(key, []).append(rows)
        return [rows for own in groups.values() for rows in self._whole(own)]

    def _whole(self, episodes: list[Rows]) -> list[Rows]:
        """Those of one seed and phase that are not cut short."""
        first = min(int(rows.step[0]) for rows in episodes)
        last = max(int(rows.step[-1]) for rows in episodes)
        if not self._complete:
            under_way = min(int(r.episode[0]) for r in episodes if r.step[-1] == last)
            episodes = [rows for rows in episodes if rows.episode[0] < under_way]
        if chunk_number(self._paths[0]) > 0:
            episodes = [rows for rows in episodes if rows.step[0] > first]
        return episodes

    def _there(self) -> list[Path]:
        """The files, less those that whoever records has removed since."""
        return [path for path in self._paths if path.exists()]

    def _read_rows(self, path: Path) -> Rows:
        return Rows(**{name: _read(path, name) for name in COLUMNS})


def as_arrays(activations: Mapping[str, Tensor]) -> Activations:
    """What layers say, as a writer takes it."""
    return {name: values.cpu().numpy() for name, values in activations.items()}


def chunk_paths(folder: Path) -> list[Path]:
    """The files of a recording, oldest first."""
    return sorted(path for path in folder.glob("chunk-*.hdf5") if CHUNK.fullmatch(path.name))


def chunk_number(path: Path) -> int:
    """The number in a file's name."""
    return int(path.stem.removeprefix("chunk-"))


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a recording is of.

    Raises:
        UserError: if the folder holds no recording.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise UserError(f"{folder} is no recording: it has no {MANIFEST}")
    keys = {"layers", "interval", "complete"}
    manifest = read_json_record(path, keys, "the description of a recording", "it written anew")
    layers = manifest["layers"]
    if not isinstance(layers, dict) or not all(isinstance(n, int) for n in layers.values()):
        raise UserError(f"{path}: layers are {layers!r}, expected the size of each; restore it")
    return manifest


def require_same_network(
    manifest: Mapping[str, Any], sizes: Mapping[str, int], folder: Path
) -> None:
    """See that a recording is of a network with these layers.

    Raises:
        UserError: if not.
    """
    recorded = dict(manifest["layers"])
    if recorded != dict(sizes):
        raise UserError(
            f"{folder} is a recording of another network: its layers are {_listed(recorded)}, "
            f"those of this policy {_listed(sizes)}"
        )


def rows_state(rows: Rows) -> dict[str, Tensor]:
    """Rows as tensors, for a checkpoint."""
    return {name: torch.from_numpy(getattr(rows, name).copy()) for name in COLUMNS}


def rows_from(state: Mapping[str, Tensor]) -> Rows:
    """Rows from a checkpoint."""
    return Rows(**{name: state[name].numpy() for name in COLUMNS})


def _read(path: Path, name: str) -> NDArray[Any]:
    try:
        with h5py.File(path, "r") as file:
            values: NDArray[Any] = file[name][()]
            return values
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: {name} cannot be read ({error}); remove the file to go on without its rows"
        ) from error


def _check_phase(phase: str | None) -> None:
    if phase is not None and phase not in PHASES:
        raise UserError(f"phase={phase!r} is none of {', '.join(PHASES)}")


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({size})" for name, size in sizes.items())
