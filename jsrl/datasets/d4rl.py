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
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from tqdm import tqdm

from jsrl.core.conversions import is_unit_range
from jsrl.core.errors import UserError
from jsrl.core.files import replacing
from jsrl.core.specs import BoxActions
from jsrl.core.transitions import TransitionData
from jsrl.datasets.actions import ACTION_TOLERANCE
from jsrl.datasets.arrays import OPTIONAL_ARRAYS, REQUIRED_ARRAYS
from jsrl.datasets.d4rl_files import D4RL_FILES, DEFAULT_SERVER
from jsrl.datasets.dataset import Dataset, make_dataset
from jsrl.datasets.hdf5 import opened
from jsrl.datasets.images import images_in, write_images
from jsrl.datasets.reading import ENVIRONMENT, NORMALISED, PLAIN, UNITS_ATTRIBUTE, Reading
from jsrl.datasets.robomimic import is_robomimic, read_robomimic
from jsrl.datasets.validation import dataset_error, one_line

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
SHOWN_NAMES = 6

OLD_ATTRIBUTES = ("proportional_gain", "longest_walk", "end_on_success")
"""One of them, beside ``env_id`` and ``seed``, is in every file that this package collected before
its files said what their actions are in."""


def load_hdf5(
    path: str | Path, reading: Reading = PLAIN, *, key: str = "dataset.path", **options: Any
) -> Dataset:
    """Read an HDF5 file, in D4RL's layout or in robomimic's: its contents tell which.

    Args:
        path: the file; ``~`` is the home folder.
        reading: how: see ``Reading``. A file of this package says itself that its actions are in
            [-1, 1]; any other is taken to hold what ``env.step`` took.
        key: under which name the user gave the path; error messages say it.
        options: fields of ``Reading`` that differ from those in ``reading``.

    Raises:
        UserError: if the file is missing, locked, truncated or not HDF5, in neither layout, or if
            its arrays do not pass ``make_dataset``.
    """
    reading = replace(reading, **options)
    with opened(path, key) as file:
        if is_robomimic(file):
            arrays, lines, source = read_robomimic(file, reading, str(path))
        else:
            arrays, lines, source = _d4rl_arrays(file, key, path), (), str(path)
            _refuse_robomimic_keys(reading, str(path))
        units, line = _units(file.attrs, reading, source)
    dataset = make_dataset(arrays, source, reading, action_units=units)
    return replace(dataset, lines=(*lines, *line, *dataset.lines))


def load_d4rl(
    name: str,
    reading: Reading = PLAIN,
    *,
    backend: str = "hdf5",
    directory: str | Path | None = None,
    download: bool = True,
    **options: Any,
) -> Dataset:
    """Read a dataset by its D4RL name, such as ``antmaze-umaze-v2``.

    Args:
        name: the name under which D4RL registers it.
        reading: how: see ``Reading``.
        backend: ``hdf5`` reads the file, downloading it once; ``d4rl`` uses the ``gym`` and
            ``d4rl`` packages, which look after their files themselves.
        directory: the folder of downloaded files; default ``$D4RL_DATASET_DIR``, else
            ``~/.d4rl/datasets``.
        download: whether a file that is not there may be downloaded.
        options: fields of ``Reading`` that differ from those in ``reading``.

    Raises:
        UserError: for an unknown name or back-end, a file that is neither there nor to be had,
            or data that do not pass ``make_dataset``.
    """
    if backend == "d4rl":
        return make_dataset(_ask_d4rl(name), f"{name} (package d4rl)", reading, **options)
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
    dataset = load_hdf5(path, reading, **options)
    source = f"{name} ({path})"
    return replace(dataset, source=source)


def save_hdf5(
    path: str | Path,
    data: TransitionData,
    infos: Mapping[str, np.ndarray],
    attributes: Mapping[str, bool | int | float | str],
    *,
    action_units: str = NORMALISED,
) -> None:
    """Write a file in D4RL's layout, complete or not at all.

    Equal arguments give equal bytes. The attribute ``action_units`` says what the actions are in.

    Args:
        path: the file; its folder is made if need be, a file already there is replaced.
        data: the transitions; ``next_observations`` are written too, so that ``load_hdf5`` gives
            back every transition.
        infos: further arrays of any shape, written under ``infos/``.
        attributes: what to remember about the file, such as the environment and the seed.
        action_units: ``normalised`` if actions are in [-1, 1], or choices from 0, as everything
            in the package has them, or ``environment`` if they are as ``env.step`` took them.

    Raises:
        UserError: if the actions are not in those units, or the file cannot be written; whatever
            was at ``path`` is still there.
    """
    chooses = data.actions.dtype.kind in "iu"
    largest = 0.0 if chooses else float(np.abs(data.actions).max(initial=0.0))
    if action_units not in (NORMALISED, ENVIRONMENT):
        raise UserError(
            f"dataset file {path}: action_units={action_units!r} is unknown; expected "
            f"{NORMALISED} or {ENVIRONMENT}"
        )
    if action_units == NORMALISED and largest > 1 + ACTION_TOLERANCE:
        raise UserError(
            f"dataset file {path}: actions reach {largest:.6g}, and [-1, 1] was expected; rescale "
            f"them, or give action_units={ENVIRONMENT!r} if they are as env.step took them"
        )
    # HDF5 cannot recover from a write that fails half-way, so the file is built in memory and
    # written in one go.
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        for name, array in data.arrays().items():
            file.create_dataset(name, data=array)
        if data.frames is not None:
            write_images(file, data.frames)
        for name, array in infos.items():
            file.create_dataset(f"infos/{name}", data=array)
        file.attrs.update({**attributes, UNITS_ATTRIBUTE: action_units})
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


def _d4rl_arrays(file: Any, key: str, path: str | Path) -> dict[str, Any]:
    """The arrays that ``make_dataset`` knows, as far as the file holds them."""
    if not any(name in file for name in REQUIRED_ARRAYS):
        inside = ", ".join(sorted(file)[:SHOWN_NAMES]) or "nothing"
        minari = any(name.startswith("episode_") for name in file)
        hint = "it is a part of a Minari data set: dataset=minari dataset.path=ID reads that"
        raise UserError(
            f"{key}={path}: {' and '.join(REQUIRED_ARRAYS)} not found, the file holds {inside}; "
            "expected D4RL's layout or robomimic's (data/demo_0/actions); "
            f"{hint if minari else 'choose another file, or add them'}"
        )
    arrays = {
        name: file[name][()]
        for name in REQUIRED_ARRAYS + OPTIONAL_ARRAYS
        if isinstance(file.get(name), h5py.Dataset)
    }
    return arrays | images_in(file)


def _units(
    attributes: Mapping[str, Any], reading: Reading, source: str
) -> tuple[str | None, tuple[str, ...]]:
    """The units of a file's actions, and a line if they are known without being written there."""
    if reading.action_units is not None:
        return reading.action_units, ()
    if UNITS_ATTRIBUTE in attributes:
        stored = attributes[UNITS_ATTRIBUTE]
        return stored.decode() if isinstance(stored, bytes) else str(stored), ()
    own = {"env_id", "seed"} <= set(attributes) and any(k in attributes for k in OLD_ATTRIBUTES)
    if not own:
        return None, ()
    spec = reading.spec
    discrete = spec is not None and not isinstance(spec.actions, BoxActions)
    if spec is None or discrete or is_unit_range(spec.box.low, spec.box.high):
        return NORMALISED, ()
    line = (
        f"dataset {source} was collected by an earlier version of jsrl, whose files do not say "
        "their units: its actions are in [-1, 1]"
    )
    return NORMALISED, (line,)


def _refuse_robomimic_keys(reading: Reading, source: str) -> None:
    for key, value in (("observation", reading.observation), ("mask", reading.mask)):
        if value is not None:
            raise dataset_error(
                source,
                f"dataset.{key}={value} chooses from a file in robomimic's layout, and this one is "
                f"in D4RL's; leave out dataset.{key}",
            )


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
