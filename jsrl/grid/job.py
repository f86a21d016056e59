"""``jsrl grid``: run what is missing of a grid, and draw its report."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from jsrl.core.errors import UserError
from jsrl.core.processes import available_cores
from jsrl.grid.config import GridJobConfig
from jsrl.grid.plan import GUIDE, Task, check_grid, plan
from jsrl.grid.records import is_finished, is_recorded, score, write_records
from jsrl.grid.report import write_report
from jsrl.grid.runner import Runner, alone_in
from jsrl.loggers import Progress

ONLY_THIS_TIME = ("workers", "runs", "report_only", "cells", "arms")
"""Keys that do not change what the grid as a whole is: they are left out of its command."""


def run_grid(job: GridJobConfig, overrides: Sequence[str]) -> None:
    """Run the grid's missing runs, write a record of each that is finished, draw the report.

    Args:
        job: the typed configuration.
        overrides: of the command line, which the report states.

    Raises:
        UserError: if the grid is not what it should be, its folders hold other runs, or runs
            failed (after the others have been done).
        Interrupted: after SIGTERM or Ctrl-C, once every run is saved.
    """
    output, problem = output_of(job), None
    if job.report_only:
        check_grid(job)
        print(f"grid {job.grid.name}: drawing the report from the records in {output}", flush=True)
    else:
        tasks = plan(job)
        with alone_in(Path(job.runs) / job.grid.name):
            session = Session(job, tasks, output)
            problem = session.run()
            if problem is not None and not session.any_done:
                raise UserError(problem)
    print(write_report(job.grid, output, command_of(overrides)))
    print(f"\nthe report: {output / 'README.md'}")
    if problem is not None:
        raise UserError(problem)


def command_of(overrides: Sequence[str]) -> str:
    """What to type to run the whole grid again, anywhere: absolute folders are left out."""
    kept = [
        override
        for override in overrides
        if override.partition("=")[0] not in ONLY_THIS_TIME and not override.startswith("output=/")
    ]
    return shlex.join(["jsrl", "grid", *kept])


def output_of(job: GridJobConfig) -> Path:
    """Where the records and the report go."""
    return Path(job.runs) / job.grid.name / "report" if job.output is None else Path(job.output)


class Session:
    """One start of the command: what is there already, what is left, and what is said of it.

    Args:
        job: the typed configuration.
        tasks: the whole plan.
        output: where records go.
    """

    def __init__(self, job: GridJobConfig, tasks: Sequence[Task], output: Path) -> None:
        self._measure = job.grid.measure
        self._name = job.grid.name
        self._workers = available_cores() if job.workers is None else job.workers
        self._tasks = tasks
        self._output = output
        self._failures: list[tuple[Task, str]] = []
        self._missing = self._not_done()
        self._done = len(tasks) - len(self._missing)
        self._began = time.monotonic()
        self._progress = Progress(
            len(tasks), f"grid {job.grid.name}", sys.stderr.isatty(), initial=self._done
        )

    @property
    def any_done(self) -> bool:
        return self._done > 0

    def run(self) -> str | None:
        """Run what is missing; what to say of the runs that failed, if any did."""
        left = f"{len(self._missing)} to run, {self._workers} at a time" if self._missing else ""
        self._say(
            f"grid {self._name}: {self._done} of {len(self._tasks)} runs are there already"
            f"{', ' + left if left else ''}; records and report go to {self._output}"
        )
        try:
            Runner(self._missing, self._workers, self._finished, self._failed).run()
        finally:
            self._progress.close()
        if not self._failures:
            return None
        listed = "; ".join(f"{task.name} ({why})" for task, why in self._failures)
        return (
            f"{len(self._failures)} of {len(self._tasks)} runs failed: {listed}. What they "
            f"printed is in {self._failures[0][0].log} and so on; mend the cause and run the "
            "same command again: it runs only what is missing"
        )

    def _not_done(self) -> list[Task]:
        """The tasks without records, and the guides, gone from the disk, that these need."""
        missing = []
        for task in self._tasks:
            if not is_recorded(self._output, task):
                if is_finished(task):
                    write_records(self._output, task)
                else:
                    missing.append(task)
        needed = {task.needs for task in missing}
        return [
            task
            for task in self._tasks
            if task in missing or (task.key in needed and not is_finished(task))
        ]

    def _finished(self, task: Task) -> None:
        self._done += 1
        records = write_records(self._output, task)
        policy = task.setup.policy
        values = [score(record, policy, self._measure) for record in records]
        shown = ", ".join("-" if value is None else f"{value:.3g}" for value in values)
        self._say(
            f"[{self._done}/{len(self._tasks)}] {task.name} finished after "
            f"{tqdm.format_interval(records[0]['wall_seconds'])}: "
            f"{'' if policy == GUIDE else policy + ' '}{self._measure} {shown} "
            f"({tqdm.format_interval(time.monotonic() - self._began)} elapsed)"
        )
        self._progress.update(self._done)

    def _failed(self, task: Task, why: str) -> None:
        self._failures.append((task, why))
        self._say(f"{task.name} failed: {why}; see {task.log}")

    def _say(self, line: str) -> None:
        self._progress.say(line)
