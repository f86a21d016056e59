"""Tests recorded episodes one after another and gathers what was found, for ``jsrl monitor``.

An audit holds everything that its page shows, as plain values and arrays.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.monitor.attribution.witness import rank_samples
from jsrl.monitor.capture.layers import INPUTS
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.monitor.detectors.detector import rates_of_samples
from jsrl.monitor.detectors.rates import DetectionRates, RateSettings
from jsrl.monitor.detectors.reduction import standardised
from jsrl.monitor.watch.episode_watch import Check, Watch
from jsrl.monitor.watch.settings import WatchSettings

MOST_VIOLATIONS = 100
"""How many violations are listed at most."""

RANKED_STEPS, RANKED_EPISODES = 64, 60
"""How many steps of an episode, and of how many episodes, are ranked. The memory that this takes
grows with the square of their product."""


@dataclass(frozen=True)
class Violation:
    """A step that is unlike the reference, and the layer that shows it most clearly.

    Args:
        step: the environment steps of its recording so far.
        episode: the number of its episode.
        time: the steps since the episode began.
        score: the leave-one-out witness in that layer; see ``witness.rank_samples``.
        p_value: the conformal p-value in that layer.
        layer: the name of the layer.
    """

    step: int
    episode: int
    time: int
    score: float
    p_value: float
    layer: str


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        checks: the tests, in their order.
        statement: the bound on false alarms, in a sentence.
        unusual: the steps that differ most, among the episodes since the first alarm, or among all.
        rates: the detection rates of ``layers`` over the same episodes.
        layers: the names of the layers.
        reference: the episodes that were trusted.
        current: the episodes that ``unusual`` and ``rates`` are about.
    """

    checks: tuple[Check, ...]
    statement: str
    unusual: tuple[Violation, ...]
    rates: DetectionRates
    layers: tuple[str, ...]
    reference: Sample
    current: Sample

    @property
    def alarm(self) -> bool:
        """Whether any test raised an alarm."""
        return any(check.alarm for check in self.checks)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The unusual steps if there was an alarm, since without one they mean little."""
        return self.unusual if self.alarm else ()

    @property
    def first_alarm(self) -> Check | None:
        """The first test that raised an alarm."""
        return next((check for check in self.checks if check.alarm), None)

    @property
    def first_alarm_test(self) -> int | None:
        """The number of the first test that raised an alarm, counted from 1."""
        return next((i for i, check in enumerate(self.checks, 1) if check.alarm), None)


class Auditor:
    """Tests episodes as they come against a reference.

    Args:
        reference: episodes that can be trusted. The first ones are used, as many as the settings
            ask for, or all where there are fewer.
        settings: when an alarm is raised.
        rates: the settings of the detection rates.
        streams: the streams of one seed.

    Raises:
        UserError: if there are fewer than two reference episodes.
    """

    def __init__(
        self,
        reference: Sequence[Sample],
        settings: WatchSettings,
        rates: RateSettings,
        streams: Streams,
    ) -> None:
        if len(reference) < 2:
            raise UserError(f"the reference has {len(reference)} episodes; record at least 2")
        wanted = min(settings.reference, len(reference))
        self._settings = replace(settings, reference=wanted)
        self._watch = Watch(self._settings, streams.child("audit"))
        self._rates = rates
        self._streams = streams
        for episode in reference[:wanted]:
            self._watch.trust(episode)
        self._checks: list[Check] = []
        self._alarmed = False
        # The episodes since the first alarm, whose single steps are ranked.
        self._samples: deque[Sample] = deque(maxlen=RANKED_EPISODES)

    def add(self, episodes: Sequence[Sample]) -> None:
        """Test more episodes, in their order."""
        for sample in episodes:
            if not self._alarmed or len(self._samples) < RANKED_EPISODES:
                self._samples.append(sample.thinned(RANKED_STEPS))
            check = self._watch.add(sample)
            if check is None:
                continue
            self._checks.append(check)
            if check.alarm and not self._alarmed:
                self._alarmed = True
                window = list(self._samples)[-self._settings.window :]
                self._samples.clear()
                self._samples.extend(window)

    def audit(self) -> Audit:
        """Gather what was found so far.

        Raises:
            UserError: if no episode was tested yet.
        """
        if not self._samples:
            raise UserError("there is no episode to test yet: record more")
        trusted = Sample.concatenate(list(self._watch.reference), renumber=True)
        current = Sample.concatenate(list(self._samples), renumber=True)
        generator = torch.Generator().manual_seed(self._streams.integer("detection rates")[0])
        named = replace(current, steps=_as_recorded(current.steps, self._samples))
        return Audit(
            tuple(self._checks),
            self._settings.statement(self._watch.episodes),
            unusual_steps(trusted, named),
            rates_of_samples(trusted, current, self._rates, generator),
            tuple(trusted.activations),
            trusted,
            named,
        )


def unusual_steps(trusted: Sample, current: Sample) -> tuple[Violation, ...]:
    """The steps of ``current`` that differ most, each with the layer that shows it most clearly.

    The p-value is that of this layer alone. Being the smallest of several, it orders steps and
    decides nothing.
    """
    best: dict[int, tuple[float, float, str]] = {}
    for name, values in current.activations.items():
        good = values.isfinite().all(1)
        for step in torch.nonzero(~good)[:, 0].tolist():
            best.setdefault(step, (0.0, -np.inf, name))
        steps = torch.nonzero(good)[:, 0]
        x, y = trusted.activations[name], values[steps]
        if len(y) < 2:
            continue
        if name == INPUTS:
            x, y = standardised(torch.cat([x, y])).split([len(x), len(y)])
        ranked = rank_samples(x, y, MOST_VIOLATIONS)
        found = zip(ranked.indices, ranked.p_values, ranked.scores, strict=True)
        for place, p, score in found:
            step, entry = int(steps[place]), (float(p), -float(score), name)
            best[step] = min(best.get(step, entry), entry)
    worst = sorted(best.items(), key=lambda item: (item[1], item[0]))[:MOST_VIOLATIONS]
    where = current.steps
    return tuple(
        Violation(
            step=int(where.step[place]),
            episode=int(where.episode[place]),
            time=int(where.time[place]),
            score=-negative,
            p_value=p,
            layer=name,
        )
        for place, (p, negative, name) in worst
    )


def _as_recorded(steps: WatchedSteps, samples: Iterable[Sample]) -> WatchedSteps:
    """The steps with the numbers that their episodes had in their recording."""
    return replace(steps, episode=np.concatenate([sample.steps.episode for sample in samples]))
