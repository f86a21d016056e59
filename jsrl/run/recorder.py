"""What a run writes down while it goes on: metrics, the chosen logger's files, and progress."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from jsrl.core.protocols import Metrics
from jsrl.loggers import (
    JsonLinesLogger,
    LoggerInputs,
    LoggerOptions,
    Loggers,
    Progress,
    loggers,
)
from jsrl.rollout.collector import Collector, Episode
from jsrl.rollout.tracker import Stopwatch, Tracker
from jsrl.run.directory import RunDirectory
from jsrl.run.summary import peak_memory_mib

UPDATE_RATE = "throughput/updates_per_second"


class Recorder:
    """Gathers a run's numbers and passes them on every ``interval`` updates or steps.

    Args:
        directory: the folder of the run.
        seeds: the S seeds.
        offline_updates: how many updates the offline phase has.
        logger: where numbers go besides ``metrics.jsonl``, and whether progress is shown.
        state: what ``state_dict`` gave, for a run that is resumed; else None.
        resume_from: the step and the phase at which the run stopped; None for a new run.
        time_limit: of the episodes, where there is a guide to share them with; else None.
    """

    def __init__(
        self,
        directory: RunDirectory,
        seeds: Sequence[int],
        offline_updates: int,
        *,
        logger: LoggerOptions,
        state: Mapping[str, Any] | None,
        resume_from: tuple[int, str] | None,
        time_limit: int | None = None,
    ) -> None:
        metrics = JsonLinesLogger(directory.metrics, seeds)
        metrics.truncate(0 if state is None else state["metrics_offset"])
        inputs = LoggerInputs(directory.path, seeds, offline_updates, resume_from)
        self.loggers = Loggers(metrics, loggers[logger.kind].make(logger, inputs))
        self.stopwatch = Stopwatch(0.0 if state is None else state["seconds"])
        self.tracker = Tracker(len(seeds), time_limit)
        if state is not None:
            self.tracker.load_state_dict(state["tracker"])
        self._shows_progress = logger.progress
        self._progress: Progress | None = None

    def begin_stage(self, description: str, total: int, done: int, **counts: int) -> None:
        """Show progress of a stage of ``total`` updates or steps, ``done`` of them already.

        Args:
            description: what the stage does.
            total: how many updates or steps the stage has.
            done: how many of them an earlier start has done.
            counts: the counts that ``record`` is given, as they are now.
        """
        self.end_stage()
        self._progress = Progress(total, description, self._shows_progress, initial=done)
        self.stopwatch.begin(**counts)

    def end_stage(self) -> None:
        """Close the progress of the stage under way, if there is one."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    @contextlib.contextmanager
    def counting(
        self, description: str, total: int, patience: float = 0.0
    ) -> Iterator[Callable[[int], None]]:
        """Show the progress of an evaluation, between two stages or inside of one.

        Rates do not count the time that it takes, since nothing is learnt in it.

        Args:
            description: what is going on, such as ``final evaluation, episode``.
            total: how many episodes there are.
            patience: seconds to wait before anything is shown.

        Returns:
            A function to call with the number of further episodes that are done.
        """
        done = 0
        progress = Progress(total, description, self._shows_progress, patience=patience)

        def told(more: int) -> None:
            nonlocal done
            done += more
            progress.update(done)

        with self.stopwatch.paused():
            try:
                yield told
            finally:
                progress.close()

    def say(self, line: str) -> None:
        """Print a line, above the progress bar if there is one."""
        if self._progress is not None:
            self._progress.say(line)
        else:
            print(line, flush=True)

    def show(self, done: int, **shown: float | str | None) -> None:
        if self._progress is not None:
            self._progress.update(done, **shown)

    def episodes(
        self, episodes: Sequence[Episode], guide_share: np.ndarray, collector: Collector
    ) -> None:
        """One step: the episodes that ended, the share of the guide ``[S]``, and what stepped."""
        shares = collector.explorer_share, collector.shares_of_last_step
        self.tracker.add(episodes, guide_share, *shares)

    def record(self, step: int, phase: str, metrics: Metrics, **counts: int) -> None:
        """Write the last update's metrics, the episodes since the last record, and throughput.

        The device is waited for here, once a record and not once an update.

        Args:
            step: the number of updates or environment steps.
            phase: the phase that the records are of.
            metrics: those of the last update.
            counts: ``updates`` and ``env_steps`` of all seeds since the run began.
        """
        values: dict[str, Any] = dict(self.tracker.take())
        if metrics:
            names = list(metrics)
            stacked = torch.stack([metrics[name] for name in names]).cpu().tolist()
            values |= dict(zip(names, stacked, strict=True))
        rates = self.stopwatch.rates(**counts)
        values |= rates
        peak = peak_memory_mib()
        if peak is not None:
            values["memory/peak_mib"] = peak
        self.loggers.log(step, phase, values)
        self.show(step, **_shown(values), **{"updates/s": rates.get(UPDATE_RATE)})

    def state_dict(self) -> dict[str, Any]:
        return {
            "metrics_offset": self.loggers.offset(),
            "seconds": self.stopwatch.total(),
            "tracker": self.tracker.state_dict(),
        }

    def close(self, *, finished: bool) -> None:
        self.end_stage()
        self.loggers.close(finished)


def _shown(values: Mapping[str, Any]) -> dict[str, float]:
    """Take the mean returns of training episodes for progress, with the guide and without."""
    names = {"return with guide": "collect/combined_return", "alone": "collect/exploration_return"}
    return {
        shown: float(np.nanmean(values[name])) for shown, name in names.items() if name in values
    }
