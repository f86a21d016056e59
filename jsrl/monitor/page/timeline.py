"""A picture of the tests of an audit, one after another."""

from collections.abc import Sequence

import numpy as np

from jsrl.core.pictures import new_figure, png
from jsrl.monitor.watch.episode_watch import Check
from jsrl.report.figures import COLOURS


def draw_timeline(checks: Sequence[Check]) -> bytes:
    """A PNG of p-values over the tests, on a logarithmic axis, and the levels of an alarm."""
    figure = new_figure(7.0, 2.8)
    axis = figure.subplots()
    places = np.arange(1, len(checks) + 1)
    lowest = min((c.finding.smallest_p for c in checks if c.finding.smallest_p > 0), default=1e-4)
    p = np.array([max(check.p_value, lowest / 2) for check in checks])
    alarms = np.array([check.alarm for check in checks], bool)
    axis.plot(places, p, color=COLOURS[0], lw=1, zorder=2)
    axis.scatter(places[~alarms], p[~alarms], s=14, color=COLOURS[0], label="no alarm", zorder=3)
    if alarms.any():
        axis.scatter(
            *(places[alarms], p[alarms]),
            s=34,
            marker="X",
            color=COLOURS[1],
            label="alarm",
            zorder=4,
        )
    levels = [check.level for check in checks]
    axis.plot(places, levels, color="#555555", ls="--", lw=1, label="level")
    axis.set_yscale("log")
    axis.set_xlabel("test")
    axis.set_ylabel("p-value")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    return png(figure)
