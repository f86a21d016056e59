"""Look at episodes one after another, and say what was found: the work of ``jsrl monitor``.

An audit holds everything that its reports show, as plain values and arrays.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from jsrl.errors import UserError
from jsrl.monitor.detector import Sample, rates_of_samples, standardised
from jsrl.monitor.hooks import INPUTS
from jsrl.monitor.rates import DetectionRates, RateSettings
from jsrl.monitor.rows import Rows
from jsrl.monitor.watch import Check, Forward, Watch, WatchSettings, joined
from jsrl.monitor.witness import rank_samples
from jsrl.seeding import Streams

WORST = 100
"""Violations that are listed."""

CLOSE_ROWS, LATEST_EPISODES = 64, 60
"""Rows of an episode, and episodes, that single steps are ranked among: memory grows with the
square of both together."""


@dataclass(frozen=True)
class Violation:
    """A step that is unlike the reference, and the layer that finds it so.

    Args:
        step: environment steps of its recording.
        episode: its number.
        time: steps since the episode began.
        score: leave-one-out witness in that layer; see ``witness.rank_samples``.
        p_value: conformal, of that layer.
        layer: its name.
    """

    step: int
    episode: int
    time: int
    score: float
    p_value: float
    layer: str


@dataclass(frozen=True)
class Audit:
    """What was found.

    Args:
        checks: the tests, in order.
        statement: the bound on false alarms.
        unusual: the steps that differ most, of the episodes since the first alarm, or of all.
        rates: detection rates of ``layers`` over the same episodes.
        layers: their names.
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
        """Whether any check raised one."""
        return any(check.alarm for check in self.checks)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The unusual steps, if there was an alarm: there always are some that differ most."""
        return self.unusual if self.alarm else ()

    @property
    def first_alarm(self) -> Check | None:
        """The first check that raised one."""
        return next((check for check in self.checks if check.alarm), None)


class Auditor:
    """Tests episodes as they come against a reference.

    Args:
        reference: episodes that can be trusted; the first that the settings ask for are used.
        forward: passes rows through the network.
        settings: of the tests; with fewer reference episodes than they ask for, what there is.
        rates: of the detection rates.
        streams: of one seed.

    Raises:
        UserError: if there are fewer than two reference episodes.
    """

    def __init__(
        self,
        reference: Sequence[Rows],
        forward: Forward,
        settings: WatchSettings,
        rates: RateSettings,
        streams: Streams,
    ) -> None:
        if len(reference) < 2:
            raise UserError(f"the reference has {len(reference)} episodes; record at least 2")
        wanted = min(settings.reference, len(reference))
        self._settings = replace(settings, reference=wanted)
        self._watch = Watch(self._settings, streams.child("audit"))
        self._forward = forward
        self._rates = rates
        self._streams = streams
        for rows in reference[:wanted]:
            self._watch.trust(Sample(rows, forward(rows)))
        self._checks: list[Check] = []
        self._alarmed = False
        # Since the first alarm: what is looked at closely.
        self._samples: deque[Sample] = deque(maxlen=LATEST_EPISODES)

    def add(self, episodes: Sequence[Rows]) -> None:
        """Test more episodes, in their order."""
        for rows in episodes:
            sample = Sample(rows, self._forward(rows))
            if not self._alarmed or len(self._samples) < LATEST_EPISODES:
                self._samples.append(sample.thinned(CLOSE_ROWS))
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
        """What was found so far.

        Raises:
            UserError: if no episode was tested yet.
        """
        if not self._samples:
            raise UserError("there is no episode to test yet: record more")
        trusted, current = joined(list(self._watch.reference)), joined(list(self._samples))
        generator = torch.Generator().manual_seed(self._streams.integer("detection rates")[0])
        named = replace(current, rows=_as_recorded(current.rows, self._samples))
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
    """The steps of ``current`` that differ most, each with the layer that says so most clearly.

    The p-value is that of this layer alone: the smallest of several, it orders and does not
    decide.
    """
    best: dict[int, tuple[float, float, str]] = {}
    for name, values in current.activations.items():
        good = values.isfinite().all(1)
        for row in torch.nonzero(~good)[:, 0].tolist():
            best.setdefault(row, (0.0, -np.inf, name))
        rows = torch.nonzero(good)[:, 0]
        x, y = trusted.activations[name], values[rows]
        if len(y) < 2:
            continue
        if name == INPUTS:
            x, y = standardised(torch.cat([x, y])).split([len(x), len(y)])
        ranked = rank_samples(x, y, WORST)
        found = zip(ranked.indices, ranked.p_values, ranked.scores, strict=True)
        for place, p, score in found:
            row, entry = int(rows[place]), (float(p), -float(score), name)
            best[row] = min(best.get(row, entry), entry)
    worst = sorted(best.items(), key=lambda item: (item[1], item[0]))[:WORST]
    where = current.rows
    return tuple(
        Violation(
            step=int(where.step[row]),
            episode=int(where.episode[row]),
            time=int(where.time[row]),
            score=-negative,
            p_value=p,
            layer=name,
        )
        for row, (p, negative, name) in worst
    )


def _as_recorded(rows: Rows, samples: Iterable[Sample]) -> Rows:
    """With the numbers that the episodes had in their recording."""
    return replace(rows, episode=np.concatenate([sample.rows.episode for sample in samples]))
