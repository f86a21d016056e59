"""What the cause of an alarm is where a study knows it, since the study brought it about."""

from jsrl.monitor.attribution.verdict import ATTACK, SENSOR_FAULT, SHIFT
from jsrl.monitor.studies.faults import DYNAMICS, SENSOR_FAULTS


def expected_cause(what: str) -> str | None:
    """The cause of a fault of ``jsrl detection`` by its kind; None for ``clean``.

    Any other kind is taken for an attack's.
    """
    if what == "clean":
        return None
    if what in SENSOR_FAULTS:
        return SENSOR_FAULT
    return SHIFT if what in DYNAMICS else ATTACK
