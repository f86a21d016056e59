"""From the name of data to the data: which reader, by kind and by what is there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jsrl.core.errors import UserError
from jsrl.datasets.d4rl import load_d4rl, load_hdf5
from jsrl.datasets.dataset import Dataset
from jsrl.datasets.hdf5 import SUFFIXES, is_file_name, require_file
from jsrl.datasets.minari import load_minari
from jsrl.datasets.reading import PLAIN, Reading

NEEDS = {
    "d4rl": "a file or a D4RL name",
    "robomimic": "a file in robomimic's layout",
    "minari": "a Minari id",
}
"""The kinds that read what ``dataset.path`` names."""


def require_source(kind: str, path: str | None) -> None:
    """See that a file that is to be read is there, before anything takes time.

    Raises:
        UserError: if no path is given, or no file is there that could be HDF5.
    """
    if kind not in NEEDS:
        return
    if not path:
        raise UserError(f"dataset.path is not set; dataset={kind} needs {NEEDS[kind]} there")
    if kind == "robomimic" or (kind == "d4rl" and is_file_name(path)):
        require_file(path, "dataset.path")
    if kind == "minari" and (Path(path).expanduser().is_file() or path.startswith(("~", "/"))):
        raise UserError(
            f"dataset.path={path} is a file's path; dataset=minari needs an id such as "
            "D4RL/pointmaze/umaze-v2; an HDF5 file is read by dataset=d4rl"
        )


def load_dataset(
    kind: str, path: str, reading: Reading = PLAIN, *, backend: str = "hdf5", **options: Any
) -> Dataset:
    """Read a file, a D4RL name or a Minari id.

    Args:
        kind: ``d4rl``, ``robomimic`` or ``minari``. The layout of a file is told by its contents,
            so that the first two read the same files.
        path: what to read.
        reading: how: see ``Reading``.
        backend: of D4RL names: see ``load_d4rl``.
        options: fields of ``Reading`` that differ from those in ``reading``.

    Raises:
        UserError: if it is not there, or cannot be read.
    """
    reading = replace(reading, **options)
    require_source(kind, path)
    if kind == "minari":
        return load_minari(path, reading=reading)
    if kind == "robomimic" or is_file_name(path):
        return load_hdf5(path, reading)
    return load_d4rl(path, reading, backend=backend)


def load_named(path: str, reading: Reading = PLAIN, *, key: str, **options: Any) -> Dataset:
    """Read whatever a path or name stands for, where no kind is given.

    A D4RL name has no slash, a Minari id has at least one, and a file is there or ends as HDF5
    files do.

    Args:
        path: what to read.
        reading: how: see ``Reading``.
        key: under which name the user gave the path.
        options: fields of ``Reading`` that differ from those in ``reading``.

    Raises:
        UserError: if it is not there, or cannot be read.
    """
    reading = replace(reading, **options)
    place = Path(path).expanduser() if path.startswith("~") else Path(path)
    if place.exists() or place.is_absolute() or path.endswith(SUFFIXES):
        return load_hdf5(path, reading, key=key)
    if "/" in path:
        return load_minari(path, reading=reading)
    return load_d4rl(path, reading)
