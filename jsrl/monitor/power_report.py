"""The report of ``jsrl detection``: power against strength, false alarms, time to detection."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jsrl.errors import UserError
from jsrl.figures import COLOURS, DOTS_PER_INCH
from jsrl.files import read_findings, write_whole
from jsrl.monitor.power import BASELINES, JOINT, LAYERS
from jsrl.report import UNDEFINED, markdown_table

CLEAN = "clean"
COLUMNS_OF_PANELS = 4
Record = Mapping[str, Any]


def write_power_report(output: Path, command: str) -> str:
    """Write ``README.md``, ``power.csv``, ``power.png`` and ``layers.png`` from the records.

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
    table = _power_table(faults, methods, level)
    draw_power(output / "power.png", clean, faults, methods, level)
    draw_layers(output / "layers.png", faults, layers, level)
    write_whole(output / "power.csv", _csv([clean, *faults], [*methods, *layers], level).encode())
    sections = [
        f"# Detecting faults: {clean['environment']}",
        *read_findings(output),
        "## False alarms where nothing is wrong",
        _null_table(clean, [*methods, *layers], level),
        "## Power",
        table,
        "![Share of windows in which each method rejects, against the strength](power.png)",
        "## Every layer alone",
        _power_table(faults, layers, level),
        "![The same for every layer](layers.png)",
        "## Time to detection, in episodes",
        _time_table(clean, faults),
        _reading(clean),
        "## Versions",
        markdown_table(["package", "version"], [[k, str(v)] for k, v in clean["versions"].items()]),
        f"## Repeat\n\n```\n{command}\n```\n\n"
        f"{sum(r['wall_seconds'] for r in records) / 60:.0f} minutes in all.",
    ]
    write_whole(output / "README.md", ("\n\n".join(sections) + "\n").encode())
    return table


def rejected(record: Record, method: str, level: float) -> float | None:
    """The share of windows in which a method rejects; None where it said nothing."""
    values = [p for p in record["p_values"].get(method, []) if p is not None]
    return float(np.mean(np.array(values) <= level)) if values else None


def false_alarms(clean: Record, method: str, level: float) -> tuple[float, float] | None:
    """The share of clean windows that a method rejects, and its standard error over roll-outs.

    Windows of a roll-out share a reference, so that roll-outs are what is independent.
    """
    values = clean["p_values"].get(method)
    if not values:
        return None
    rejects, rollouts = np.array(values, float) <= level, np.array(clean["rollouts"])
    shares = np.array([rejects[rollouts == number].mean() for number in np.unique(rollouts)])
    return float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares)))


def draw_power(
    path: Path, clean: Record, faults: Sequence[Record], methods: Sequence[str], level: float
) -> None:
    """A panel for each fault: power against strength, a line for each method."""
    _draw(path, faults, methods, level, {m: rejected(clean, m, level) or 0.0 for m in methods})


def draw_layers(path: Path, faults: Sequence[Record], layers: Sequence[str], level: float) -> None:
    """The same with a line for each layer alone."""
    _draw(path, faults, layers, level, {})


def _draw(
    path: Path,
    faults: Sequence[Record],
    methods: Sequence[str],
    level: float,
    null: Mapping[str, float],
) -> None:
    kinds = list(dict.fromkeys(record["kind"] for record in faults))
    rows = -(-len(kinds) // COLUMNS_OF_PANELS)
    figure = Figure(figsize=(9.0, 2.1 * rows + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS_OF_PANELS, squeeze=False, sharey=True).ravel()
    for axis, kind in zip(axes, kinds, strict=False):
        own = _ordered([record for record in faults if record["kind"] == kind])
        places = np.arange(len(own))
        for number, method in enumerate(methods):
            power = [rejected(record, method, level) for record in own]
            label = method.removeprefix("layer ")
            if method in null:
                label = f"{label} (false alarms {null[method]:.1%})"
            axis.plot(
                places,
                [np.nan if value is None else value for value in power],
                color=COLOURS[number % len(COLOURS)],
                marker="os^Dvx+"[number % 7],
                ms=4,
                lw=1.2,
                # What rejects clean windows as well has no power to be compared.
                alpha=0.25 if null.get(method, 0.0) > 2 * level else 1.0,
                label=label,
            )
        axis.axhline(level, color="#777777", lw=0.8, ls=":")
        axis.set_xticks(places, [record["label"] for record in own], fontsize=7)
        axis.set_title(kind, fontsize=9)
        axis.set_ylim(-0.03, 1.03)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in axes[len(kinds) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.supylabel("share of windows rejected", fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    write_whole(path, image.getvalue())


def _ordered(records: Sequence[Record]) -> list[Record]:
    """By how far they are from nothing: numbers in the order in which they were set."""
    order = {"rescaled": ["0.9", "0.5", "2.0"], "friction": ["0.7", "0.3", "0.0"]}
    order["gear"] = ["0.9", "0.7", "0.5"]
    kind = records[0]["kind"]
    if kind in order:
        return sorted(records, key=lambda record: order[kind].index(record["label"]))
    return sorted(records, key=lambda record: float(record["label"]))


def _power_table(faults: Sequence[Record], methods: Sequence[str], level: float) -> str:
    kinds = dict.fromkeys(record["kind"] for record in faults)
    body = []
    for kind in kinds:
        for record in _ordered([r for r in faults if r["kind"] == kind]):
            shares = [rejected(record, method, level) for method in methods]
            cells = [UNDEFINED if share is None else f"{share:.2f}" for share in shares]
            body.append([kind, record["label"], *cells])
    header = ["fault", "strength", *(method.removeprefix("layer ") for method in methods)]
    return markdown_table(header, body)


def _null_table(clean: Record, methods: Sequence[str], level: float) -> str:
    body = []
    for method in methods:
        found = false_alarms(clean, method, level)
        count = len(clean["p_values"].get(method, []))
        shown = UNDEFINED if found is None else f"{found[0]:.1%} ± {1.96 * found[1]:.1%}"
        body.append([method, shown, str(count)])
    return markdown_table(["method", f"rejected at {level:.0%}", "windows"], body)


def _time_table(clean: Record, faults: Sequence[Record]) -> str:
    body = []
    kinds = dict.fromkeys(record["kind"] for record in faults)
    records = [clean]
    for kind in kinds:
        records += _ordered([r for r in faults if r["kind"] == kind])
    for record in records:
        waited = record["time_to_detection"]
        seen = [value for value in waited if value is not None]
        patience = record["settings"]["patience"]
        typical = float(np.median([patience + 1 if v is None else v for v in waited]))
        shown = f"more than {patience}" if typical > patience else f"{typical:g}"
        listed = ", ".join("-" if value is None else str(value) for value in waited)
        body.append(
            [record["kind"], record["label"], shown, f"{len(seen)} / {len(waited)}", listed]
        )
    return markdown_table(["fault", "strength", "median", "alarms", "each sequence"], body)


def _reading(clean: Record) -> str:
    s = clean["settings"]
    lines = [
        f"Windows of {s['window']} whole episodes, one after another, against {s['reference']} of "
        f"the reference. Clean windows: {s['rollouts']} independent roll-outs of {s['clean']} "
        "episodes each, the first of them the reference; ± 95 %, over roll-outs. A fault: "
        f"{s['episodes']} episodes, from first step to last with it, against the reference of the "
        f"first roll-out: {s['episodes'] // s['window']} windows, so that a power of 0.5 is known "
        f"to ± {0.98 / (s['episodes'] // s['window']) ** 0.5:.2f}.",
        f"Sensor faults are of column {s['column']} of the observation (`swapped`: with "
        f"{s['other']}). Strength of `stuck`: standard deviations from the column's mean at which "
        "it is held; `biased`, `noisy`: standard deviations; `dropped`: probability of reading 0; "
        "`delayed`: steps; `rescaled`, `mass`, `friction`, `gear`: factor.",
        "`joint`: min-p over all layers and the margins of the observation, whole episodes "
        "permuted; `joint of layers`: without the margins. "
        "`raw observations`: MMD of the observation as it is, whole episodes permuted. "
        "`Kolmogorov-Smirnov`: of every column, steps as independent draws, Bonferroni: as it is "
        "commonly used. `Mahalanobis`: action-conditional, of the last hidden layer, whole "
        "episodes permuted.",
        "A method whose false alarms are above the level has no power to be compared: it rejects "
        "clean windows as well.",
        "Time to detection: episodes until the alarm of a watch that promises at most 5 % for any "
        f"false alarm in 200 episodes; sequences end after {s['patience']}.",
    ]
    return "## How to read it\n\n" + "\n".join(f"- {line}" for line in lines)


def _csv(records: Sequence[Record], methods: Sequence[str], level: float) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["fault", "strength", "value", "method", "windows", "rejected"])
    for record in records:
        for method in methods:
            share = rejected(record, method, level)
            count = len(record["p_values"].get(method, []))
            value = "" if share is None else f"{share:.4f}"
            writer.writerow(
                [record["kind"], record["label"], f"{record['strength']:.6g}", method, count, value]
            )
    return text.getvalue()
