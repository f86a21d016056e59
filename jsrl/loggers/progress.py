"""How far a run is: a bar on terminals, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0
LEAST_SECONDS_BETWEEN_LINES = 1.0
SHARE_BETWEEN_LINES = 0.05


class Progress:
    """Shows progress with values such as return, stage, h, and the time left.

    On a terminal (standard error) it is a tqdm bar. Elsewhere, a log file say, it is a line on
    standard output every ten seconds, or for every 5 % done if that comes first, but at most one
    a second; and one at the end.

    Args:
        total: what ``done`` will reach, in any unit.
        description: what is going on.
        enabled: whether to show anything but what ``say`` is told.
        initial: how much a resumed run had done before; it does not count for the time left.
        patience: seconds in which it may be over before anything is shown. A bar that was patient
            leaves nothing behind on the terminal.
        clock: seconds that only grow; tests bring their own.
    """

    def __init__(
        self,
        total: int,
        description: str,
        enabled: bool = True,
        initial: int = 0,
        patience: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.description = description
        self._done = self._printed_done = self._initial = initial
        self._clock = clock
        self._started = self._printed_at = clock()
        self._patience = patience
        self._lines = enabled and not sys.stderr.isatty()
        self._shown: dict[str, str] = {}
        self._bar: Any = None
        if enabled and not self._lines:
            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=description,
                dynamic_ncols=True,
                delay=patience,
                leave=patience == 0,
                # A narrow terminal cuts off what is last.
                bar_format="{desc} {percentage:3.0f}%|{bar:10}| [{elapsed}<{remaining}] "
                "{n_fmt}/{total_fmt}{postfix}",
            )

    def update(self, done: int, **shown: float | str | None) -> None:
        """``done`` of ``total`` are done; values not given keep the last one shown."""
        self._shown |= {name: _short(value) for name, value in shown.items()}
        if self._bar is not None:
            self._bar.set_postfix_str(self._values(), refresh=False)
            self._bar.update(done - self._done)
        self._done = done
        if self._lines and self._line_is_due():
            self._print_line()

    def say(self, line: str) -> None:
        """Print a line on standard output, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Show where it ended; closing twice is fine."""
        if self._bar is not None:
            self._bar.close()
        elif self._lines and self._done != self._printed_done and not self._patient():
            self._print_line()

    def _patient(self) -> bool:
        return self._clock() - self._started < self._patience

    def _line_is_due(self) -> bool:
        if self._patience and self._patient():
            return False
        waited = self._clock() - self._printed_at
        share = (self._done - self._printed_done) / max(self.total, 1)
        return waited >= SECONDS_BETWEEN_LINES or (
            waited >= LEAST_SECONDS_BETWEEN_LINES and share >= SHARE_BETWEEN_LINES
        )

    def _print_line(self) -> None:
        self._printed_at, self._printed_done = self._clock(), self._done
        percent = 100 * self._done / max(self.total, 1)
        parts = [f"{self.description} {self._done}/{self.total} ({percent:.0f} %)"]
        if self._shown:
            parts.append(self._values())
        advanced = self._done - self._initial
        if advanced > 0:
            rate = (self._printed_at - self._started) / advanced
            left = tqdm.format_interval(rate * max(self.total - self._done, 0))
            parts.append(f"{left} left")
        print(", ".join(parts), flush=True)

    def _values(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._shown.items())


def _short(value: float | str | None) -> str:
    """Three significant digits, but whole numbers in full; - where there is no value."""
    if value is None or value != value:
        return "-"
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else f"{value:.3g}"
