"""Datasets in D4RL's HDF5 layout: read, find by name, download, write.

A D4RL file holds the arrays ``observations``, ``actions``, ``rewards``, ``terminals``, mostly
``timeouts``, sometimes ``next_observations``, and anything else under ``infos/``
(Fu et al., 2020, arXiv 2004.07219).

Why files and not the ``d4rl`` package: it needs ``gym`` and ``mujoco-py``, which cannot be
installed beside current Gymnasium. What training needs of it is in the files, so they are read
directly; that is the default, ``backend="hdf5"``. Where ``gym`` and ``d4rl`` do import,
``backend="d4rl"`` asks them instead.

Environment variables:
    D4RL_DATASET_DIR: the folder of downloaded files, as for D4RL; default ``~/.d4rl/datasets``.
    JSRL_D4RL_MIRROR: a server folder to download from, in place of D4RL's own
        (``http://rail.eecs.berkeley.edu/datasets/offline_rl``); paths below it are the same.
"""

import difflib
import http.client
import importlib
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from tqdm import tqdm

from jsrl.datasets.d4rl_files import D4RL_FILES, DEFAULT_SERVER
from jsrl.datasets.dataset import OPTIONAL_ARRAYS, REQUIRED_ARRAYS, Dataset, make_dataset
from jsrl.datasets.validation import ActionBound, one_line
from jsrl.errors import UserError
from jsrl.files import replacing
from jsrl.types import TransitionData

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0


def load_hdf5(
    path: str | Path,
    *,
    action_low: ActionBound | None = None,
    action_high: ActionBound | None = None,
    clip_actions: bool = False,
    key: str = "dataset.path",
) -> Dataset:
    """Read a file in D4RL's HDF5 layout.

    Args:
        path: the file.
        action_low: the environment's lower action bounds, if the file's actions are on its scale
            and not in [-1, 1], where D4RL's own are.
        action_high: the upper ones.
        clip_actions: clip actions outside the bounds instead of refusing them, where the
            environment did so too: the raw human demonstrations of the Adroit tasks need it.
        key: under which name the user gave the path; error messages say it.

    Raises:
        UserError: if the file is missing, truncated or not HDF5, or if its arrays do not pass
            ``make_dataset``.
    """
    arrays = _read_arrays(Path(path), key)
    return make_dataset(
        arrays,
        str(path),
        action_low=action_low,
        action_high=action_high,
        clip_actions=clip_actions,
    )


def load_d4rl(
    name: str,
    *,
    backend: str = "hdf5",
    directory: str | Path | None = None,
    download: bool = True,
) -> Dataset:
    """Read a dataset by its D4RL name, such as ``antmaze-umaze-v2``.

    Args:
        name: the name under which D4RL registers it.
        backend: ``hdf5`` reads the file, downloading it once; ``d4rl`` uses the ``gym`` and
            ``d4rl`` packages, which look after their files themselves.
        directory: the folder of downloaded files; default ``$D4RL_DATASET_DIR``, else
            ``~/.d4rl/datasets``.
        download: whether a file that is not there may be downloaded.

    Raises:
        UserError: for an unknown name or back-end, a file that is neither there nor to be had,
            or data that do not pass ``make_dataset``.
    """
    if backend == "d4rl":
        return make_dataset(_ask_d4rl(name), f"{name} (package d4rl)")
    if backend != "hdf5":
        raise UserError(
            f"D4RL back-end '{backend}' is unknown; expected hdf5 or d4rl; choose one of them"
        )
    if name not in D4RL_FILES:
        near = difflib.get_close_matches(name, D4RL_FILES, n=3, cutoff=0.5)
        raise UserError(
            f"D4RL dataset '{name}' is unknown; expected a name such as "
            f"{', '.join(near or ['antmaze-umaze-v2'])}; "
            "choose one, or give a file's path as dataset.path"
        )
    file = D4RL_FILES[name]
    folder = directory or os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets"
    path = Path(folder).expanduser() / Path(file).name
    if not path.exists():
        server = os.environ.get("JSRL_D4RL_MIRROR") or DEFAULT_SERVER
        url = f"{server.rstrip('/')}/{file}"
        if not download:
            raise UserError(
                f"D4RL dataset '{name}' is not at {path}; expected the file there, since "
                f"downloading is off; get {url} and put it there"
            )
        _download(name, url, path)
    return make_dataset(_read_arrays(path), f"{name} ({path})")


def save_hdf5(
    path: str | Path,
    data: TransitionData,
    infos: Mapping[str, np.ndarray],
    attributes: Mapping[str, bool | int | float | str],
) -> None:
    """Write a file in D4RL's layout, complete or not at all.

    Equal arguments give equal bytes.

    Args:
        path: the file; its folder is made if need be, a file already there is replaced.
        data: the transitions; ``next_observations`` are written too, so that ``load_hdf5`` gives
            back every transition.
        infos: further arrays of any shape, written under ``infos/``.
        attributes: what to remember about the file, such as the environment and the seed.

    Raises:
        UserError: if the file cannot be written; whatever was at ``path`` is still there.
    """
    # HDF5 cannot recover from a write that fails half-way, so the file is built in memory and
    # written in one go.
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        for field in fields(data):
            file.create_dataset(field.name, data=getattr(data, field.name))
        for name, array in infos.items():
            file.create_dataset(f"infos/{name}", data=array)
        file.attrs.update(attributes)
        file.flush()
        image = file.id.get_file_image()
    try:
        with replacing(Path(path)) as beside:
            beside.write_bytes(image)
    except OSError as error:
        raise UserError(
            f"dataset file {path} cannot be written ({one_line(error)}); expected a writable "
            f"folder with {len(image)} bytes free; make room or choose another path"
        ) from error


def parts_folder(path: Path) -> Path:
    """Where a collection that takes long keeps its parts until ``path`` is written."""
    return path.with_name(f"{path.name}.parts")


def _read_arrays(path: Path, key: str = "dataset.path") -> dict[str, np.ndarray]:
    """The arrays that ``make_dataset`` knows, as far as the file holds them."""
    parts = parts_folder(path)
    if not path.is_file() and parts.is_dir():
        raise UserError(
            f"{key}={path}: half collected; {parts} holds what there is: repeat the jsrl dataset "
            "command that began it, and it goes on from there"
        )
    if not path.is_file():
        raise UserError(
            f"{key}={path}: no such file; expected an HDF5 file in D4RL's layout; "
            "check the path, or collect the data (jsrl dataset) or download them first"
        )
    try:
        with h5py.File(path, "r") as file:
            return {
                name: file[name][()]
                for name in REQUIRED_ARRAYS + OPTIONAL_ARRAYS
                if isinstance(file.get(name), h5py.Dataset)
            }
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"{key}={path}: cannot be read as HDF5 ({one_line(error)}); expected a complete "
            "file in D4RL's layout; it may be truncated: fetch or make it again"
        ) from error


def _download(name: str, url: str, path: Path) -> None:
    """Fetch ``url`` to ``path``; nothing is left behind unless it came complete."""
    try:
        # The address is D4RL's, or one that the user chose.
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply:
            expected = reply.headers.get("Content-Length")
            with replacing(path) as beside:
                with beside.open("wb") as out:
                    received = _copy(reply, out, expected, path.name)
                if expected is not None and received != int(expected):
                    raise http.client.HTTPException(f"{received} of {expected} bytes arrived")
                if not h5py.is_hdf5(beside):
                    raise http.client.HTTPException("what arrived is not an HDF5 file")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(
            f"D4RL dataset '{name}' is not at {path} and cannot be downloaded from {url} "
            f"({one_line(error)}); get that file elsewhere and put it at {path}, or set "
            "D4RL_DATASET_DIR to its folder"
        ) from error


def _copy(reply: Any, out: BinaryIO, expected: str | None, title: str) -> int:
    """Copy a reply in pieces, with a progress bar on terminals; the number of bytes copied."""
    received = 0
    with tqdm(
        total=int(expected) if expected is not None else None,
        desc=title,
        unit="B",
        unit_scale=True,
        disable=None,
    ) as progress:
        while piece := reply.read(CHUNK_BYTES):
            out.write(piece)
            received += len(piece)
            progress.update(len(piece))
    return received


def _ask_d4rl(name: str) -> Mapping[str, Any]:
    """The arrays of ``gym.make(name).get_dataset()``; ``d4rl`` registers its names on import."""
    try:
        gym = importlib.import_module("gym")
        importlib.import_module("d4rl")
    # Their native parts fail in many ways, not only by ImportError.
    except Exception as error:
        raise UserError(
            f"D4RL dataset '{name}': the packages gym and d4rl cannot be imported "
            f"({one_line(error)}); expected both for backend d4rl; use backend hdf5, which needs "
            "neither"
        ) from error
    try:
        env = gym.make(name)
    except Exception as error:
        raise UserError(
            f"D4RL dataset '{name}': gym.make failed ({one_line(error)}); expected a name that "
            "d4rl registers; check the name, or use backend hdf5"
        ) from error
    try:
        arrays: Mapping[str, Any] = env.get_dataset()
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"D4RL dataset '{name}': get_dataset failed ({one_line(error)}); expected d4rl to find "
            "or download its file; check the network, or use backend hdf5"
        ) from error
    finally:
        env.close()
    return arrays
