"""The numbers of a grid's report as rows, for its CSV files and tables."""

from collections.abc import Sequence

import numpy as np

from jsrl.grid.plan import GUIDE, MEASURES, POLICIES
from jsrl.grid.records import CURVES
from jsrl.grid.results import Result
from jsrl.statistics import bootstrap_interval, interquartile_mean, interquartile_mean_interval

Rows = list[list[str]]
NO_INTERVAL: tuple[None, None] = (None, None)


def summary_rows(results: Sequence[Result], measure: str) -> Rows:
    """``table.csv``: one row for each arm of each cell; nothing in a field that is undefined."""
    rows = [
        [
            *("cell", "arm", "label", "policy", "measure", "seeds", "failed", "missing"),
            *("iqm", "iqm_low", "iqm_high", "mean", "mean_low", "mean_high", "final_guide_steps"),
            *("published_mean", "published_std", "published_source"),
        ]
    ]
    for result in results:
        paper = result.published
        figures = [
            value
            for point, interval in estimates(result, measure)
            for value in (point, *(interval or NO_INTERVAL))
        ]
        rows.append(
            [
                *(result.cell, result.arm, result.label, result.policy, measure),
                *(str(len(x)) for x in (result.records, result.failed, result.missing)),
                *map(number, [*figures, final_guide_steps(result)]),
                *map(number, [paper.mean, paper.std] if paper else [None, None]),
                paper.source if paper else "",
            ]
        )
    return rows


def seed_rows(results: Sequence[Result]) -> Rows:
    """``per_seed.csv``: one row for each run and seed that the grid asks for."""
    names = [f"{policy}_{measure}" for policy in POLICIES for measure in MEASURES]
    rest = ["final_guide_steps", "env_steps", "updates", "wall_seconds", "run_seeds"]
    rows = [["cell", "arm", "seed", "status", *names, *rest]]
    for result in (r for r in results if not r.borrowed):
        for seed in result.seeds:
            record = result.records.get(seed)
            start = [result.cell, result.arm, str(seed)]
            if record is None:
                rows.append([*start, "missing", *[""] * (len(names) + len(rest))])
                continue
            final = [record["final"][p][m] for p in POLICIES for m in MEASURES]
            numbers = [record[k] for k in ("guide_steps", "env_steps", "updates", "wall_seconds")]
            rows.append(
                [
                    *start,
                    "failed" if record["failed"] else "finished",
                    *map(number, [*final, *numbers]),
                    " ".join(map(str, record["run_seeds"])),
                ]
            )
    return rows


def curve_rows(results: Sequence[Result]) -> Rows:
    """``curves.csv``: one row for each evaluation of each seed."""
    rows = [["cell", "arm", "seed", "step", *CURVES]]
    for result in (r for r in results if not r.borrowed):
        for seed, record in result.records.items():
            columns = [record["curve"][name] for name in ("step", *CURVES)]
            for values in zip(*columns, strict=True):
                rows.append([result.cell, result.arm, str(seed), *map(number, values)])
    return rows


def estimates(result: Result, measure: str) -> list[tuple[float | None, list[float] | None]]:
    """Interquartile mean and mean over seeds, each with its 95 % interval; None if undefined."""
    values = result.finite(measure)
    if not values:
        return [(None, None), (None, None)]
    return [
        (interquartile_mean(values), interquartile_mean_interval(values)),
        (float(np.mean(values)), bootstrap_interval(values)),
    ]


def final_guide_steps(result: Result) -> float | None:
    """The mean number h of guide steps at the end; None where there is no curriculum."""
    records = [r for r in result.records.values() if not r["failed"]]
    if result.arm == GUIDE or not any(any(r["curve"]["guide_steps"]) for r in records):
        return None
    return float(np.mean([r["guide_steps"] for r in records]))


def number(value: float | None) -> str:
    """Ten significant digits; nothing where there is no number."""
    return "" if value is None else f"{value:.10g}"
