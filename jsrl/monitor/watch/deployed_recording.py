"""A recording of what a deployed policy sees, which never stops it from acting."""

from pathlib import Path

from jsrl.core.errors import UserError
from jsrl.monitor.capture.recording_writer import RecordingWriter
from jsrl.monitor.capture.samples import Sample, as_arrays
from jsrl.monitor.watch.locks import PicklableLock


class DeployedRecording:
    """A recording in a folder of its own.

    Args:
        folder: a folder that is made here. So nobody else records into it, and no episode that an
            earlier start cut short is taken for a whole one.
        interval: the steps from one that is watched to the next.

    Raises:
        UserError: if the folder is there already or cannot be made.
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
        self._lock = PicklableLock()

    def add(self, watched: Sample) -> None:
        """Record one step of each robot; once that has failed, nothing more is recorded.

        Raises:
            Exception: the first time that it fails, whatever it is that failed.
        """
        with self._lock:
            if self._failed:
                return
            self._failed = True
            if self._writer is None:
                sizes = {name: values.shape[1] for name, values in watched.activations.items()}
                self._writer = RecordingWriter(self._folder, sizes, interval=self._interval)
            self._writer.add(watched.steps, as_arrays(watched.activations))
            self._failed = False

    def close(self, all_ended: bool) -> None:
        """Write what is in memory.

        Args:
            all_ended: whether no episode is under way, so that all of them are whole.

        Raises:
            UserError: if it cannot be written.
        """
        with self._lock:
            if self._writer is None or self._failed:
                return
            if all_ended:
                self._writer.complete()
            else:
                self._writer.flush()
