"""Pictures of how well faults are noticed, for the report of ``jsrl detection``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.monitor.studies.power_records import Record, in_order_of_strength, rejected
from jsrl.report.figures import COLOURS

COLUMNS_OF_PANELS = 4


def draw_power(
    path: Path, clean: Record, faults: Sequence[Record], methods: Sequence[str], level: float
) -> None:
    """A panel for each fault: power against strength, a line for each method."""
    _draw(path, faults, methods, level, {m: rejected(clean, m, level) or 0.0 for m in methods})


def draw_layers(path: Path, faults: Sequence[Record], layers: Sequence[str], level: float) -> None:
    """Draw power against strength, with a line for each layer alone."""
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
    figure = new_figure(9.0, 2.1 * rows + 0.5)
    axes = figure.subplots(rows, COLUMNS_OF_PANELS, squeeze=False, sharey=True).ravel()
    for axis, kind in zip(axes, kinds, strict=False):
        own = in_order_of_strength([record for record in faults if record["kind"] == kind])
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
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(kinds) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.supylabel("share of windows rejected", fontsize=8)
    write_whole(path, png(figure))
