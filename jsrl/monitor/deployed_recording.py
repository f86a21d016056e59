"""A recording of what a deployed policy sees, which never stops it from acting."""

import warnings
from pathlib import Path

from jsrl.errors import UserError
from jsrl.monitor.detector import Sample
from jsrl.monitor.recording import RecordingWriter, as_arrays


class DeployedRecording:
    """A recording in a folder of its own.

    Args:
        folder: to be made: nobody else records into it, and no episode of an earlier start, cut
            short, is taken for a whole one.
        interval: steps between two looks.

    Raises:
        UserError: if the folder is there or cannot be made.
    """

    def __init__(self, folder: Path, interval: int) -> None:
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise UserError(
                f"record={str(folder)!r} is there already; choose a new folder for each start"
            ) from error
        except OSError as error:
            raise UserError(
                f"record={str(folder)!r} cannot be made: {error.strerror or error}"
            ) from error
        self._folder = folder
        self._interval = interval
        self._writer: RecordingWriter | None = None
        self._failed = False

    def add(self, look: Sample) -> None:
        """Record a row of each robot; once that has failed, nothing more is recorded."""
        if self._failed:
            return
        try:
            if self._writer is None:
                sizes = {name: values.shape[1] for name, values in look.activations.items()}
                self._writer = RecordingWriter(self._folder, sizes, interval=self._interval)
            self._writer.add(look.rows, as_arrays(look.activations))
        except UserError as error:
            self._failed = True
            warnings.warn(f"the recording ends here: {error}", RuntimeWarning, stacklevel=4)

    def close(self, all_ended: bool) -> None:
        """Write what is in memory.

        Args:
            all_ended: whether no episode is under way, so that all of them are whole.

        Raises:
            UserError: if it cannot be written.
        """
        if self._writer is None or self._failed:
            return
        if all_ended:
            self._writer.complete()
        else:
            self._writer.flush()
