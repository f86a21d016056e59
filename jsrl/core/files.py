"""Files that are whole or not there: written beside their place, flushed, then renamed."""

import contextlib
import csv
import errno
import io
import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from jsrl.core.errors import UserError

LONGEST_NAME = 255
"""Bytes of a file's name on common file systems."""

SHOWN = 60
"""Characters of an overlong name that a message shows."""


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
        # Open for writing, without which Windows does not flush.
        with beside.open("rb+") as file:
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


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


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


def refuse_long_name(key: str, path: Path) -> None:
    """Before anything is made on the way to a folder, see that no part of its name is too long.

    Raises:
        UserError: if one is.
    """
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise cannot_be_written(key, path, OSError(errno.ENAMETOOLONG, "File name too long"))


def cannot_be_written(key: str, path: Path, error: OSError) -> UserError:
    """What is wrong with a folder that is to be written to, and what to do."""
    shown = str(path)
    if error.errno == errno.ENAMETOOLONG:
        longest = max(len(os.fsencode(part)) for part in path.parts)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
        return UserError(
            f"{key}={shown!r} is too long a name: {longest} bytes between two slashes, "
            f"{len(os.fsencode(str(path)))} in all; {LONGEST_NAME} and about 4,000 are possible: "
            "choose a shorter one"
        )
    if isinstance(error, FileExistsError):
        return UserError(f"{key}={shown!r} is a file; choose a folder, or another name")
    return UserError(
        f"{key}={shown!r} cannot be written: {error.strerror}; choose a folder that can"
    )
