"""The tests of a deployed monitor, which other threads need not wait for."""

from collections import deque
from collections.abc import Sequence

import torch

from jsrl.core.errors import UserError
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.watch.episode_watch import Check, Watch
from jsrl.monitor.watch.health import MonitorHealth
from jsrl.monitor.watch.locks import PicklableLock

LATEST_CHECKS = 1000
"""How many tests are remembered, the latest ones."""

WINDOWS_WAITING = 10
"""How many windows may wait while another thread tests, where threads are not to wait."""


class DeployedTests:
    """Tests episodes in the order in which they come, one thread at a time.

    Args:
        watch: tests them.
        health: is told of whatever fails.
        wait: whether a thread that brings episodes waits for another that is testing. Otherwise
            what it brings is left for the next one, up to ``WINDOWS_WAITING`` windows.
    """

    def __init__(self, watch: Watch, health: MonitorHealth, *, wait: bool) -> None:
        self.checks: deque[Check] = deque(maxlen=LATEST_CHECKS)
        self.alarm = False
        self._watch = watch
        self._health = health
        self._wait = wait
        self._waiting: deque[Sample] = deque()
        self._testing = PicklableLock()

    def run(self, episodes: Sequence[Sample]) -> list[Check]:
        """Test these episodes, and those that other threads left.

        Returns:
            The tests that were made here.
        """
        self._waiting.extend(episodes)
        found: list[Check] = []
        # Other threads act on meanwhile.
        if not self._testing.attempt(wait=self._wait):
            self._bound_what_waits()
            return found
        try:
            while self._waiting:
                check = self._test(self._waiting.popleft())
                if check is not None:
                    found.append(check)
            self.checks.extend(found)
        finally:
            self._testing.release()
        return found

    def _bound_what_waits(self) -> None:
        most = WINDOWS_WAITING * self._watch.settings.window
        while len(self._waiting) > most:
            try:
                self._waiting.popleft()
            except IndexError:  # The thread that tests has been faster.
                return
            self._health.note(
                "test",
                UserError(f"{most} requests wait already; watch fewer of them by a smaller share="),
            )

    def _test(self, episode: Sample) -> Check | None:
        try:
            # Whoever acts may do so in half precision, in which distances are of no use.
            with (
                torch.autocast("cpu", enabled=False),
                torch.autocast("cuda", enabled=False),
            ):
                check = self._watch.add(episode)
        except Exception as error:  # Whatever it is, the policy acts on.
            self._health.note("test", error)
            return None
        self.alarm |= check is not None and check.alarm
        return check
