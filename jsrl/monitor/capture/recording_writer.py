"""Writes a recording: watched steps and the activations in them, file after file."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.files import replacing, write_whole
from jsrl.monitor.capture.recording_files import (
    LAYERS,
    MANIFEST,
    chunk_number,
    chunk_path,
    chunk_paths,
    listed,
    read_manifest,
    require_same_network,
)
from jsrl.monitor.capture.steps import FIELDS, PHASES, WatchedSteps

Activations = Mapping[str, Float[NDArray[np.float32], "N _"]]


class RecordingWriter:
    """Writes a recording and holds at most ``chunk_rows`` steps of it in memory.

    Args:
        folder: the folder of the recording, which is made if it is not there.
        sizes: the size of each layer.
        chunk_rows: how many steps a file holds.
        chunks: how many files are kept, the newest ones; None keeps all of them.
        interval: the steps from one that is recorded to the next.

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
        self._steps: list[WatchedSteps] = []
        self._activations: list[dict[str, NDArray[np.float32]]] = []
        self._pending = 0
        self._next = 1 + max((chunk_number(path) for path in chunk_paths(folder)), default=-1)
        if (folder / MANIFEST).exists():
            require_same_network(read_manifest(folder), self.sizes, folder)
        else:
            self._write_manifest(complete=False)
        self._complete = False

    def add(self, steps: WatchedSteps, activations: Activations) -> None:
        """Add steps, and write a file once there are enough of them.

        Raises:
            UserError: if a layer is missing or of another size, or a file cannot be written.
        """
        sizes = {name: values.shape[1] for name, values in activations.items()}
        if any(sizes.get(name) != size for name, size in self.sizes.items()):
            raise UserError(
                f"{self.folder} is a recording of layers {listed(self.sizes)}; got {listed(sizes)}"
            )
        if self._complete:
            self._write_manifest(complete=False)
        # Files hold no images, which would fill the memory until then.
        self._steps.append(replace(steps, images={}))
        self._activations.append(dict(activations))
        self._pending += len(steps)
        if self._pending >= self._chunk_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory, as a file that may be shorter than the others.

        Raises:
            UserError: if the file cannot be written.
        """
        if self._pending == 0:
            return
        path = chunk_path(self.folder, self._next)
        try:
            with replacing(path) as beside, h5py.File(beside, "w") as file:
                for name, values in self._pending_arrays().items():
                    file.create_dataset(name, data=values)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror or error}; make room, then run the "
                "same command again"
            ) from error
        self._next += 1
        self._steps, self._activations, self._pending = [], [], 0
        for old in chunk_paths(self.folder)[: -self._keep] if self._keep else ():
            old.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what an earlier start of the same run has recorded."""
        self.load_state_dict({"next": 0})
        self._write_manifest(complete=False)

    def complete(self) -> None:
        """Write what is in memory, and note that every episode is there to its end."""
        self.flush()
        self._write_manifest(complete=True)

    def state_dict(self) -> dict[str, Any]:
        """The steps that are not written yet, and the number of the next file."""
        found: dict[str, Any] = {"next": self._next}
        if self._pending:
            found["rows"] = WatchedSteps.concatenate(self._steps).state_dict()
            found["activations"] = {
                name: torch.from_numpy(values)
                for name, values in self._pending_activations().items()
            }
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; files that were written after it are removed and come again."""
        self._next = state["next"]
        for path in chunk_paths(self.folder):
            if chunk_number(path) >= self._next:
                path.unlink()
        self._steps, self._activations, self._pending = [], [], 0
        if "rows" in state:
            steps = WatchedSteps.from_state_dict(state["rows"])
            self._steps, self._pending = [steps], len(steps)
            self._activations = [{n: v.numpy() for n, v in state["activations"].items()}]

    def _pending_arrays(self) -> dict[str, NDArray[Any]]:
        """What the next file holds, by its names there."""
        steps = WatchedSteps.concatenate(self._steps)
        arrays: dict[str, NDArray[Any]] = {name: getattr(steps, name) for name in FIELDS}
        layers = self._pending_activations()
        return arrays | {f"{LAYERS}/{name}": values for name, values in layers.items()}

    def _pending_activations(self) -> dict[str, NDArray[np.float32]]:
        return {
            name: np.concatenate([part[name] for part in self._activations]) for name in self.sizes
        }

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
