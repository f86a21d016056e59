"""Watches the episodes of one phase and stage, one after another, within a stated bound.

The first episodes, or those of a trusted recording, are the reference. Each one after that is
tested together with the few before it. Another stage of the curriculum has a watch of its own: that
states are others there is expected, and no alarm.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jsrl.errors import UserError
from jsrl.monitor.detector import (
    DetectorSettings,
    Finding,
    NothingToCompareError,
    Sample,
    compare,
    is_finite,
    strangeness,
    together,
)
from jsrl.monitor.recording import rows_from, rows_state
from jsrl.monitor.rows import Rows
from jsrl.monitor.sequential import AlphaSpending, ConformalMartingale, conformal_p_value
from jsrl.seeding import Streams

Forward = Callable[[Rows], Mapping[str, Tensor]]
"""What the layers say in these rows, of the network as it is now."""

MARTINGALE_ROWS = 8
"""Rows of an episode where all episodes so far are compared with each other."""


@dataclass(frozen=True)
class WatchSettings:
    """When a watch raises an alarm.

    Args:
        level: the probability of any false alarm among ``horizon`` episodes.
        horizon: episodes over which the level is spent.
        shared_by: how many phases share the level.
        window: episodes that are tested together, the latest.
        stride: episodes from one test to the next.
        reference: episodes that a reference consists of.
        rolling: episodes that passed move on into the reference, whose oldest leave it: for a
            policy that still learns.
        detector: how episodes are compared.
    """

    level: float = 0.05
    horizon: int = 200
    shared_by: int = 1
    window: int = 3
    stride: int = 1
    reference: int = 60
    rolling: bool = False
    detector: DetectorSettings = field(default_factory=DetectorSettings)

    def __post_init__(self) -> None:
        if self.window < 1 or self.reference < 2 or not 1 <= self.stride <= self.window:
            raise UserError(
                f"monitor.window={self.window} must be at least 1, "
                f"monitor.reference={self.reference} at least 2, and monitor.stride={self.stride} "
                "at least 1 and at most monitor.window: every episode is to be tested"
            )
        _ = self.spending

    @property
    def spending(self) -> AlphaSpending:
        return AlphaSpending(self.level / self.shared_by, max(1, self.horizon // self.stride))

    def statement(self, episodes: int) -> str:
        """The bound on false alarms among so many episodes, in a sentence.

        Every ``horizon`` episodes the account is opened anew; the bounds add up.
        """
        accounts = max(1, -(-episodes // self.horizon))
        bound = min(1.0, accounts * self.level)
        return (
            f"Where nothing is wrong, any alarm at all in {accounts * self.horizon} episodes has a "
            f"probability of at most {bound:.2g}."
        )


@dataclass(frozen=True)
class Check:
    """The test after one episode.

    Args:
        episode: the number of the last episode that was tested.
        step: environment steps at its end.
        finding: of the permutations.
        p_value: what was compared with ``level``.
        level: the level of this test.
        method: ``permutations``, or ``martingale`` where those cannot reach the level; ``finite``
            where something is not, ``none`` where episodes have nothing to compare.
        alarm: whether the p-value is at most the level, or something is not finite.
        note: what should be known beside it, or "".
    """

    episode: int
    step: int
    finding: Finding
    p_value: float
    level: float
    method: str
    alarm: bool
    note: str = ""


NOTHING = Finding(1.0, 1.0, 1.0, (), (), None, (0.0, 0.0), finite=True)
"""Where episodes are too short to be compared."""


class Watch:
    """See the module. All rows are of one seed.

    Args:
        settings: of the tests.
        streams: of this watch alone, one seed: its permutations are drawn from them.
    """

    def __init__(self, settings: WatchSettings, streams: Streams) -> None:
        self.settings = settings
        self._streams = streams
        self.reference: deque[Sample] = deque(maxlen=settings.reference)
        # The window, and whether each in it was part of a test that raised an alarm.
        self._recent: deque[Sample] = deque(maxlen=settings.window)
        self._suspect: deque[bool] = deque(maxlen=settings.window)
        # What has left the window since the last test: a rolling reference takes it.
        self._leaving: list[Sample] = []
        # Where a martingale decides, what it has bet on so far.
        self._passed: list[Sample] = []
        self._martingale = ConformalMartingale(settings.spending.level, settings.spending.episodes)
        self.episodes = 0
        self.tests = 0

    @property
    def ready(self) -> bool:
        """Whether the reference is complete."""
        return len(self.reference) == self.settings.reference

    def trust(self, episode: Sample) -> None:
        """Add an episode to the reference.

        Raises:
            UserError: if something in it is not finite.
        """
        if not is_finite(episode):
            raise UserError("an episode that is not finite cannot be trusted: leave it out")
        self.reference.append(episode.thinned(self.settings.detector.rows_per_episode))

    def add(self, episode: Sample) -> Check | None:
        """Test an episode, with those before it; None while the reference is being collected.

        Raises:
            UserError: if it has no rows.
        """
        if len(episode.rows) == 0:
            raise UserError("an episode without rows cannot be tested: lower monitor.interval")
        if not self.ready:
            if not is_finite(episode):
                return self._not_finite(episode)
            self.trust(episode)
            return None
        if len(self._recent) == self.settings.window and not self._suspect[0]:
            self._leaving.append(self._recent[0])
        self._recent.append(episode.thinned(self.settings.detector.rows_per_episode))
        self._suspect.append(False)
        self.episodes += 1
        if not is_finite(episode):
            check = self._not_finite(episode)
        elif self.episodes % self.settings.stride:
            return None
        else:
            check = self._check()
        self.tests += 1
        if check.alarm:
            self._suspect.extend([True] * len(self._recent))
        elif self.settings.rolling and self._permutations_reach(self.settings.window):
            self.reference.extend(self._leaving)
        self._leaving = []
        return check

    def refresh(self, forward: Forward) -> None:
        """Pass all stored observations through the network as it is now, after an update of it."""
        for episodes in (self.reference, self._recent, self._passed, self._leaving):
            for i, sample in enumerate(episodes):
                episodes[i] = Sample(sample.rows, forward(sample.rows))

    def state_dict(self) -> dict[str, Any]:
        """Rows and clocks; activations are made anew by ``refresh``."""
        return {
            "reference": [rows_state(s.rows) for s in self.reference],
            "recent": [rows_state(s.rows) for s in self._recent],
            "passed": [rows_state(s.rows) for s in self._passed],
            "log_sums": list(self._martingale.log_sums),
            "bets": self._martingale.episodes,
            "suspect": list(self._suspect),
            "leaving": [rows_state(s.rows) for s in self._leaving],
            "episodes": self.episodes,
            "tests": self.tests,
        }

    def load_state_dict(self, state: Mapping[str, Any], forward: Forward) -> None:
        """Go on from there, with the network as it is now."""
        for name, episodes in (
            ("reference", self.reference),
            ("recent", self._recent),
            ("passed", self._passed),
            ("leaving", self._leaving),
        ):
            episodes.clear()
            for stored in state[name]:
                rows = rows_from(stored)
                episodes.append(Sample(rows, forward(rows)))
        self._suspect.extend(state["suspect"])
        self._martingale.log_sums = tuple(state["log_sums"])
        self._martingale.episodes = state["bets"]
        self.episodes = state["episodes"]
        self.tests = state["tests"]

    def latest(self) -> tuple[Sample, Sample] | None:
        """The reference and the episodes that were tested last, each as one sample.

        None before the first test: an episode that is not finite may be told of earlier.
        """
        return self._sides() if self.reference and self._recent else None

    def _sides(self) -> tuple[Sample, Sample]:
        return joined(list(self.reference)), joined(list(self._recent))

    def _not_finite(self, episode: Sample) -> Check:
        """A fault without any test, whenever it comes."""
        finding = replace(NOTHING, p_value=0.0, layers_p_value=0.0, finite=False)
        note = "observations, actions or activations are not finite"
        return Check(
            *(int(episode.rows.episode[-1]), int(episode.rows.step[-1]), finding, 0.0),
            *(self.settings.spending.per_test, "finite", True, note),
        )

    def _check(self) -> Check:
        spending = self.settings.spending
        reference, recent = self._sides()
        newest = self._recent[-1]
        episode, step = int(newest.rows.episode[-1]), int(newest.rows.step[-1])
        try:
            finding = compare(reference, recent, self.settings.detector, self._generator())
        except NothingToCompareError as error:
            return Check(
                *(episode, step, NOTHING, 1.0, spending.per_test, "none", False, str(error))
            )
        p, level = finding.p_value, spending.per_test
        if not finding.finite:
            # An episode before the newest, which is still in the window.
            return self._not_finite(newest)
        window = len(self._recent)
        if self._permutations_reach(window):
            return Check(episode, step, finding, p, level, "permutations", p <= level)
        if self._permutations_reach(self.settings.window):
            note = f"{window} of {self.settings.window} episodes: not enough to tell yet"
            return Check(episode, step, finding, p, level, "permutations", False, note)
        return self._bet(finding, newest, episode, step)

    def _permutations_reach(self, window: int) -> bool:
        """Whether so many episodes, and so many permutations of them, can reach the level."""
        spending, drawn = self.settings.spending, self.settings.detector.permutations + 1
        return spending.reachable(len(self.reference), window) and drawn * spending.per_test >= 1

    def _bet(self, finding: Finding, newest: Sample, episode: int, step: int) -> Check:
        """Permutations cannot reach the level with so few episodes: bet on the newest."""
        settings, spending = self.settings, self.settings.spending
        if self._martingale.episodes == self._martingale.horizon:
            self._passed = []
        earlier = joined([*self.reference, *self._passed])
        rows = DetectorSettings(1, MARTINGALE_ROWS, settings.detector.time_bins)
        scores = strangeness(earlier, newest, rows).tolist()
        draw = float(self._streams.child("ties", self.tests).uniform("draw", ())[0])
        self._martingale.update(max(conformal_p_value(scores, draw), 1e-12))
        self._passed.append(newest)
        level, p = spending.level, self._martingale.p_value
        note = (
            f"permuting {len(self.reference)} and {settings.window} episodes cannot reach "
            f"{spending.per_test:.2g} (its smallest p-value is {finding.smallest_p:.2g}; "
            f"{spending.reference_needed(settings.window)} reference episodes and "
            f"{math.ceil(1 / spending.per_test)} permutations would): a conformal martingale "
            "decides, which is slow to notice with fewer than 50 episodes to compare with"
        )
        return Check(
            *(episode, step, finding, p, level, "martingale", self._martingale.alarm, note)
        )

    def _generator(self) -> torch.Generator:
        seed = self._streams.integer("permutations", self.tests)[0]
        return torch.Generator().manual_seed(seed)


def joined(samples: list[Sample]) -> Sample:
    """Episodes after each other, as one side of a test; at least one.

    They are numbered anew: numbers may repeat between recordings.
    """
    found = together(samples)
    numbers = np.repeat(np.arange(len(samples)), [len(s.rows) for s in samples])
    return replace(found, rows=replace(found.rows, episode=numbers.astype(np.int64)))
