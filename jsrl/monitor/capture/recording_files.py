"""The files of a recording: some thousand steps each, and a manifest that says what they are of.

A file is either whole or not there, so that a crash loses what was not yet written and nothing
else.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.files import read_json_record

MANIFEST = "recording.json"
LAYERS = "layers"
CHUNK = re.compile(r"chunk-\d+\.hdf5")


def chunk_path(folder: Path, number: int) -> Path:
    """The path of a recording's file with this number."""
    return folder / f"chunk-{number:08d}.hdf5"


def chunk_paths(folder: Path) -> list[Path]:
    """The files of a recording, the oldest first."""
    return sorted(path for path in folder.glob("chunk-*.hdf5") if CHUNK.fullmatch(path.name))


def chunk_number(path: Path) -> int:
    """The number in the name of a recording's file."""
    return int(path.stem.removeprefix("chunk-"))


def read_chunk(path: Path, name: str) -> NDArray[Any]:
    """One array of a recording's file.

    Raises:
        UserError: if the file is damaged or has no such array.
    """
    try:
        with h5py.File(path, "r") as file:
            values: NDArray[Any] = file[name][()]
            return values
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: {name} cannot be read ({error}); remove the file to go on without its steps"
        ) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a recording is of: the size of each layer, the interval, and whether it is complete.

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
    """Refuse a recording of a network that has not these layers of these sizes.

    Raises:
        UserError: if the layers or their sizes differ.
    """
    recorded = dict(manifest["layers"])
    if recorded != dict(sizes):
        raise UserError(
            f"{folder} is a recording of another network: its layers are {listed(recorded)}, "
            f"those of this policy {listed(sizes)}"
        )


def listed(sizes: Mapping[str, int]) -> str:
    """The names of layers with their sizes, for a message."""
    return ", ".join(f"{name} ({size})" for name, size in sizes.items())
