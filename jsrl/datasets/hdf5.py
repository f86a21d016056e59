"""Opening an HDF5 file of data, and telling apart why it cannot be.

A file that another program holds open for writing, one without permission, a folder and a web page
saved under the file's name each have a way out of their own.
"""

import contextlib
import difflib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from jsrl.core.errors import UserError
from jsrl.datasets.validation import one_line

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUFFIXES = (".hdf5", ".h5")

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, 524)
"""What file systems answer that have no locks; 524 is the Linux kernel's for NFS."""


def is_file_name(path: str) -> bool:
    """Whether a path is meant as a file rather than as the name of a D4RL data set.

    No such name has a slash, begins with a tilde, or ends as HDF5 files do.
    """
    looks = path.endswith(SUFFIXES) or "/" in path or "\\" in path or path.startswith("~")
    return looks or Path(path).exists()


def parts_folder(path: Path) -> Path:
    """Where a collection that takes long keeps its parts until ``path`` is written."""
    return path.with_name(f"{path.name}.parts")


def require_file(path: str | Path, key: str) -> Path:
    """The path with its ``~`` expanded, if a file is there that could be HDF5.

    Args:
        path: as the user gave it.
        key: under which name.

    Raises:
        UserError: if nothing is there, or a folder, or an empty file, or one of another kind.
    """
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{key}={path}: the home folder is not known ({error}); write the whole path"
        ) from error
    try:
        _require_file(file, f"{key}={path}")
        with file.open("rb") as opened:
            start = opened.read(len(SIGNATURE))
    except OSError as error:
        raise UserError(
            f"{key}={path}: cannot be opened ({error.strerror}); a file that you may read was "
            "expected; change its permissions (chmod u+r), or copy it to a place of yours"
        ) from error
    # The signature may stand behind a block of the user's: h5py decides.
    if start != SIGNATURE and not h5py.is_hdf5(file):
        what = "is empty" if not start else "cannot be read as HDF5: it does not begin as one does"
        raise UserError(
            f"{key}={path}: {what}; expected a complete HDF5 file; it may be truncated, or a page "
            "that was saved in its place: fetch or make it again"
        )
    return file


def _require_file(file: Path, given: str) -> None:
    if file.is_dir():
        raise UserError(
            f"{given}: is a folder; expected an HDF5 file; name the file in it"
            f"{_files_in(file)} (a Minari data set is read by dataset=minari dataset.path=ID)"
        )
    if file.exists():
        return
    parts = parts_folder(file)
    if parts.is_dir():
        raise UserError(
            f"{given}: half collected; {parts} holds what there is: repeat the jsrl dataset "
            "command that began it, and it goes on from there"
        )
    raise UserError(
        f"{given}: no such file{_nearest(file)}; expected an HDF5 file in D4RL's or robomimic's "
        "layout; check the path, or collect the data (jsrl dataset) or download them first"
    )


def _files_in(folder: Path) -> str:
    found = sorted(entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES)
    return f", for example {found[0]}" if found else ""


def _nearest(file: Path) -> str:
    with contextlib.suppress(OSError):
        names = [entry.name for entry in file.parent.iterdir() if entry.is_file()]
        near = difflib.get_close_matches(file.name, names, n=1, cutoff=0.6)
        if near:
            return f" (did you mean {file.with_name(near[0])}?)"
    return ""


@contextlib.contextmanager
def opened(path: str | Path, key: str) -> Iterator[Any]:
    """An HDF5 file for reading, an ``h5py.File``.

    Args:
        path: of the file; ``~`` is the home folder.
        key: under which name the user gave it.

    Raises:
        UserError: if it cannot be opened, or breaks while it is read.
    """
    file = require_file(path, key)
    try:
        with h5py.File(file, "r") as stored:
            yield stored
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{key}={path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What HDF5 means, and the way out."""
    text = one_line(error)
    number = error.errno if isinstance(error, OSError) else None
    unlocked = "HDF5_USE_FILE_LOCKING=FALSE before the command reads it without a lock"
    if isinstance(error, BlockingIOError) or "file is already open" in text.lower():
        return (
            "another program has it open for writing; it is read once that program has closed it; "
            f"if none has any more, {unlocked}"
        )
    if "unable to lock file" in text or number in NO_LOCKS:
        return f"it cannot be locked, perhaps since its file system has no locks; {unlocked}"
    if "h5clear" in text or "consistency flags" in text:
        return (
            "it is marked as open for writing, by a program that writes to it or died while it "
            "did; wait for the one, or run h5clear -s on a copy of the file"
        )
    if isinstance(error, PermissionError):
        return "you may not read it; change its permissions (chmod u+r), or copy it"
    return (
        f"cannot be read as HDF5 ({text}); expected a complete file; it may be truncated: fetch or "
        "make it again"
    )
