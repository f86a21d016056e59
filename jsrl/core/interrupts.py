"""SIGTERM and Ctrl-C as a request to save and leave, not as a crash."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):
    """A run stopped by a signal after its state was saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class StopRequest:
    """While open, remembers SIGTERM and SIGINT; the second one acts as it would without.

    In threads other than the main one Python cannot handle signals: there nothing changes.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
