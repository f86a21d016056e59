"""Look at episodes one after another, and say what was found: the work of ``jsrl monitor``.

An audit holds everything that its reports show, as plain values and arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.errors import UserError
from jsrl.monitor.detector import Sample
from jsrl.monitor.rates import DetectionRates, RateSettings, detection_rates
from jsrl.monitor.rows import Rows
from jsrl.monitor.watch import Check, Forward, Watch, WatchSettings, joined
from jsrl.monitor.witness import rank_samples
from jsrl.seeding import Streams

WORST = 100
"""Violations that are listed."""

RANKED_REFERENCE = 2000
"""Rows of the reference that samples are ranked against: more would fill the memory."""


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
        checks: of every episode, in order.
        statement: the bound on false alarms.
        violations: the steps that differ most, of the episodes since the first alarm, or of all.
        rates: detection rates of ``layers``.
        layers: their names.
        reference: the episodes that were trusted.
        current: the episodes that the last two are about.
    """

    checks: tuple[Check, ...]
    statement: str
    violations: tuple[Violation, ...]
    rates: DetectionRates
    layers: tuple[str, ...]
    reference: Sample
    current: Sample

    @property
    def alarm(self) -> bool:
        """Whether any check raised one."""
        return any(check.alarm for check in self.checks)

    @property
    def first_alarm(self) -> Check | None:
        """The first check that did."""
        return next((check for check in self.checks if check.alarm), None)


def audit(
    reference: Sequence[Rows],
    episodes: Sequence[Rows],
    forward: Forward,
    settings: WatchSettings,
    rates: RateSettings,
    streams: Streams,
) -> Audit:
    """Test episodes in their order against a reference.

    Args:
        reference: episodes that can be trusted; the latest that the settings ask for are used.
        episodes: in question.
        forward: passes rows through the network.
        settings: of the tests; with fewer reference episodes than they ask for, what there is.
        rates: of the detection rates.
        streams: of one seed.

    Raises:
        UserError: if there are fewer than two reference episodes, or none in question.
    """
    if len(reference) < 2 or not episodes:
        raise UserError(
            f"{len(reference)} episodes are the reference and {len(episodes)} in question; at "
            "least 2 and 1 are needed: record more"
        )
    wanted = min(settings.reference, len(reference))
    watch = Watch(replace(settings, reference=wanted), streams.child("audit"))
    for rows in reference[-wanted:]:
        watch.trust(_sample(rows, forward))
    checks, samples = [], []
    for rows in episodes:
        sample = _sample(rows, forward)
        check = watch.add(sample)
        samples.append(sample)
        if check is not None:
            checks.append(check)
    first = next((i for i, check in enumerate(checks) if check.alarm), None)
    since = 0 if first is None else max(0, (first + 1) * settings.stride - settings.window)
    trusted, current = joined(list(watch.reference)), joined(samples[since:])
    named = replace(current, rows=_numbered(current.rows, episodes[since:]))
    generator = torch.Generator().manual_seed(streams.integer("detection rates")[0])
    return Audit(
        tuple(checks),
        settings.statement(),
        violations(trusted, named),
        _rates(trusted, current, rates, generator),
        tuple(trusted.activations),
        trusted,
        named,
    )


def violations(trusted: Sample, current: Sample) -> tuple[Violation, ...]:
    """The steps of ``current`` that differ most, each with the layer that says so most clearly."""
    best: dict[int, tuple[float, float, str]] = {}
    for name, values in current.activations.items():
        x = trusted.activations[name]
        x = x[:: max(1, len(x) // RANKED_REFERENCE)]
        good = values.isfinite().all(1)
        for row in torch.nonzero(~good)[:, 0].tolist():
            best.setdefault(row, (0.0, -np.inf, name))
        rows = torch.nonzero(good)[:, 0]
        if len(rows) < 2:
            continue
        ranked = rank_samples(x, values[rows], WORST)
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


def layer_arrays(sample: Sample) -> dict[str, Float[NDArray[np.float32], "N _"]]:
    """Activations as arrays, finite rows only."""
    arrays = {name: values.cpu().numpy() for name, values in sample.activations.items()}
    return {name: values[np.isfinite(values).all(1)] for name, values in arrays.items()}


def _sample(rows: Rows, forward: Forward) -> Sample:
    return Sample(rows, forward(rows))


def _rates(
    trusted: Sample, current: Sample, settings: RateSettings, generator: torch.Generator
) -> DetectionRates:
    first = int(trusted.rows.episode.max()) + 1
    blocks = torch.from_numpy(np.concatenate([trusted.rows.episode, current.rows.episode + first]))
    layers = [
        torch.nan_to_num(torch.cat([values, current.activations[name]]))
        for name, values in trusted.activations.items()
    ]
    return detection_rates(layers, blocks, first, settings, generator)


def _numbered(rows: Rows, episodes: Sequence[Rows]) -> Rows:
    """With the numbers that the episodes had in their recording."""
    values: dict[str, Any] = dict(rows.__dict__)
    values["episode"] = np.concatenate([episode.episode for episode in episodes])
    return Rows(**values)
