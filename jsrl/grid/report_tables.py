"""The tables of a grid's report; the cells of a table are Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jsrl.grid.compare import ROUNDING, Comparison
from jsrl.grid.costs import Cost
from jsrl.grid.csv_rows import estimates, final_guide_steps
from jsrl.grid.results import Result
from jsrl.report.tables import MEASURES, UNDEFINED, Lines
from jsrl.statistics import bootstrap_interval


class Table(NamedTuple):
    """A header, and lines with as many cells each."""

    header: list[str]
    lines: Lines


def arms_table(results: Sequence[Result], measure: str) -> Table:
    """The guide and the arms of a cell."""
    paper = any(result.published for result in results)
    header = ["", "seeds", f"{readable(measure)}: IQM", "mean", "h at the end"]
    rows = []
    for result in results:
        h = final_guide_steps(result)
        failed = f" ({len(result.failed)} failed)" if result.failed else ""
        row = [
            f"{result.label} (`{result.arm}`)",
            f"{len(result.records)}{failed}",
            *(interval_text(*e, MEASURES[measure]) for e in estimates(result, measure)),
            UNDEFINED if h is None else f"{h:.0f}",
        ]
        rows.append([*row, _published(result)] if paper else row)
    return Table([*header, "published"] if paper else header, rows)


def comparisons_table(comparisons: Sequence[Comparison], measure: str) -> Table:
    """Probability of improvement, difference, turn of the order; the primary one is in bold."""
    paper = any(c.implied is not None for c in comparisons)
    header = [
        *("cell", "first against second", "seeds", "at step", "P(first is better)"),
        *(f"difference of mean {readable(measure)}", "first ahead from step"),
    ]
    rows = []
    for c in comparisons:
        title = f"{c.first.label} against {c.second.label}"
        difference = UNDEFINED if c.difference is None else f"{c.difference:+{MEASURES[measure]}}"
        row = [
            c.first.cell,
            f"**{title}** (primary)" if c.primary else title,
            f"{c.seeds[0]} / {c.seeds[1]}",
            UNDEFINED if c.probability is None else f"{c.step:,}",
            interval_text(c.probability, c.interval, ".2f"),
            difference,
            _turn(c),
        ]
        implied = UNDEFINED if c.implied is None else f"{c.implied:.2f}"
        rows.append([*row, implied] if paper else row)
    return Table([*header, "published figures imply"] if paper else header, rows)


def seeds_table(results: Sequence[Result], measure: str) -> Table:
    """Every seed of every arm; the CSV files have the other measures."""
    seeds = list(dict.fromkeys(seed for result in results for seed in result.seeds))
    rows = []
    for result in results:
        values = dict(zip(result.records, result.values(measure), strict=True))
        cells = []
        for seed in seeds:
            value = values.get(seed)
            if seed not in values:
                cells.append("missing")
            elif seed in result.failed:
                cells.append("failed")
            else:
                cells.append(UNDEFINED if value is None else f"{value:{MEASURES[measure]}}")
        rows.append([result.cell, f"`{result.arm}`", *cells])
    return Table(["cell", "", *(f"seed {seed}" for seed in seeds)], rows)


def costs_table(costs: Sequence[Cost], measure: str) -> Table:
    """What was spent on evaluations that steer training, and how far arms come if it counts."""
    header = [
        *("cell", "", "episodes of the guide before", "episodes decided on", "steps in these"),
        *("compared at", "of them training", f"{readable(measure)} there: mean"),
    ]
    rows = []
    for c in costs:
        mean = float(np.mean(c.values)) if c.values else None
        interval = bootstrap_interval(c.values) if c.values else None
        numbers = (c.guide_episodes, c.decision_episodes, c.decision_steps, c.budget, c.trained)
        rows.append(
            [
                c.result.cell,
                f"{c.result.label} (`{c.result.arm}`)",
                *(f"{number:,.0f}" for number in numbers),
                interval_text(mean, interval, MEASURES[measure]),
            ]
        )
    return Table(header, rows)


def interval_text(point: float | None, interval: Sequence[float] | None, style: str) -> str:
    """``0.72 [0.61, 0.80]``, as far as it is defined."""
    if point is None:
        return UNDEFINED
    if interval is None:
        return f"{point:{style}}"
    return f"{point:{style}} [{interval[0]:{style}}, {interval[1]:{style}}]"


def readable(measure: str) -> str:
    return measure.replace("_", " ")


def _published(result: Result) -> str:
    paper = result.published
    if paper is None:
        return UNDEFINED
    return f"{paper.mean:.2f}" + ("" if paper.std is None else f" ± {paper.std:.2f}")


def _turn(comparison: Comparison) -> str:
    if comparison.turn is not None:
        return f"{comparison.turn:,}"
    if comparison.difference is None or comparison.difference > ROUNDING:
        return UNDEFINED
    behind = comparison.difference < -ROUNDING
    return f"never: {'behind' if behind else 'level'} at the end"
