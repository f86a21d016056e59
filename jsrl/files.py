"""Files that are whole or not there: written beside their place, flushed, then renamed."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jsrl.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new path to write to, which takes the place of ``path`` if the block ends well.

    Raises:
        OSError: if it cannot be written; what stood at ``path`` before stays, nothing else does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        # Gone already if all went well; the folder itself may be what cannot be used.
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file: readers see the old one or the new one.

    Raises:
        UserError: if the disk is full or the folder cannot be written. What was there stays.
    """
    try:
        with replacing(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; what was there is kept: make "
            "room or choose another folder, then run the same command again"
        ) from error


def lock_folder(folder: Path) -> IO[str] | None:
    """Hold a folder, made if need be, until the file that is returned is closed.

    Returns:
        None if another process holds it.

    Raises:
        OSError: if it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
