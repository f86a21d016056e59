"""``jsrl detection``: try every fault on a run's policy, and report who notices it."""

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jsrl.build import env_settings
from jsrl.envs.make import make_env
from jsrl.errors import UserError
from jsrl.files import read_json_record, write_whole
from jsrl.loggers import Progress
from jsrl.monitor.config import DetectionJobConfig
from jsrl.monitor.detector import Sample
from jsrl.monitor.faults import DYNAMICS, Fault, scale_dynamics
from jsrl.monitor.hooks import INPUTS, OUTPUTS, Capture
from jsrl.monitor.power import (
    PowerSettings,
    Setting,
    as_record,
    judge_windows,
    settings_of,
    time_to_detection,
)
from jsrl.monitor.power_report import CLEAN, write_power_report
from jsrl.monitor.rows import Rows, concatenate
from jsrl.monitor_job import roll_out
from jsrl.runs import load_policy, run_configuration
from jsrl.seeding import Streams
from jsrl.summary import versions

KEYS = {"kind", "columns", "strength", "label", "p_values", "settings"}


def run_detection(job: DetectionJobConfig, overrides: Sequence[str]) -> None:
    """Do what is missing, then draw the report.

    Args:
        job: the typed configuration.
        overrides: of the command line, which the report states.

    Raises:
        UserError: if the run is none, a column is not there, or the output holds another study.
    """
    study = Study(job)
    study.complete()
    kept = [o for o in overrides if not o.startswith(("output=/", "run=/"))]
    command = shlex.join(["jsrl", "detection", *kept])
    print(write_power_report(study.output, command))
    print(f"\nthe report: {study.output / 'README.md'}")


class Study:
    """A policy, its clean episodes, and the faults that are tried on it.

    Args:
        job: the typed configuration.

    Raises:
        UserError: likewise.
    """

    def __init__(self, job: DetectionJobConfig) -> None:
        self._job = job
        self.output = Path(job.output)
        self._config = run_configuration(Path(job.run))
        seed = self._config.seeds[0] if job.seed is None else job.seed
        self._policy = load_policy(Path(job.run), seed, job.which)
        self._capture = Capture(self._policy, job.layers)
        self._seed = seed
        self._power = PowerSettings(rollouts=job.rollouts)
        size = int(self._policy.arguments["observation_size"])
        for name, column in (("column", job.column), ("other", job.other)):
            if not 0 <= column < size:
                raise UserError(f"{name}={column}: the observation has columns 0 to {size - 1}")
        needed = self._power.reference + self._power.window
        if job.clean < needed or job.episodes < self._power.window:
            raise UserError(
                f"clean={job.clean} must be at least {needed} and episodes={job.episodes} at "
                f"least {self._power.window}"
            )

    def complete(self) -> None:
        """Everything that has no record yet."""
        started = time.monotonic()
        clean = self._episodes("clean", self._job.clean, None)
        observations = np.concatenate([sample.rows.observations for sample in clean])
        settings = settings_of(
            observations.mean(0).tolist(),
            observations.std(0).tolist(),
            self._job.column,
            self._job.other,
            self._possible_dynamics(),
        )
        progress = Progress(len(settings) + 1, "faults tried")
        none = Setting(CLEAN, (), 0.0, "0")
        if not self._is_there(none):
            found, waited, rollouts = self._without_fault(clean)
            self._write(none, found, waited, started, rollouts)
        progress.update(1)
        for number, setting in enumerate(settings, start=2):
            if not self._is_there(setting):
                started = time.monotonic()
                fault = Fault(setting.kind, setting.columns, setting.strength)
                episodes = self._episodes(setting.name, self._job.episodes, fault)
                found = judge_windows(clean, episodes, self._power, self._deepest())
                waited = time_to_detection(clean, episodes, self._power)
                self._write(setting, found, waited, started)
            progress.update(number)
        progress.close()

    def _without_fault(
        self, first: list[Sample]
    ) -> tuple[list[dict[str, float]], list[int | None], list[int]]:
        """Windows and sequences of independent roll-outs, each against its own reference.

        Returns:
            p-values of each window, times to an alarm, and the roll-out of each window: they may
            have fewer than others, since an episode that was over before a row was due is none.
        """
        found: list[dict[str, float]] = []
        waited: list[int | None] = []
        rollouts: list[int] = []
        for number in range(self._power.rollouts):
            clean = first
            if number > 0:
                clean = self._episodes(f"clean {number}", self._job.clean, None)
            fresh = clean[self._power.reference :]
            found += judge_windows(clean, fresh, self._power, self._deepest())
            rollouts += [number] * (len(found) - len(rollouts))
            waited += time_to_detection(clean, fresh, replace(self._power, sequences=1))
        return found, waited, rollouts

    def _possible_dynamics(self) -> list[str]:
        """Changes of dynamics that this environment knows."""
        found = []
        for kind in DYNAMICS:
            env = make_env(env_settings(self._config.env))
            try:
                scale_dynamics(env, kind, 1.0)
                found.append(kind)
            except UserError:
                continue
            finally:
                env.close()
        return found

    def _episodes(self, name: str, count: int, fault: Fault | None) -> list[Sample]:
        rows: list[Rows] = []
        activations: list[dict[str, Tensor]] = []

        def sink(_: int, some: Rows, layers: dict[str, Tensor]) -> None:
            rows.append(some)
            activations.append(layers)

        roll_out(
            self._config,
            self._policy,
            self._capture,
            Streams([self._seed], ("detection", name)),
            count,
            min(self._job.num_envs, count),
            sink,
            interval=self._job.interval,
            fault=fault,
        )
        everything = concatenate(rows)
        layers = {n: torch.cat([a[n] for a in activations]) for n in activations[0]}
        whole = Sample(everything, layers)
        # In the order in which they began: those that end last are the long ones.
        numbers = np.unique(everything.episode)
        return [whole.take(np.flatnonzero(everything.episode == number)) for number in numbers]

    def _deepest(self) -> str:
        """The last layer before the output, or what there is."""
        inner = [n for n in self._capture.layers if n not in (INPUTS, OUTPUTS)]
        return inner[-1] if inner else self._capture.layers[-1]

    def _path(self, setting: Setting) -> Path:
        return self.output / "raw" / f"{setting.name}.json"

    def _is_there(self, setting: Setting) -> bool:
        path = self._path(setting)
        if not path.exists():
            return False
        record = read_json_record(path, KEYS, "the record of a fault", "it tried again")
        if record["settings"] != self._settings():
            raise UserError(
                f"{path} is of other settings ({record['settings']}); use the same, or another "
                "output"
            )
        return True

    def _write(
        self,
        setting: Setting,
        found: list[dict[str, float]],
        waited: list[int | None],
        started: float,
        rollouts: list[int] | None = None,
    ) -> None:
        record: dict[str, Any] = as_record(
            setting,
            found,
            layers=self._capture.layers,
            time_to_detection=waited,
            rollouts=rollouts,
            settings=self._settings(),
            environment=self._config.env.id,
            versions=versions(),
            wall_seconds=time.monotonic() - started,
        )
        write_whole(self._path(setting), (json.dumps(record, indent=1) + "\n").encode())

    def _settings(self) -> dict[str, Any]:
        names = ("seed", "column", "other", "interval", "clean", "episodes", "layers", "which")
        return {**{n: getattr(self._job, n) for n in names}, **asdict(self._power)}
