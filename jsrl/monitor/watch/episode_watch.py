"""Watches the episodes of one phase and stage, one after another, within a stated bound.

The first episodes, or those of a trusted recording, are the reference. Each one after that is
tested together with the few before it. Each stage of the curriculum has a watch of its own, since a
new stage is expected to see other states, which is no reason for an alarm.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.monitor.attribution.verdict import NOT_FINITE, cause_of
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.monitor.detectors.detector import compare, nonconformity_scores
from jsrl.monitor.detectors.findings import Finding, NothingToCompareError
from jsrl.monitor.detectors.sequential import ConformalMartingale, conformal_p_value
from jsrl.monitor.watch.settings import WatchSettings

Forward = Callable[[WatchedSteps], Mapping[str, Tensor]]
"""Gives the activations of each layer in some steps, of the network as it is now."""

MARTINGALE_STEPS = 8
"""How many steps of an episode count where all episodes so far are compared with each other."""


@dataclass(frozen=True)
class Check:
    """The test after one episode.

    Args:
        episode: the number of the last episode that was tested.
        step: the environment steps at its end.
        finding: what the permutations showed.
        p_value: the p-value that was compared with ``level``.
        level: the level of this test.
        method: ``permutations``, or ``martingale`` where permutations cannot reach the level;
            ``finite`` where something is not finite; ``none`` where there is nothing to compare.
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
"""The finding where episodes are too short to be compared."""


class Watch:
    """Watches the episodes of one seed in one phase and stage.

    Args:
        settings: when an alarm is raised.
        streams: the streams of one seed and of this watch alone; permutations are drawn from them.
    """

    def __init__(self, settings: WatchSettings, streams: Streams) -> None:
        self.settings = settings
        self._streams = streams
        self.reference: deque[Sample] = deque(maxlen=settings.reference)
        # The window, and for each episode in it whether a test with it raised an alarm.
        self._recent: deque[Sample] = deque(maxlen=settings.window)
        self._suspect: deque[bool] = deque(maxlen=settings.window)
        # The episodes that left the window since the last test: a rolling reference takes them.
        self._leaving: list[Sample] = []
        # Where a martingale decides, the episodes that it has bet on so far.
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
        if not episode.is_finite():
            raise UserError("an episode that is not finite cannot be trusted: leave it out")
        self.reference.append(episode.thinned(self.settings.detector.rows_per_episode))

    def add(self, episode: Sample) -> Check | None:
        """Test an episode together with those before it.

        Returns:
            The test; None where none was due, or while the reference is being collected.

        Raises:
            UserError: if the episode has no steps.
        """
        if len(episode.steps) == 0:
            raise UserError("an episode without steps cannot be tested: lower monitor.interval")
        if not self.ready:
            if not episode.is_finite():
                return self._not_finite(episode)
            self.trust(episode)
            return None
        if len(self._recent) == self.settings.window and not self._suspect[0]:
            self._leaving.append(self._recent[0])
        self._recent.append(episode.thinned(self.settings.detector.rows_per_episode))
        self._suspect.append(False)
        self.episodes += 1
        if not episode.is_finite():
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
        """Compute all activations anew, after an update of the network."""
        for episodes in (self.reference, self._recent, self._passed, self._leaving):
            for i, sample in enumerate(episodes):
                episodes[i] = Sample(sample.steps, forward(sample.steps))

    def state_dict(self) -> dict[str, Any]:
        """The steps and the counts; activations are not stored, since ``refresh`` computes them."""
        return {
            "reference": [s.steps.state_dict() for s in self.reference],
            "recent": [s.steps.state_dict() for s in self._recent],
            "passed": [s.steps.state_dict() for s in self._passed],
            "log_sums": list(self._martingale.log_sums),
            "bets": self._martingale.episodes,
            "suspect": list(self._suspect),
            "leaving": [s.steps.state_dict() for s in self._leaving],
            "episodes": self.episodes,
            "tests": self.tests,
        }

    def load_state_dict(self, state: Mapping[str, Any], forward: Forward) -> None:
        """Go on from a state, with the network as it is now."""
        for name, episodes in (
            ("reference", self.reference),
            ("recent", self._recent),
            ("passed", self._passed),
            ("leaving", self._leaving),
        ):
            episodes.clear()
            for stored in state[name]:
                steps = WatchedSteps.from_state_dict(stored)
                episodes.append(Sample(steps, forward(steps)))
        self._suspect.extend(state["suspect"])
        self._martingale.log_sums = tuple(state["log_sums"])
        self._martingale.episodes = state["bets"]
        self.episodes = state["episodes"]
        self.tests = state["tests"]

    def latest(self) -> tuple[Sample, Sample] | None:
        """The reference and the episodes that were tested last, each as one sample.

        None before the first test, although an alarm may come earlier, from an episode that is not
        finite.
        """
        return self._sides() if self.reference and self._recent else None

    def _sides(self) -> tuple[Sample, Sample]:
        return Sample.concatenate(list(self.reference), renumber=True), Sample.concatenate(
            list(self._recent), renumber=True
        )

    def _not_finite(self, episode: Sample) -> Check:
        """An alarm without any test, since something is not finite."""
        finding = replace(NOTHING, p_value=0.0, layers_p_value=0.0, finite=False, cause=NOT_FINITE)
        note = "observations, actions or activations are not finite"
        return Check(
            *(int(episode.steps.episode[-1]), int(episode.steps.step[-1]), finding, 0.0),
            *(self.settings.spending.per_test, "finite", True, note),
        )

    def _check(self) -> Check:
        spending = self.settings.spending
        reference, recent = self._sides()
        newest = self._recent[-1]
        episode, step = int(newest.steps.episode[-1]), int(newest.steps.step[-1])
        try:
            detector = self.settings.detector.for_level(spending.per_test)
            finding = compare(reference, recent, detector, self._generator())
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
            finding = replace(finding, cause=cause_of(finding, level) if p <= level else None)
            return Check(episode, step, finding, p, level, "permutations", p <= level)
        if self._permutations_reach(self.settings.window):
            note = f"{window} of {self.settings.window} episodes: not enough to tell yet"
            return Check(episode, step, finding, p, level, "permutations", False, note)
        return self._bet(finding, newest, episode, step)

    def _permutations_reach(self, window: int) -> bool:
        return self.settings.permutations_reach(len(self.reference), window)

    def _bet(self, finding: Finding, newest: Sample, episode: int, step: int) -> Check:
        """Bet on the newest episode, where permutations of so few cannot reach the level."""
        settings, spending = self.settings, self.settings.spending
        if self._martingale.episodes == self._martingale.horizon:
            self._passed = []
        earlier = Sample.concatenate([*self.reference, *self._passed], renumber=True)
        few = replace(settings.detector, permutations=1, rows_per_episode=MARTINGALE_STEPS)
        scores = nonconformity_scores(earlier, newest, few).tolist()
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
