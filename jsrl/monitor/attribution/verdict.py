"""Why there is an alarm: a cause, from which statistics of a test reject.

It is decided by rules, in order. Few columns of the observation that have moved are a sensor's
fault. Units that are dead or saturated are the network's. Where the level or the spread of columns
has moved, the world is another one. Where only what follows from one step to the next, or from one
column to another, has moved, or nothing that the inputs show and yet the deeper layers, somebody
has changed the observations by little and on purpose. Where the inputs are as they were and the
first layer is not, the network is another one. Where only the answers have moved they have
collapsed, or are unsure.

A cause is a hint to where to look first, without any level of its own: ``confusion``
tells how often it is right.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import scipy

from jsrl.core.errors import UserError
from jsrl.monitor.capture.layers import INPUTS, OUTPUTS
from jsrl.monitor.detectors.findings import Finding
from jsrl.monitor.detectors.kinds.base import LAYERS, MARGINS, VALUES

NOT_FINITE = "numbers that are not finite"
SENSOR_FAULT = "sensor fault"
SHIFT = "shift"
ATTACK = "attack"
ACTION_COLLAPSE = "action collapse"
LOW_CONFIDENCE = "low confidence"
DEGRADED_NETWORK = "degraded network"
CAUSES = (
    *(NOT_FINITE, SENSOR_FAULT, SHIFT, ATTACK, ACTION_COLLAPSE, LOW_CONFIDENCE),
    DEGRADED_NETWORK,
)
FEW_COLUMNS = 0.34
"""Up to this share of the columns is few: two of six, as one sensor's often are; one always is."""

IDLE_UNITS = 0.9
"""A layer of whose units so many are dead or saturated is no use any more."""

COLLAPSE = 0.25
"""By how much more of the actions at their bounds they have collapsed."""

LEVEL_MARGINS = frozenset({"mean", "spread", "kolmogorov_smirnov"})
"""The margins that say where a column lies; others say how it goes on, and with which others."""


@dataclass(frozen=True)
class Evidence:
    """What a finding says that the rules ask for.

    Args:
        families: those that reject, or the one with the smallest p-value where none does alone.
        columns: the columns that have moved; empty where single ones were not compared.
        count: how many columns were compared.
        level_moved: whether columns lie elsewhere, or are spread otherwise.
        first_layer: whether the first inner layer rejects.
        idle: whether a layer is of no use any more.
        collapsed: whether the answers are much more often at their bounds, or of one class.
        unsure: whether confidence has moved, or is below its bound.
    """

    families: frozenset[str]
    columns: frozenset[int]
    count: int
    level_moved: bool
    first_layer: bool
    idle: bool
    collapsed: bool
    unsure: bool

    @property
    def few_columns(self) -> bool:
        """Whether the columns that have moved are some, and few."""
        return bool(self.columns) and len(self.columns) <= max(1, int(FEW_COLUMNS * self.count))


def cause_of(finding: Finding, level: float) -> str | None:
    """What is most likely wrong: one of ``CAUSES``, or None where the finding is no alarm.

    Args:
        finding: of a test.
        level: at which it decides, in (0, 1).

    Raises:
        UserError: if it is not.
    """
    if not 0 < level < 1:
        raise UserError(f"level={level} must lie between 0 and 1")
    if not finding.finite:
        return NOT_FINITE
    if finding.p_value > level and not finding.breaches:
        return None
    return _decide(evidence_of(finding, level))


def _decide(evidence: Evidence) -> str:
    families = evidence.families
    if MARGINS in families and evidence.few_columns:
        return SENSOR_FAULT
    if evidence.idle and LAYERS in families:
        return DEGRADED_NETWORK
    if evidence.collapsed:
        return ACTION_COLLAPSE
    if INPUTS in families or (MARGINS in families and evidence.level_moved):
        return SHIFT
    if MARGINS in families:
        return ATTACK
    if LAYERS in families:
        return DEGRADED_NETWORK if evidence.first_layer else ATTACK
    if OUTPUTS in families and not evidence.unsure:
        return ACTION_COLLAPSE
    # Critics that disagree are unsure, too.
    return LOW_CONFIDENCE if evidence.unsure or VALUES in families else SHIFT


def evidence_of(finding: Finding, level: float) -> Evidence:
    """What the rules ask of a finding.

    Columns have moved where their p-values, over their margins by Bonferroni, are still rejected
    with the share of false ones among them held at the level (Benjamini and Hochberg 1995); where
    none is, and the margins reject together, the column with the smallest p-value has.
    """
    families = _rejecting(finding, level)
    of_columns = _column_p_values(finding)
    moved = _discoveries(of_columns, level)
    if not moved and MARGINS in families and of_columns:
        moved = {min(of_columns, key=lambda column: of_columns[column])}
    inner = [one for one in finding.layers if one.layer not in (INPUTS, OUTPUTS)]
    first = inner[0].layer if inner else None
    before, now = finding.saturation
    statistics = {name: p for one in finding.detectors for name, p in one.statistics}
    return Evidence(
        families,
        frozenset(moved),
        len(of_columns),
        _level_moved(finding, moved, level),
        any(one.p_value <= level for one in inner if one.layer == first),
        any(max(one.dead_units, one.saturated_units) >= IDLE_UNITS for one in inner),
        now - before >= COLLAPSE or any(line.startswith("class ") for line in finding.breaches),
        statistics.get("1 - confidence", 1.0) <= level
        or any("confidence" in line for line in finding.breaches),
    )


def _rejecting(finding: Finding, level: float) -> frozenset[str]:
    found = {name for name, p in finding.families.items() if p <= level}
    if not found and finding.families and finding.p_value <= level:
        found = {min(finding.families, key=lambda name: finding.families[name])}
    return frozenset(found)


def _column_p_values(finding: Finding) -> dict[int, float]:
    """Of each column the smallest p-value of its margins, times their number."""
    own: dict[int, list[float]] = {}
    for margin in finding.margins:
        # Where there are many columns they were compared together.
        if margin.column >= 0:
            own.setdefault(margin.column, []).append(margin.p_value)
    return {column: min(1.0, len(found) * min(found)) for column, found in own.items()}


def _discoveries(p_values: Mapping[int, float], level: float) -> set[int]:
    if not p_values:
        return set()
    adjusted = scipy.stats.false_discovery_control(list(p_values.values()), method="bh")
    return {column for column, p in zip(p_values, adjusted, strict=True) if p <= level}


def _level_moved(finding: Finding, moved: set[int], level: float) -> bool:
    """Whether half of the columns that have moved lie elsewhere, or are spread otherwise.

    Single ones among many may by chance. Where columns were compared together, all of them.
    """
    elsewhere = set()
    for margin in finding.margins:
        if margin.kind in LEVEL_MARGINS and margin.p_value <= level:
            elsewhere.add(margin.column)
    asked = moved or {margin.column for margin in finding.margins}
    return 2 * len(elsewhere & asked) >= max(len(asked), 1)
