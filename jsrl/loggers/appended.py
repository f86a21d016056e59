"""A file that a run appends to, and whose trouble the user is told of in one line."""

import os
from pathlib import Path

from jsrl.core.errors import UserError


class AppendedFile:
    """A file that only grows, unless it is cut back.

    It is unbuffered: what was appended is with the operating system when ``append`` returns, and
    a write that failed leaves nothing behind to be tried again when the file is closed.

    Args:
        path: the file; it is created if need be, and appended to.

    Raises:
        UserError: if the file cannot be opened, here, or written, in any method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_be_logged(path, error) from error

    def append(self, text: str) -> None:
        """Append ``text``, as UTF-8."""
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise cannot_be_logged(self.path, error) from error

    def offset(self) -> int:
        """The size of the file in bytes, all of it on the disk: for a checkpoint to remember."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_be_logged(self.path, error) from error
        return self._file.seek(0, os.SEEK_END)

    def truncate(self, offset: int) -> None:
        """Drop what was written after ``offset``: the resumed run writes it again.

        Raises:
            UserError: if the file is shorter, so that what came before the checkpoint is missing.
        """
        size = self._file.seek(0, os.SEEK_END)
        if size < offset:
            raise UserError(
                f"{self.path}: has {size} bytes, expected at least the {offset} that the checkpoint"
                " recorded; restore the file or start in a new run_dir"
            )
        try:
            self._file.truncate(offset)
        except OSError as error:
            raise cannot_be_logged(self.path, error) from error

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()


def cannot_be_logged(path: Path, error: OSError) -> UserError:
    """What to tell of a file, or a folder, of a log that cannot be written."""
    return UserError(
        f"{path}: cannot be written ({error.strerror or error}); free space or make the folder"
        " writable, then run the same command again to resume"
    )
