"""``jsrl monitor``: hold a run's policy against the episodes that it left as a reference."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jsrl.build import env_settings, rate_settings, watch_settings
from jsrl.checks import check_monitor
from jsrl.config import TrainConfig
from jsrl.envs.make import Environments, describe_env
from jsrl.errors import UserError
from jsrl.evaluate import Evaluator
from jsrl.monitor.audit import Audit, Auditor
from jsrl.monitor.config import FaultConfig, MonitorJobConfig
from jsrl.monitor.faults import Fault, with_fault
from jsrl.monitor.hooks import Capture
from jsrl.monitor.observer import Observer, Sink
from jsrl.monitor.page import write_page, write_violations
from jsrl.monitor.recording import RecordingWriter, as_arrays, read_manifest, require_same_network
from jsrl.monitor.rows import Rows, concatenate
from jsrl.monitor.sources import Source, alike, as_deployed, read_source
from jsrl.monitor.training import REFERENCE
from jsrl.networks import GaussianPolicy
from jsrl.runs import load_policy, run_configuration
from jsrl.seeding import Streams

FRESH, TRUSTED = "fresh", "trusted"


def run_monitor(job: MonitorJobConfig) -> bool:
    """Look at the data, write ``violations.json`` and ``report.html``, say what was found.

    With ``monitor.every`` it looks again after so many seconds, until an alarm or a signal.

    Args:
        job: the typed configuration.

    Returns:
        Whether there was an alarm.

    Raises:
        UserError: if run, reference or data are not there or do not fit.
    """
    subject = Subject(job)
    if job.data == TRUSTED:
        print(subject.keep_reference())
        return False
    every = job.monitor.every
    while True:
        found = subject.look()
        if found is not None:
            print(_line(found, subject.output), flush=True)
        if every is None:
            return found is not None and found.alarm
        if found is not None and found.alarm:
            return True
        time.sleep(every)


class Subject:
    """A run's policy of one seed, and where its episodes come from.

    Args:
        job: the typed configuration.

    Raises:
        UserError: if the run is none, or has no such seed or layer.
    """

    def __init__(self, job: MonitorJobConfig) -> None:
        check_monitor(job.monitor)
        self._job = job
        self._run = Path(job.run)
        self._config: TrainConfig = run_configuration(self._run)
        self._seed = self._config.seeds[0] if job.seed is None else job.seed
        self._policy: GaussianPolicy = load_policy(self._run, self._seed)
        self._capture = Capture(self._policy, job.monitor.layers)
        self._streams = Streams([self._seed], ("monitor", job.key))
        self._settings = watch_settings(job.monitor, shared_by=1, rolling=False)
        self._fault = build_fault(job.fault)
        if job.episodes < 1 or job.num_envs < 1:
            raise UserError(
                f"episodes={job.episodes} and num_envs={job.num_envs} must be at least 1"
            )
        every = job.monitor.every
        if every is not None and (every <= 0 or job.data == FRESH):
            raise UserError(
                f"monitor.every={every} repeats a look at a growing recording: it needs a number "
                "of seconds above 0 and data=FOLDER"
            )
        self._auditor: Auditor | None = None
        self._interval = job.monitor.interval
        self._seen: set[tuple[int, int]] = set()
        self.output = Path(job.output) if job.output else self._run / "monitor" / "audit"

    @torch.no_grad()
    def forward(self, rows: Rows) -> dict[str, Tensor]:
        """What the layers say."""
        found = self._capture.forward(torch.from_numpy(rows.observations).unsqueeze(0))
        return {name: values.view(len(rows), -1) for name, values in found.items()}

    def look(self) -> Audit | None:
        """Test what is new, and write down what was found; None while there is nothing yet.

        Raises:
            UserError: if reference or data are not there or do not fit.
        """
        episodes = self._new_episodes()
        if episodes is None:
            return None
        if self._auditor is None:
            self._auditor = Auditor(
                as_deployed(self._reference()),
                self.forward,
                self._settings,
                rate_settings(self._job.monitor),
                self._streams,
            )
        self._auditor.add(as_deployed(episodes))
        found, of = self._auditor.audit(), self._describe()
        write_violations(self.output / "violations.json", found, of)
        write_page(self.output / "report.html", found, of)
        return found

    def keep_reference(self) -> str:
        """Roll out trusted episodes and keep them in the run; a line that says so."""
        if self._fault is not None:
            raise UserError("data=trusted makes the reference: leave out fault.kind")
        folder = self._run / "monitor" / REFERENCE
        recorded: list[tuple[Rows, dict[str, Tensor]]] = []
        # Every step: whoever compares with them may have fewer.
        self._roll_out(self._job.monitor.trusted, lambda _, r, a: recorded.append((r, a)), 1)
        sizes = {name: values.shape[1] for name, values in recorded[0][1].items()}
        writer = RecordingWriter(folder, sizes, chunks=None)
        writer.clear()
        for rows, activations in recorded:
            writer.add(rows, as_arrays(activations))
        writer.complete()
        return f"{self._job.monitor.trusted} trusted episodes of seed {self._seed}: {folder}"

    def _reference(self) -> list[Rows]:
        """With rows as far apart as those of the episodes in question."""
        key, path = "reference", self._job.reference
        folder = self._run / "monitor" / REFERENCE if path is None else Path(path)
        if path is None and not folder.exists():
            raise UserError(
                f"run={str(self._run)!r} has no reference ({folder} is missing): it was trained "
                f"with monitor=off; make one of trusted episodes by jsrl monitor run={self._run} "
                "data=trusted"
            )
        return alike(self._read(folder, key, None), self._interval, self._streams)

    def _new_episodes(self) -> list[Rows] | None:
        """Those that were not tested before; None where a growing recording has none yet."""
        if self._job.data == FRESH:
            rows: list[Rows] = []
            self._roll_out(self._job.episodes, lambda _, some, __: rows.append(some))
            self._interval = self._job.monitor.interval
            return concatenate(rows).episodes()
        path, growing = Path(self._job.data), self._job.monitor.every is not None
        try:
            source = self._read(path, "data", self._job.phase)
        except UserError:
            if growing and self._auditor is None and path.is_dir():
                return None
            raise
        self._interval = source.interval
        new = [rows for rows in source.episodes if _name(rows) not in self._seen]
        self._seen |= {_name(rows) for rows in new}
        return new

    def _read(self, path: Path, key: str, phase: str | None) -> Source:
        size = self._policy.arguments["observation_size"]
        source = read_source(path, key, phase, self._seed, size)
        if path.is_dir():
            self._require_own(path)
        return source

    def _require_own(self, folder: Path) -> None:
        """See that a recording is of a network with the layers of this policy.

        Which of them were recorded may differ.
        """
        everything = Capture(self._policy, ".*")
        zeros = torch.zeros(1, 1, self._policy.arguments["observation_size"])
        own = {name: value.numel() for name, value in everything.forward(zeros).items()}
        recorded = read_manifest(folder)
        shared = {name: size for name, size in own.items() if name in recorded["layers"]}
        require_same_network(recorded, shared, folder)

    def _roll_out(self, episodes: int, sink: Sink, interval: int | None = None) -> None:
        interval = interval or self._job.monitor.interval
        roll_out(
            self._config,
            self._policy,
            self._capture,
            self._streams,
            episodes,
            min(self._job.num_envs, episodes),
            sink,
            interval=interval,
            fault=self._fault,
        )

    def _describe(self) -> dict[str, Any]:
        fault = self._fault
        return {
            "run": str(self._run),
            "seed": self._seed,
            "data": self._job.data,
            "fault": None
            if fault is None
            else f"{fault.kind}, columns {list(fault.columns)}, strength {fault.strength:g}",
        }


def roll_out(
    config: TrainConfig,
    policy: GaussianPolicy,
    capture: Capture,
    streams: Streams,
    episodes: int,
    num_envs: int,
    sink: Sink,
    *,
    interval: int,
    fault: Fault | None = None,
) -> None:
    """Let a policy of one seed act alone, by its mode, in its run's environment.

    Args:
        config: of the run.
        policy: S = 1.
        capture: of its layers.
        streams: of its seed: the start states are drawn from them.
        episodes: how many.
        num_envs: at a time.
        sink: takes what is recorded.
        interval: steps between two that are.
        fault: what goes wrong in all of them, if anything.
    """
    settings = env_settings(config.env)
    wrap = None if fault is None else lambda env: with_fault(env, fault)
    evaluator = Evaluator(
        Environments(settings, num_envs, wrap),
        describe_env(settings),
        streams.child("evaluator"),
        torch.device("cpu"),
    )
    observer = Observer(
        *(capture, list(streams.seeds), "deployed", interval, 1.0),
        *(streams.child("recorded"), num_envs, sink),
    )
    evaluator.observer = observer
    try:
        evaluator.evaluate(policy, None, np.zeros((1, episodes), np.int64), "monitor")
    finally:
        evaluator.close()
    observer.flush()


def _name(rows: Rows) -> tuple[int, int]:
    """Phase and number of an episode."""
    return int(rows.phase[-1]), int(rows.episode[0])


def build_fault(config: FaultConfig) -> Fault | None:
    """The fault to try, or None."""
    if config.kind is None:
        return None
    return Fault(config.kind, tuple(config.columns), config.strength, config.seed)


def _line(found: Audit, output: Path) -> str:
    first = found.first_alarm
    where = f"See {output / 'report.html'}"
    if first is None:
        return f"no alarm in {len(found.checks)} tests. {found.statement} {where}"
    alarms: Sequence[bool] = [check.alarm for check in found.checks]
    return (
        f"ALARM in {sum(alarms)} of {len(alarms)} tests, first after episode {first.episode} "
        f"(p = {first.p_value:.2g}, level {first.level:.2g}); {where}"
    )
