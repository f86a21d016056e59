"""Pool the seeds of run directories into one table, one figure and the numbers behind them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from jsrl.core.errors import UserError
from jsrl.core.files import csv_text, write_whole
from jsrl.loggers.metrics import read_records
from jsrl.report.figures import comparison
from jsrl.report.run_folders import NUMBERS, Experiment, find_runs, load_run, pool
from jsrl.report.tables import MEASURES, UNDEFINED, Lines, markdown_table, version_lines
from jsrl.report.templates import render_markdown
from jsrl.statistics import Summary, summarise

POLICIES = ("guide", "combined", "exploration")


def report(directories: Sequence[Path], output: Path, command: str | None = None) -> str:
    """Write ``report.md``, ``report.csv`` and ``learning_curves.png`` from finished runs.

    Runs of the same experiment with the same configuration are pooled over their seeds; runs of
    one experiment that differ in a setting stand as lines of their own. Runs that are not
    finished are listed, not counted.

    Args:
        directories: run directories, or directories that hold some, as a multirun's does.
        output: the directory to write into.
        command: what to type to repeat the report, as the report states it.

    Returns:
        The table of the experiments, as Markdown that reads well on a terminal.

    Raises:
        UserError: if a directory is missing or holds no run, a file of a run is corrupt, a seed
            appears twice in an experiment, no run is finished, or the output cannot be written.
    """
    runs = [load_run(directory) for directory in find_runs(directories)]
    unfinished = [run for run in runs if run.summary is None]
    if len(unfinished) == len(runs):
        raise UserError(
            f"{', '.join(str(run.directory) for run in runs)}: not finished, expected at least one"
            " finished run; run their commands again to resume them"
        )
    experiments = pool([run for run in runs if run.summary is not None])
    if command is None:
        command = shlex.join(["jsrl", "report", *map(str, directories), f"output={output}"])
    table = _experiment_table(experiments)
    curves = {
        e.label: [read_records(r.directory / "metrics.jsonl") for r in e.runs] for e in experiments
    }
    comparison(output / "learning_curves.png", curves)
    write_whole(output / "report.csv", _csv(experiments).encode())
    content = {
        "table": table,
        "unfinished": [run.describe() for run in unfinished],
        "differing": [experiment for experiment in experiments if experiment.differences],
        "seeds": _seed_rows(experiments),
        "runs": _run_lines(experiments),
        "numbers": list(NUMBERS),
        "versions": version_lines(run.versions for e in experiments for run in e.runs),
        "command": command,
    }
    text = render_markdown("jsrl.report", "report.md.j2", content)
    write_whole(output / "report.md", text.encode())
    notes = [f"not finished, not counted: {run.describe()}" for run in unfinished]
    return "\n".join([table, *notes])


def _measures(experiments: Sequence[Experiment]) -> list[str]:
    """The measures that have a value anywhere; success, return and length always."""
    return [
        measure
        for measure in MEASURES
        if measure != "normalized_score"
        or any(
            e.value(seed, p, measure) is not None
            for e in experiments
            for seed in e.seeds
            for p in POLICIES
        )
    ]


def _experiment_table(experiments: Sequence[Experiment]) -> str:
    measures = _measures(experiments)
    rows = []
    for experiment in experiments:
        failed = sum(seed in experiment.failed for seed in experiment.seeds)
        seeds = f"{len(experiment.seeds)}" + (f" ({failed} failed)" if failed else "")
        for policy in POLICIES:
            cells = [
                _cell(summarise([experiment.value(s, policy, m) for s in experiment.seeds]), m)
                for m in measures
            ]
            rows.append([experiment.label, seeds, experiment.env_steps, policy, *cells])
    names = [measure.replace("_", " ") for measure in measures]
    return markdown_table(["experiment", "seeds", "env steps", "policy", *names], rows)


def _cell(summary: Summary, measure: str) -> str:
    """``mean (interquartile mean) [low, high]``, as far as they are defined."""
    if summary["mean"] is None or summary["iqm"] is None:
        return UNDEFINED
    style = MEASURES[measure]
    mean = f"{summary['mean']:{style}}"
    if summary["ci95"] is None:
        return mean
    low, high = summary["ci95"]
    return f"{mean} ({summary['iqm']:{style}}) [{low:{style}}, {high:{style}}]"


def _seed_rows(experiments: Sequence[Experiment]) -> Lines:
    """A header and one row for each seed and policy, values in full."""
    measures = list(MEASURES)
    rows = [["experiment", "directory", "seed", "failed", "guide_steps", "policy", *measures]]
    for experiment in experiments:
        for seed in experiment.seeds:
            run = experiment.run_of(seed)
            for policy in POLICIES:
                values = [experiment.value(seed, policy, measure) for measure in measures]
                rows.append(
                    [
                        experiment.label,
                        str(run.directory),
                        str(seed),
                        "yes" if seed in experiment.failed else "no",
                        _number(run.guide_steps(seed)),
                        policy,
                        *map(_number, values),
                    ]
                )
    return rows


def _csv(experiments: Sequence[Experiment]) -> str:
    """The raw numbers of every seed; an empty field where there is none."""
    rows = _seed_rows(experiments)
    return csv_text([["" if field == UNDEFINED else field for field in row] for row in rows])


def _run_lines(experiments: Sequence[Experiment]) -> Lines:
    lines = []
    for experiment in experiments:
        for run in experiment.runs:
            seeds = ", ".join(map(str, run.seeds))
            numbers = [f"{run.number(name):.6g}" for name in NUMBERS]
            lines.append([experiment.label, str(run.directory), seeds, *numbers])
    return lines


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.10g}"
