"""Files that are whole or not there: written beside their place, flushed, then renamed."""

import contextlib
import fcntl
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

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


def read_json_record(
    path: Path, keys: Collection[str], what: str, otherwise: str
) -> dict[str, Any]:
    """A JSON object that was written with these keys.

    Args:
        path: the file.
        keys: all have to be there.
        what: what was expected, for the message,
        otherwise: and what deleting it brings about.

    Raises:
        UserError: if it cannot be read or a key is missing.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}), expected {what}; restore the file, or delete it to "
            f"have {otherwise}"
        ) from error
    missing = sorted(set(keys) - set(record)) if isinstance(record, dict) else sorted(keys)
    if missing:
        raise UserError(
            f"{path}: has no {', '.join(missing)}, expected {what}; restore the file, or delete it "
            f"to have {otherwise}"
        )
    return dict(record)


def read_findings(folder: Path) -> list[str]:
    """What a person wrote of the results, in ``findings.md`` of a report's folder, if it is there.

    Raises:
        UserError: if it cannot be read as text.
    """
    path = folder / "findings.md"
    if not path.exists():
        return []
    try:
        return [path.read_text(encoding="utf-8").strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}; mend or remove it") from error


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
