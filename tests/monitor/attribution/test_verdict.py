"""The cause of an alarm: each rule on a finding by hand, and a confusion matrix by hand."""

from dataclasses import replace

import pytest

from jsrl.core.errors import UserError
from jsrl.monitor.attribution import verdict
from jsrl.monitor.attribution.confusion import (
    NO_ALARM,
    confusion,
    confusion_table,
    expected_cause,
)
from jsrl.monitor.attribution.verdict import cause_of
from jsrl.monitor.detectors.findings import DetectorFinding, Finding, LayerFinding, MarginFinding

LEVEL = 0.05
KINDS = ("mean", "spread", "change", "relation")
LAYERS = ("inputs", "mlp.activation_0", "mlp.activation_1", "outputs")
FAMILIES = ("inputs", "margins", "layers", "outputs", "values")


def margins(moved: dict[int, tuple[str, ...]], columns: int = 6) -> tuple[MarginFinding, ...]:
    return tuple(
        MarginFinding(column, "exploration", kind, 0.001 if kind in moved.get(column, ()) else 0.5)
        for kind in KINDS
        for column in range(columns)
    )


def layers(*moved: str, dead: float = 0.0) -> tuple[LayerFinding, ...]:
    return tuple(
        LayerFinding(name, "exploration", 0, 0.001 if name in moved else 0.6, 0.1, dead, 0.0)
        for name in LAYERS
    )


def finding(*families: str, **others: object) -> Finding:
    values = {name: 0.001 if name in families else 0.4 for name in FAMILIES}
    p = 0.005 if families else 0.4
    quiet = Finding(p, p, 0.001, layers(), margins({}), 0.3, (0.1, 0.1), finite=True)
    return replace(quiet, **{"families": values, **others})


ALL = dict.fromkeys(range(6), ("mean",))
JITTER = dict.fromkeys(range(6), ("change", "relation"))
UNSURE = (DetectorFinding("confidence", 0.001, (("1 - confidence", 0.001),)),)


@pytest.mark.parametrize(
    ("of", "cause"),
    [
        (finding(), None),
        (finding("inputs", finite=False), verdict.NOT_FINITE),
        (finding("margins", margins=margins({4: ("mean",)})), verdict.SENSOR_FAULT),
        # That everything behind the sensor has moved as well is the sensor's fault, too.
        (finding(*FAMILIES, margins=margins({4: KINDS, 1: ("relation",)})), verdict.SENSOR_FAULT),
        (finding("inputs", "margins", "layers", margins=margins(ALL)), verdict.SHIFT),
        (finding("inputs"), verdict.SHIFT),
        (finding("margins", "layers", margins=margins(JITTER)), verdict.ATTACK),
        (finding("layers", layers=layers("mlp.activation_1")), verdict.ATTACK),
        (finding("layers", layers=layers(*LAYERS[1:])), verdict.DEGRADED_NETWORK),
        (finding("layers", layers=layers(LAYERS[2], dead=0.95)), verdict.DEGRADED_NETWORK),
        (finding("outputs"), verdict.ACTION_COLLAPSE),
        (finding("inputs", "outputs", saturation=(0.1, 0.6)), verdict.ACTION_COLLAPSE),
        (finding("outputs", detectors=UNSURE), verdict.LOW_CONFIDENCE),
        (finding("values"), verdict.LOW_CONFIDENCE),
        (finding(breaches=("mean confidence 0.300 is below 0.5",)), verdict.LOW_CONFIDENCE),
        (finding(breaches=("class 3 has a share of 0.9, above 0.5",)), verdict.ACTION_COLLAPSE),
    ],
)
def test_each_rule(of: Finding, cause: str | None) -> None:
    assert cause_of(of, LEVEL) == cause


def test_a_column_alone_among_many_that_no_correction_leaves_is_still_named() -> None:
    """With 100 columns and a smallest p-value of 0.001 none is rejected by itself."""
    many = margins({70: ("mean",)}, columns=100)
    assert cause_of(finding("margins", margins=many), LEVEL) == verdict.SENSOR_FAULT


def test_columns_that_are_compared_together_are_not_few() -> None:
    pooled = tuple(MarginFinding(-1, "exploration", kind, 0.001) for kind in KINDS)
    assert cause_of(finding("margins", margins=pooled), LEVEL) == verdict.SHIFT


def test_where_families_reject_together_alone_the_smallest_decides() -> None:
    together = replace(
        finding("inputs"), families={"inputs": 0.3, "outputs": 0.06, "layers": 0.2}, p_value=0.04
    )
    assert cause_of(together, LEVEL) == verdict.ACTION_COLLAPSE


def test_a_confusion_matrix_by_hand() -> None:
    sensor = finding("margins", margins=margins({4: ("mean",)}))
    found = [
        (verdict.SENSOR_FAULT, sensor),
        (verdict.SENSOR_FAULT, sensor),
        (verdict.SENSOR_FAULT, finding()),
        (verdict.ATTACK, sensor),
        (None, finding()),
    ]
    matrix = confusion(found, LEVEL)
    assert list(matrix) == [verdict.SENSOR_FAULT, verdict.ATTACK, NO_ALARM]
    assert matrix[verdict.SENSOR_FAULT][verdict.SENSOR_FAULT] == 2
    assert matrix[verdict.SENSOR_FAULT][NO_ALARM] == 1
    assert matrix[verdict.ATTACK][verdict.SENSOR_FAULT] == 1
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in confusion_table(matrix).splitlines()
    ]
    assert cells[0][1:] == ["sensor fault", "no alarm", "right"]
    assert cells[2:] == [
        ["sensor fault", "2", "1", "0.67"],
        ["attack", "1", "0", "0.00"],
        ["no alarm", "0", "1", "1.00"],
    ]


def test_what_a_study_tries_has_its_cause() -> None:
    assert [expected_cause(kind) for kind in ("clean", "stuck", "mass", "pgd")] == [
        *(None, verdict.SENSOR_FAULT, verdict.SHIFT, verdict.ATTACK)
    ]


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match="level=0"):
        cause_of(finding(), 0)
    with pytest.raises(UserError, match=r"cause='ghost' is unknown"):
        confusion([("ghost", finding())], LEVEL)
