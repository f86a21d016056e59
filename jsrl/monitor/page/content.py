"""The plain data that the page of an audit shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jsrl.monitor.capture.columns import name_of_column
from jsrl.monitor.detectors.findings import MarginFinding
from jsrl.monitor.page.timeline import draw_timeline
from jsrl.monitor.watch.audit import Audit, Violation
from jsrl.monitor.watch.embedding import draw_embedding
from jsrl.monitor.watch.episode_watch import Check

LISTED_STEPS = 25
LISTED_COLUMNS = 8


@dataclass(frozen=True)
class FirstAlarm:
    """The first alarm: the number of its test, counted from 1, and of its last episode.

    ``p_value`` is that of the test, and 0 where something is not finite; ``cause`` is what is most
    likely wrong, if the test can tell.
    """

    test: int
    episode: int
    finite: bool
    p_value: float
    cause: str | None


@dataclass(frozen=True)
class LayerLine:
    """What the page says about one layer; numbers that are not known are NaN.

    Args:
        name: of the layer.
        rate: its detection rate.
        null_quantile: what the rate would stay below if nothing were wrong.
        p_value: of the layer alone, uncorrected, in the test that decided.
        dead_units: the share of its units that never change.
        saturated_units: the share of its units that stay at a bound.
    """

    name: str
    rate: float
    null_quantile: float
    p_value: float
    dead_units: float
    saturated_units: float


@dataclass(frozen=True)
class ColumnLine:
    """What the page says about one column of the observation; see ``MarginFinding``."""

    name: str
    kind: str
    actor: str
    p_value: float


@dataclass(frozen=True)
class PageContent:
    """Everything that the template shows.

    Args:
        run: the name of what was audited.
        subject: what was audited, by name, and how much of it.
        tests: how many tests were made.
        alarms: how many of them raised an alarm.
        bound: the bound on false alarms, in a sentence.
        first_alarm: the first alarm, if there was one.
        notes: what is to be known about the tests.
        timeline: a PNG of all tests.
        layers: what is known of each layer.
        columns: the columns of the observation that moved most.
        unusual: the steps that differ most.
        violations: how many steps ``violations.json`` lists.
        embedding: a PNG of the activations in a plane, if there is anything finite to draw.
    """

    run: str
    subject: dict[str, str]
    tests: int
    alarms: int
    bound: str
    first_alarm: FirstAlarm | None
    notes: tuple[str, ...]
    timeline: bytes
    layers: tuple[LayerLine, ...]
    columns: tuple[ColumnLine, ...]
    unusual: tuple[Violation, ...]
    violations: int
    embedding: bytes | None


def page_content(found: Audit, of: Mapping[str, Any], columns: Sequence[str] = ()) -> PageContent:
    """The data of a page.

    Args:
        found: the audit that the page shows.
        of: what was audited: its run, seed, data and fault; what is None is left out.
        columns: the names of the columns of the observation, if they are known.
    """
    subject = {name: str(value) for name, value in of.items() if value is not None}
    subject["reference episodes"] = str(len(np.unique(found.reference.steps.episode)))
    subject["tests"] = str(len(found.checks))
    return PageContent(
        run=str(of["run"]),
        subject=subject,
        tests=len(found.checks),
        alarms=sum(check.alarm for check in found.checks),
        bound=found.statement,
        first_alarm=_first_alarm(found),
        notes=tuple(dict.fromkeys(check.note for check in found.checks if check.note)),
        timeline=draw_timeline(found.checks),
        layers=_layer_lines(found),
        columns=tuple(
            ColumnLine(name_of_column(m.column, columns), m.kind, m.actor, m.p_value)
            for m in margins_that_moved_most(found)
        ),
        unusual=found.unusual[:LISTED_STEPS],
        violations=len(found.violations),
        embedding=_embedding(found),
    )


def margins_that_moved_most(found: Audit) -> list[MarginFinding]:
    """The margins with the smallest p-values in the test that decided."""
    check = _deciding_check(found)
    margins = () if check is None else check.finding.margins
    return sorted(margins, key=lambda m: m.p_value)[:LISTED_COLUMNS]


def _deciding_check(found: Audit) -> Check | None:
    """The first test that raised an alarm, or the last test if none did."""
    return found.first_alarm or (found.checks[-1] if found.checks else None)


def _first_alarm(found: Audit) -> FirstAlarm | None:
    check, test = found.first_alarm, found.first_alarm_test
    if check is None or test is None:
        return None
    finding = check.finding
    return FirstAlarm(test, check.episode, finding.finite, check.p_value, finding.cause)


def _layer_lines(found: Audit) -> tuple[LayerLine, ...]:
    check = _deciding_check(found)
    known = {} if check is None else _smallest_of_layers(check)
    unknown = (math.nan, math.nan, math.nan)
    return tuple(
        LayerLine(name, float(rate), float(quantile), *known.get(name, unknown))
        for name, rate, quantile in zip(
            found.layers, found.rates.rates, found.rates.null_quantiles, strict=True
        )
    )


def _smallest_of_layers(check: Check) -> dict[str, tuple[float, float, float]]:
    """For each layer the p-value and the units of the cell in which it differs most."""
    found: dict[str, tuple[float, float, float]] = {}
    for one in check.finding.layers:
        entry = (one.p_value, one.dead_units, one.saturated_units)
        found[one.layer] = min(found.get(one.layer, entry), entry)
    return found


def _embedding(found: Audit) -> bytes | None:
    reference = found.reference.finite_activations()
    current = found.current.finite_activations()
    both = {
        name: (values, current[name])
        for name, values in reference.items()
        if len(values) > 1 and len(current[name]) > 1
    }
    return draw_embedding(both) if both else None
