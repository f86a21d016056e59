"""What an audit found, as ``violations.json`` for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsrl.core.files import write_whole
from jsrl.monitor.page.content import margins_that_moved_most
from jsrl.monitor.watch.audit import Audit


def write_violations(
    path: Path, found: Audit, of: Mapping[str, Any], columns: Sequence[str] = ()
) -> None:
    """Write ``violations.json``.

    Args:
        path: where the file is written.
        found: the audit that the file is about.
        of: what was audited: its run, seed, data and fault.
        columns: the names of the columns of the observation, if they are known.

    Raises:
        UserError: if the file cannot be written.
    """
    content = _without_non_finite(_violations(found, of, columns))
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def _violations(found: Audit, of: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    first = found.first_alarm
    return {
        "of": dict(of),
        "alarm": found.alarm,
        "first_alarm_test": found.first_alarm_test,
        "first_alarm_episode": None if first is None else first.episode,
        "bound": found.statement,
        "violations": [vars(violation) for violation in found.violations],
        "checks": [
            {
                "episode": check.episode,
                "step": check.step,
                "p_value": check.p_value,
                "level": check.level,
                "smallest_p": check.finding.smallest_p,
                "method": check.method,
                "alarm": check.alarm,
                "note": check.note,
                "cause": check.finding.cause,
            }
            for check in found.checks
        ],
        "columns": [
            {
                "column": margin.column,
                "name": columns[margin.column] if 0 <= margin.column < len(columns) else None,
                "what": margin.kind,
                "actor": margin.actor,
                "p_value": margin.p_value,
            }
            for margin in margins_that_moved_most(found)
        ],
        "layers": [
            {"layer": name, "detection_rate": float(rate), "null_quantile": float(quantile)}
            for name, rate, quantile in zip(
                found.layers, found.rates.rates, found.rates.null_quantiles, strict=True
            )
        ],
    }


def _without_non_finite(value: Any) -> Any:
    """The same structure, with None where a number is NaN or infinite: JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: _without_non_finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_non_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
