"""What a run writes down while it goes: metrics, TensorBoard, progress."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from jsrl.collector import Episode
from jsrl.loggers import JsonLinesLogger, Loggers, Progress, TensorBoardLogger
from jsrl.run_directory import RunDirectory
from jsrl.summary import peak_memory_mib
from jsrl.tracking import Stopwatch, Tracker
from jsrl.types import Metrics


class Recorder:
    """Gathers a run's numbers and passes them on every ``interval`` updates or steps.

    Args:
        directory: of the run.
        seeds: S seeds.
        offline_updates: length of the offline phase.
        tensorboard: whether to write TensorBoard's files.
        progress: whether to show progress.
        state: from ``state_dict``, of a run that is resumed.
        resume_from: the step and phase that the run stopped at.
    """

    def __init__(
        self,
        directory: RunDirectory,
        seeds: Sequence[int],
        offline_updates: int,
        *,
        tensorboard: bool,
        progress: bool,
        state: Mapping[str, Any] | None,
        resume_from: tuple[int, str] | None,
    ) -> None:
        metrics = JsonLinesLogger(directory.metrics, seeds)
        metrics.truncate(0 if state is None else state["metrics_offset"])
        board = None
        if tensorboard:
            board = TensorBoardLogger(
                directory.tensorboard, seeds, offline_updates, resume_from=resume_from
            )
        self.loggers = Loggers(metrics, board)
        self.stopwatch = Stopwatch(0.0 if state is None else state["seconds"])
        self.tracker = Tracker(len(seeds))
        if state is not None:
            self.tracker.load_state_dict(state["tracker"])
        self._shows_progress = progress
        self._progress: Progress | None = None

    def begin_stage(self, description: str, total: int, done: int) -> None:
        """Show progress of a stage of ``total`` updates or steps, ``done`` of them already."""
        self.end_stage()
        self._progress = Progress(total, description, self._shows_progress, initial=done)

    def end_stage(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def say(self, line: str) -> None:
        """A line for the reader, above the progress bar if there is one."""
        if self._progress is not None:
            self._progress.say(line)
        else:
            print(line, flush=True)

    def show(self, done: int, **shown: float | str | None) -> None:
        if self._progress is not None:
            self._progress.update(done, **shown)

    def episodes(self, episodes: Sequence[Episode], guide_share: np.ndarray) -> None:
        self.tracker.add(episodes, guide_share)

    def record(self, step: int, phase: str, metrics: Metrics, updates: int, env_steps: int) -> None:
        """Write the last update's metrics, the episodes since the last record, throughput.

        This is where the device is waited for: once a record, not once an update.
        """
        values: dict[str, Any] = dict(self.tracker.take())
        if metrics:
            names = list(metrics)
            stacked = torch.stack([metrics[name] for name in names]).cpu().tolist()
            values |= dict(zip(names, stacked, strict=True))
        rates = self.stopwatch.rates(updates=updates, env_steps=env_steps)
        values |= rates
        values["memory/peak_mib"] = peak_memory_mib()
        self.loggers.log(step, phase, values)
        returns = values.get("collect/return")
        self.show(
            step,
            **{"return": None if returns is None else float(np.nanmean(returns))},
            **{"updates/s": rates.get("throughput/updates_per_second")},
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "metrics_offset": self.loggers.offset(),
            "seconds": self.stopwatch.total(),
            "tracker": self.tracker.state_dict(),
        }

    def close(self, *, finished: bool) -> None:
        self.end_stage()
        self.loggers.close(finished)
