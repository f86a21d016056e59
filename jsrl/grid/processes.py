"""One run of a grid in a process of its own, with a log file."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jsrl.core.errors import UserError
from jsrl.core.processes import ALLOWED, UNUSED_KEYS

LONGEST_LINE = 300


class RunProcess:
    """``jsrl train ARGUMENTS`` as a process; what it prints is appended to a log file.

    In a process group of its own: Ctrl-C on a terminal reaches it only through ``send``, once.

    Args:
        arguments: what follows ``jsrl train``.
        log: the log file; its folder is made if need be.

    Raises:
        UserError: if the log cannot be written.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                self._begin = file.seek(0, os.SEEK_END)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "jsrl", "train", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    # PyTorch's kernels wait for one another where threads outnumber free cores.
                    env={"OMP_NUM_THREADS": "1"} | os.environ | {UNUSED_KEYS: ALLOWED},
                    process_group=0,
                )
        except OSError as error:
            raise UserError(
                f"{log} cannot be written: {error.strerror}; choose another folder by runs=DIR"
            ) from error

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        self._process.send_signal(number)

    def wait(self) -> None:
        self._process.wait()

    def mistake(self) -> str:
        """Why it failed: the last error that it printed since its start, else its last line."""
        status = self._process.returncode
        if status is not None and status < 0:
            return f"ended by {signal.Signals(-status).name}"
        with self._log.open("rb") as file:
            file.seek(self._begin)
            lines = file.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if line.startswith("jsrl: error: ")]
        line = (errors or said or [f"exit status {status}, nothing was printed"])[-1]
        return line.removeprefix("jsrl: error: ")[:LONGEST_LINE]
