"""What the report says of the bar: its tables, its verdicts, and the numbers behind them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsrl.core.files import csv_text, write_whole
from jsrl.grid.advantage import Arm, Estimate, all_arms, draw_advantage
from jsrl.grid.config import GridConfig, NeverBehindConfig
from jsrl.grid.csv_rows import NO_INTERVAL, Rows, number
from jsrl.grid.never_behind import Bar, hold_to_bar
from jsrl.grid.report_tables import Table, interval_text, readable
from jsrl.grid.results import Result
from jsrl.report.tables import MEASURES, UNDEFINED

FIGURE = "advantage.png"
ANSWERS = {True: "yes", False: "no", None: "not told yet"}
VERDICTS = {
    True: "It holds",
    False: "It does not hold",
    None: "It cannot be told yet whether it holds, since runs are missing",
}


def never_behind_content(
    grid: GridConfig, results: Sequence[Result], output: Path
) -> dict[str, Any] | None:
    """Write ``never_behind.csv``, ``arms.csv`` and the figure.

    Returns:
        What the template shows; None for a grid without a bar.
    """
    bar, measure = grid.never_behind, grid.measure
    if bar.arm is None or bar.over is None:
        return None
    found, arms = hold_to_bar(results, bar, measure), all_arms(results, bar, measure)
    for name, rows in (
        ("never_behind.csv", _standing_rows(found, bar)),
        ("arms.csv", _arm_rows(arms, bar)),
    ):
        write_whole(output / name, csv_text(rows).encode())
    reached = sum(improvement.reached is True for improvement in found.improvements)
    return {
        "label": grid.arms[bar.arm].label,
        "arm": bar.arm,
        "over": grid.arms[bar.over].label,
        "baselines": listed([grid.arms[name].label for name in bar.baselines]),
        "margin": f"{bar.margin:g}",
        "points": listed([percent(share) for share in bar.at]),
        "last": percent(bar.at[-1]),
        "improvement": f"{bar.improvement:g}",
        "improvement_at": percent(bar.improvement_at),
        "improvement_cells": percent(bar.improvement_cells),
        "seeds": len(grid.seeds),
        "verdict": VERDICTS[found.is_never_behind],
        "improvement_verdict": VERDICTS[found.improves],
        "reached": reached,
        "cells": len(found.improvements),
        "standings": _standings_table(found, measure),
        "improvements": _improvements_table(found),
        "arms": _arms_table(arms, bar, measure),
        "figure": FIGURE if draw_advantage(output / FIGURE, arms, bar, readable(measure)) else None,
    }


def listed(words: Sequence[str]) -> str:
    """``20 %, 50 % and 100 %``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def _standings_table(bar: Bar, measure: str) -> Table:
    style = MEASURES[measure]
    rows = []
    for s in bar.standings:
        own, best = (UNDEFINED, UNDEFINED)
        if s.means is not None:
            own, best = (f"{mean:{style}}" for mean in s.means)
        rows.append(
            [
                *(s.cell, UNDEFINED if s.step is None else f"{s.step:,}"),
                UNDEFINED if s.best is None else s.best.label,
                *(f"{s.seeds[0]} / {s.seeds[1]}", own, best),
                interval_text(s.difference, s.interval, f"+{style}"),
                ANSWERS[s.holds],
            ]
        )
    header = [
        *("cell", "at step", "best baseline there", "seeds", f"{readable(measure)}: the arm"),
        *("the baseline", "difference", "within the margin"),
    ]
    return Table(header, rows)


def _improvements_table(bar: Bar) -> Table:
    rows = [
        [
            *(found.cell, UNDEFINED if found.step is None else f"{found.step:,}"),
            interval_text(found.probability, found.interval, ".2f"),
            ANSWERS[found.reached],
        ]
        for found in bar.improvements
    ]
    return Table(["cell", "at step", "P(the arm is better)", "high enough"], rows)


def _arms_table(arms: Sequence[Arm], bar: NeverBehindConfig, measure: str) -> Table:
    def shown(estimate: Estimate | None, sign: str = "") -> str:
        if estimate is None:
            return UNDEFINED
        return interval_text(estimate.mean, estimate.interval, sign + MEASURES[measure])

    header = [
        *("cell", "", "guide alone", *(f"at {percent(share)}" for share in bar.at)),
        *("area under the curve", f"more than `{bar.over}`, at {percent(bar.at[-1])}"),
    ]
    rows = [
        [
            *(arm.result.cell, f"{arm.result.label} (`{arm.result.arm}`)"),
            *map(shown, (arm.guide, *arm.at, arm.area)),
            shown(arm.advantage, "+"),
        ]
        for arm in arms
    ]
    return Table(header, rows)


def _standing_rows(bar: Bar, options: NeverBehindConfig) -> Rows:
    """``never_behind.csv``: a row for each point of each cell."""
    rows = [
        [
            *("cell", "arm", "share_of_steps", "step", "best_baseline", "seeds", "baseline_seeds"),
            *("mean", "baseline_mean", "difference", "low", "high", "margin", "holds"),
        ]
    ]
    for s in bar.standings:
        means, interval = s.means or NO_INTERVAL, s.interval or NO_INTERVAL
        rows.append(
            [
                *(s.cell, options.arm or "", number(s.share), number(s.step)),
                "" if s.best is None else s.best.arm,
                *map(str, s.seeds),
                *map(number, (*means, s.difference, *interval, options.margin)),
                "" if s.holds is None else ANSWERS[s.holds],
            ]
        )
    return rows


def _arm_rows(arms: Sequence[Arm], bar: NeverBehindConfig) -> Rows:
    """``arms.csv``: a row for each arm of each cell."""
    points = [f"at_{share:g}" for share in bar.at]
    names = ["guide", *points, "area", f"more_than_{bar.over}"]
    rows = [["cell", "arm", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]]
    for arm in arms:
        found = (arm.guide, *arm.at, arm.area, arm.advantage or Estimate(None, None))
        numbers = [x for e in found for x in (e.mean, *(e.interval or NO_INTERVAL))]
        rows.append([arm.result.cell, arm.result.arm, *map(number, numbers)])
    return rows
