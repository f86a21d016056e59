"""TensorBoard's event files, named so that they sort in the order in which a run was started.

TensorBoard reads the event files of a folder in the order of their names, and a later file says
what of the earlier ones is to be hidden. The names begin with the time of the start; a computer
whose clock was set back would put a resumed run's file before those that it goes on from.
"""

import os
import re
import socket
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

PREFIX = "events.out.tfevents."
SECONDS_BETWEEN_FLUSHES = 30.0
FORMAT = "brain.Event:2"

_opened = count()


def event_files(folder: Path) -> list[Path]:
    """The event files in a TensorBoard folder and in the folders of its other runs, in order."""
    return sorted(folder.glob(f"**/{PREFIX}*"))


class OrderedSummaryWriter(SummaryWriter):
    """A ``SummaryWriter`` whose file comes after those that are in its folder already.

    Unlike PyTorch's own it writes in the thread that calls it, so that a full disk is told by the
    call that met it.

    Args:
        folder: where the file goes; made if need be.
        purge_step: events of earlier files at this step or later are hidden. None hides nothing.

    Raises:
        OSError: here or from any method, if the file cannot be written.
    """

    file_writer: Any
    all_writers: Any

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self._folder = folder
        super().__init__(str(folder), purge_step=purge_step)

    def add_summary(self, summary: Any, step: int) -> None:
        """Write a summary that is made already."""
        self._get_file_writer().add_summary(summary, step)

    def _get_file_writer(self) -> FileWriter:
        # PyTorch's method, which every other one goes through, would name the file by the clock.
        if self.file_writer is None:
            self.file_writer = _Writer(self._folder)
            self.all_writers = {str(self._folder): self.file_writer}
            if self.purge_step is not None:
                begins = SessionLog(status=SessionLog.START)
                self.file_writer.add_event(Event(session_log=begins), self.purge_step)
                self.purge_step = None
        return self.file_writer


class _Writer(FileWriter):
    """PyTorch's interface to an event file, with an ``EventFile`` behind it."""

    def __init__(self, folder: Path) -> None:
        self.event_writer = EventFile(folder)


class EventFile:
    """A new event file in ``folder``, after all that are there.

    Its name begins with the time in seconds, or, where a file is there that says the same second
    or a later one, with the second after that.

    Args:
        folder: made if need be.

    Raises:
        OSError: here or from any method, if the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        began = max(int(time.time()), _latest(entry.name for entry in folder.iterdir()) + 1)
        place = f"{socket.gethostname()}.{os.getpid()}.{next(_opened)}"
        self.path = folder / f"{PREFIX}{began:010d}.{place}"
        self._file = self.path.open("wb")
        self._records = RecordWriter(self._file)
        self._flushed = time.monotonic()
        source = SourceMetadata(writer="jsrl.loggers.event_files")
        self.add_event(Event(wall_time=time.time(), file_version=FORMAT, source_metadata=source))
        self.flush()

    def get_logdir(self) -> str:
        return str(self._folder)

    def add_event(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self) -> None:
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._file.close()


def _latest(names: Iterable[str]) -> int:
    """The largest number that the name of an event file begins with; -1 without any."""
    found = (re.match(rf"{re.escape(PREFIX)}(\d+)\.", name) for name in names)
    return max((int(match[1]) for match in found if match), default=-1)
