"""The report of ``jsrl detection``: power against strength, false alarms, time to detection."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.files import csv_text, read_findings, write_whole
from jsrl.monitor.studies.power import BASELINES, JOINT, LAYERS
from jsrl.monitor.studies.power_figures import draw_layers, draw_power
from jsrl.monitor.studies.power_records import (
    CLEAN,
    Record,
    false_alarms,
    in_order_of_strength,
    rejected,
)
from jsrl.report.tables import UNDEFINED, Lines, markdown_table, version_lines
from jsrl.report.templates import render_markdown


def write_power_report(output: Path, command: str) -> str:
    """Write ``README.md``, ``power.csv``, ``power.png`` and ``layers.png`` from the records.

    Args:
        output: the folder of the report, with the records in ``raw``.
        command: what was typed, as the report states it.

    Returns:
        The table of power, for the terminal.

    Raises:
        UserError: if there is no record of clean episodes, or something cannot be written.
    """
    records = [json.loads(path.read_text()) for path in sorted((output / "raw").glob("*.json"))]
    clean = next((record for record in records if record["kind"] == CLEAN), None)
    faults = [record for record in records if record["kind"] != CLEAN]
    if clean is None or not faults:
        raise UserError(f"{output / 'raw'} has no records yet; run jsrl detection to its end")
    level = float(clean["settings"]["level"])
    layers = [f"layer {name}" for name in clean["layers"]]
    methods = [JOINT, LAYERS, *BASELINES]
    draw_power(output / "power.png", clean, faults, methods, level)
    draw_layers(output / "layers.png", faults, layers, level)
    write_whole(output / "power.csv", _csv([clean, *faults], [*methods, *layers], level).encode())
    content = power_content(clean, faults, methods, layers)
    more = {"findings": read_findings(output), "command": command}
    report = render_markdown("jsrl.monitor.studies", "power.md.j2", content | more)
    write_whole(output / "README.md", report.encode())
    return markdown_table(["fault", "strength", *content["methods"]], content["power"])


def power_content(
    clean: Record, faults: Sequence[Record], methods: Sequence[str], layers: Sequence[str]
) -> dict[str, Any]:
    """What the template of the report shows.

    Args:
        clean: the record of clean episodes.
        faults: the records of faults.
        methods: the methods that are compared.
        layers: the layers that are tested alone, as methods.
    """
    settings = clean["settings"]
    level = float(settings["level"])
    windows = settings["episodes"] // settings["window"]
    return {
        "environment": clean["environment"],
        "settings": settings,
        "level": f"{level:.0%}",
        "methods": list(methods),
        "layers": [layer.removeprefix("layer ") for layer in layers],
        "false_alarms": _false_alarm_lines(clean, [*methods, *layers], level),
        "power": _power_lines(faults, methods, level),
        "power_of_layers": _power_lines(faults, layers, level),
        "times": _time_lines(clean, faults),
        "windows": windows,
        "precision": f"{0.98 / windows**0.5:.2f}",
        "versions": version_lines([clean["versions"]]),
        "minutes": f"{sum(r['wall_seconds'] for r in [clean, *faults]) / 60:.0f}",
    }


def _of_each_fault(faults: Sequence[Record]) -> list[Record]:
    """The records fault by fault, each fault from its weakest strength on."""
    kinds = dict.fromkeys(record["kind"] for record in faults)
    return [
        record
        for kind in kinds
        for record in in_order_of_strength([r for r in faults if r["kind"] == kind])
    ]


def _power_lines(faults: Sequence[Record], methods: Sequence[str], level: float) -> Lines:
    """For every fault at every strength, the share of windows that each method rejects."""
    lines = []
    for record in _of_each_fault(faults):
        shares = [rejected(record, method, level) for method in methods]
        cells = [UNDEFINED if share is None else f"{share:.2f}" for share in shares]
        lines.append([record["kind"], record["label"], *cells])
    return lines


def _false_alarm_lines(clean: Record, methods: Sequence[str], level: float) -> Lines:
    """For every method, the share of clean windows that it rejects."""
    lines = []
    for method in methods:
        found = false_alarms(clean, method, level)
        count = len(clean["p_values"].get(method, []))
        shown = UNDEFINED if found is None else f"{found[0]:.1%} ± {1.96 * found[1]:.1%}"
        lines.append([method, shown, str(count)])
    return lines


def _time_lines(clean: Record, faults: Sequence[Record]) -> Lines:
    """For every fault at every strength, how many episodes pass until an alarm."""
    lines = []
    for record in [clean, *_of_each_fault(faults)]:
        waited = record["time_to_detection"]
        seen = [value for value in waited if value is not None]
        patience = record["settings"]["patience"]
        typical = float(np.median([patience + 1 if v is None else v for v in waited]))
        shown = f"more than {patience}" if typical > patience else f"{typical:g}"
        listed = ", ".join("-" if value is None else str(value) for value in waited)
        lines.append(
            [record["kind"], record["label"], shown, f"{len(seen)} / {len(waited)}", listed]
        )
    return lines


def _csv(records: Sequence[Record], methods: Sequence[str], level: float) -> str:
    lines = [["fault", "strength", "value", "method", "windows", "rejected"]]
    for record in records:
        for method in methods:
            share = rejected(record, method, level)
            count = str(len(record["p_values"].get(method, [])))
            value = "" if share is None else f"{share:.4f}"
            strength = f"{record['strength']:.6g}"
            lines.append([record["kind"], record["label"], strength, method, count, value])
    return csv_text(lines)
