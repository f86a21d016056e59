"""Faults of a monitor itself, which are counted and told once and never reach whoever acts."""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from jsrl.monitor.watch.locks import PicklableLock

KINDS = {
    "layer": "layers are not observed",
    "look": "a call of the policy was not looked at",
    "test": "an episode was not tested",
    "recording": "the recording ends here",
}
"""What can fail, and how the warning says so."""


@dataclass(frozen=True)
class MonitorStatus:
    """The state of a deployed monitor.

    Args:
        state: ``collecting`` while the reference is not complete, then ``watching``; ``degraded``
            once something of the monitor itself has failed, which the policy does not notice.
        reason: the first fault of each kind, or "" without any.
        faults: how often each kind of fault occurred: ``layer``,
            ``look``, ``test`` and ``recording``.
        reference: how many episodes the reference has so far.
        tests: how many episodes were tested.
        alarm: whether any test raised one.
    """

    state: str
    reason: str
    faults: Mapping[str, int]
    reference: int
    tests: int
    alarm: bool


class MonitorHealth:
    """Counts faults, and tells each kind once, as a ``RuntimeWarning``.

    Several threads may use it at a time.
    """

    def __init__(self) -> None:
        self._lock = PicklableLock()
        self._counts: dict[str, int] = {}
        self._reasons: dict[str, str] = {}

    def note(self, kind: str, error: Exception) -> None:
        """Count a fault of one of ``KINDS``, and warn of it if it is the first of its kind."""
        text = f"{KINDS[kind]}: {str(error) or type(error).__name__}"
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            if kind in self._reasons:
                return
            self._reasons[kind] = text
        # Outside of the lock: whoever shows warnings may call the policy.
        try:
            warnings.warn(
                f"{text} (the policy acts on; monitor.status counts what follows)",
                RuntimeWarning,
                stacklevel=4,
            )
        except RuntimeWarning as warning:
            # Warnings are errors here; this one would stop the robot.
            print(f"warning: {warning}", file=sys.stderr)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of fault occurred."""
        with self._lock:
            return dict(self._counts)

    @property
    def reason(self) -> str:
        """The first fault of each kind, or "" without any."""
        with self._lock:
            return "; ".join(self._reasons.values())
