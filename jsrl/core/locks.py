"""A folder held by one process at a time, by what the platform offers for it.

POSIX has ``flock``, Windows ``msvcrt.locking``: both let go when the process ends, however it ends.
Where there is neither, a file that names the process stands for the lock.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import IO, Self

from jsrl.core.errors import UserError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # not on Windows

try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]  # on Windows alone

LOCK, HOLDER = ".lock", ".lock.holder"


class FolderLock:
    """A folder that is held until ``close``, or the end of a ``with`` block.

    Args:
        file: the open lock file.
        holder: the file that names this process, if that is the lock.
    """

    def __init__(self, file: IO[str], holder: Path | None = None) -> None:
        self._file, self._holder = file, holder

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
        if self._holder is not None:
            self._holder.unlink(missing_ok=True)
            self._holder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock_folder(folder: Path) -> FolderLock | None:
    """Hold a folder, made if need be.

    Returns:
        None if another process, or another lock of this one, holds it.

    Raises:
        OSError: if it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("a")
    if fcntl is None and msvcrt is None:
        holder = folder / HOLDER
        if _name_holder(holder):
            return FolderLock(file, holder)
        file.close()
        return None
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        file.close()
        return None
    return FolderLock(file)


def hold_folder(folder: Path, other: str, choice: str) -> FolderLock:
    """Hold a folder, made if need be.

    Args:
        folder: where.
        other: what else may hold it, such as ``another grid``, for the message.
        choice: what is to be chosen then, such as ``another folder by runs=DIR``.

    Raises:
        UserError: if it cannot be made or written, or is held already.
    """
    try:
        lock = lock_folder(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; choose {choice}") from error
    if lock is None:
        raise UserError(f"{folder} is in use by {other}; wait for it, or choose {choice}")
    return lock


def _name_holder(path: Path) -> bool:
    """Make the file that names this process; False if one that still runs has made it before."""
    for _ in range(2):
        try:
            with path.open("x") as file:
                file.write(str(os.getpid()))
            return True
        except FileExistsError:
            if _still_runs(path):
                return False
            # Left behind by a process that was killed.
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    return False


def _still_runs(path: Path) -> bool:
    """Whether the process that a file names is there; True if that cannot be told."""
    try:
        number = int(path.read_text())
    except FileNotFoundError:
        return False
    except ValueError:  # not written yet
        return True
    if sys.platform == "win32":
        return True  # there signal 0 would not ask, but interrupt
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
