"""Run the tasks of a grid over processes, each as soon as its guide is there."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jsrl.core.interrupts import Interrupted, StopRequest
from jsrl.core.locks import FolderLock, hold_folder
from jsrl.grid.plan import Key, Task
from jsrl.grid.processes import RunProcess

SECONDS_BETWEEN_LOOKS = 0.1


class Runner:
    """Starts tasks in their order, ``workers`` at a time, none before what it needs.

    Args:
        tasks: what is to be run, in the order of preference.
        workers: processes at a time.
        finished: called after each task that ended well.
        failed: called with each task that did not, and why.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        workers: int,
        finished: Callable[[Task], None],
        failed: Callable[[Task, str], None],
    ) -> None:
        self._waiting = list(tasks)
        self._workers = workers
        self._running: dict[Key, tuple[Task, RunProcess]] = {}
        self._finished = finished
        self._failed = failed

    def run(self) -> None:
        """Until everything has ended.

        Raises:
            Interrupted: after SIGTERM or Ctrl-C, when every process has saved and ended.
            UserError: if a log cannot be written.
        """
        with StopRequest() as stop:
            try:
                while self._waiting or self._running:
                    if stop.signal_number is not None:
                        self._stop(stop.signal_number)
                        raise Interrupted(stop.signal_number)
                    self._start_what_can()
                    self._collect(stopped=False)
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            finally:
                # After an error, or a second Ctrl-C, for which the first has been sent before.
                for _, process in self._running.values():
                    process.send(signal.SIGTERM)
                for _, process in self._running.values():
                    process.wait()

    def _start_what_can(self) -> None:
        for task in list(self._waiting):
            if len(self._running) >= self._workers:
                return
            if task.needs is None or not self._is_ahead(task.needs):
                self._waiting.remove(task)
                self._running[task.key] = (task, RunProcess(task.arguments(), task.log))

    def _is_ahead(self, key: Key) -> bool:
        return key in self._running or any(task.key == key for task in self._waiting)

    def _collect(self, *, stopped: bool) -> None:
        """Tell of the processes that have ended since the last look."""
        for key, (task, process) in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            del self._running[key]
            if status == 0:
                self._finished(task)
            elif not stopped:
                self._fail(task, process.mistake())

    def _fail(self, task: Task, why: str) -> None:
        self._failed(task, why)
        for other in [t for t in self._waiting if t.needs == task.key]:
            self._waiting.remove(other)
            self._failed(other, f"not started, since its guide {task.name} failed")

    def _stop(self, number: int) -> None:
        """Pass the signal on, and wait until every run has saved what it has."""
        for _, process in self._running.values():
            process.send(number)
        while self._running:
            self._collect(stopped=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)


def alone_in(folder: Path) -> FolderLock:
    """Hold a lock on a grid's folder.

    Raises:
        UserError: if the folder cannot be written, or another grid is running in it.
    """
    return hold_folder(folder, "another grid", "another folder by runs=DIR")
