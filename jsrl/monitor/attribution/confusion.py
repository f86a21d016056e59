"""How often the cause that is named for an alarm is the true one: a confusion matrix."""

from collections.abc import Mapping, Sequence

from jsrl.core.errors import UserError
from jsrl.monitor.attribution.verdict import ATTACK, CAUSES, SENSOR_FAULT, SHIFT, cause_of
from jsrl.monitor.detectors.findings import Finding
from jsrl.monitor.studies.faults import DYNAMICS, SENSOR_FAULTS
from jsrl.report.tables import UNDEFINED, markdown_table

NO_ALARM = "no alarm"


def expected_cause(what: str) -> str | None:
    """The cause of a fault of ``jsrl detection`` by its kind; None for ``clean``.

    Any other kind is taken for an attack's.
    """
    if what == "clean":
        return None
    if what in SENSOR_FAULTS:
        return SENSOR_FAULT
    return SHIFT if what in DYNAMICS else ATTACK


def confusion(
    findings: Sequence[tuple[str | None, Finding]], level: float
) -> dict[str, dict[str, int]]:
    """How often which cause is named, by the true one.

    Args:
        findings: the true cause of each, None where nothing is wrong, and what was found.
        level: at which they decide.

    Returns:
        For each true cause, in the order of ``CAUSES`` and ``NO_ALARM`` last, the number of
        findings by the cause that is named.

    Raises:
        UserError: if a true cause is none of ``CAUSES``, or the level is out of range.
    """
    order = (*CAUSES, NO_ALARM)
    counts: dict[str, dict[str, int]] = {}
    for true, finding in findings:
        of = NO_ALARM if true is None else true
        if of not in order:
            raise UserError(f"cause={true!r} is unknown; choose one of {', '.join(CAUSES)}")
        named = cause_of(finding, level) or NO_ALARM
        row = counts.setdefault(of, dict.fromkeys(order, 0))
        row[named] += 1
    return {of: counts[of] for of in order if of in counts}


def confusion_table(matrix: Mapping[str, Mapping[str, int]]) -> str:
    """A Markdown table: a line for each true cause, a column for each cause that is named.

    The last column is the share of its findings that are named right.
    """
    order = [*CAUSES, NO_ALARM]
    named = [of for of in order if any(row.get(of, 0) for row in matrix.values())]
    lines = []
    for of, row in matrix.items():
        total = sum(row.values())
        right = f"{row.get(of, 0) / total:.2f}" if total else UNDEFINED
        lines.append([of, *(str(row.get(name, 0)) for name in named), right])
    return markdown_table(["true cause \\ named", *named, "right"], lines)
