"""The monitor of a run that trains: it records, tests what came in since, and keeps a reference.

While a policy learns, its activations for the same input change, so that both sides of a test are
passed through the network as it is then, and passed episodes become the reference of later ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.errors import UserError
from jsrl.evaluate import Evaluator
from jsrl.loggers import Loggers
from jsrl.monitor.detector import Sample
from jsrl.monitor.hooks import Capture
from jsrl.monitor.observer import Observer, Sink
from jsrl.monitor.rates import RateSettings
from jsrl.monitor.recording import RecordingWriter, as_arrays, rows_from, rows_state
from jsrl.monitor.rows import PHASES, Rows, concatenate, rows_of_data
from jsrl.monitor.training_log import (
    Tested,
    TrainingLog,
    TwinValues,
    WatchKey,
    show_embedding,
)
from jsrl.monitor.watch import Check, Watch, WatchSettings
from jsrl.seeding import Streams
from jsrl.types import Policy, TransitionData

RECORDING, REFERENCE = "recording", "reference"
"""Folders in a run's ``monitor``: what was recorded in training, trusted episodes at its end."""

TESTED = ("guide", "exploration")
"""Phases that are tested while a run trains: they share the level."""

KEPT_STAGES = 4
"""Stages of each seed and phase whose reference stays in memory, the newest."""


@dataclass(frozen=True)
class TrainingMonitorSettings:
    """What is recorded and how it is tested.

    Args:
        layers: regular expression of names; see ``hooks.Capture``.
        interval: steps between two that are recorded.
        share: of the episodes that are recorded.
        chunk_rows: rows in memory, and in a file.
        chunks: files that are kept.
        trusted: episodes of the final policy that are kept as its reference.
        watch: of the tests.
        rates: of the detection rates.
    """

    layers: str
    interval: int
    share: float
    chunk_rows: int
    chunks: int
    trusted: int
    watch: WatchSettings = field(default_factory=WatchSettings)
    rates: RateSettings = field(default_factory=RateSettings)


class TrainingMonitor:
    """Looks on while a run trains.

    Args:
        settings: what is recorded and how it is tested.
        policy: the exploration-policy; its first axis is the seeds.
        seeds: S.
        envs: of each seed: in the collector, and in the evaluator.
        streams: of the seeds, for all draws of the monitor.
        folder: the run's ``monitor``.
        sizes: of observation and action.
        twin_values: of the learner, if it has two critics: Q ``[S, 2, N]`` of observations and
            actions ``[S, N, …]``.

    Raises:
        UserError: if the policy is no ``torch.nn.Module`` or has no such layer.
    """

    def __init__(
        self,
        settings: TrainingMonitorSettings,
        policy: Any,
        seeds: Sequence[int],
        envs: tuple[int, int],
        streams: Streams,
        folder: Path,
        sizes: tuple[int, int],
        twin_values: TwinValues | None = None,
    ) -> None:
        if not isinstance(policy, nn.Module):
            raise UserError(
                f"monitor=on looks into a torch.nn.Module; the learner's policy is a "
                f"{type(policy).__name__}: use monitor=off"
            )
        self.settings = settings
        self.seeds = tuple(seeds)
        self.capture = Capture(policy, settings.layers)
        self._streams = streams
        self._envs = envs
        self._folder = folder
        self._device = self.capture.device
        probe = self.capture.forward(torch.zeros(len(seeds), 1, sizes[0], device=self._device))
        self.sizes = {name: value[0].numel() for name, value in probe.items()}
        self._recording = RecordingWriter(
            *(folder / RECORDING, self.sizes, settings.chunk_rows, settings.chunks),
            interval=settings.interval,
        )
        interval, share = settings.interval, settings.share
        self.online = self._observer(None, envs[0], self._take_online, interval, share)
        self.evaluation = self._observer("evaluation", envs[1], self._take, interval, share)
        self._log = TrainingLog(seeds, streams, settings.rates, twin_values, self._device)
        self._episodes: dict[tuple[int, str, int, int], list[Rows]] = {}
        self._latest: dict[tuple[int, int], int] = {}
        self._watches: dict[WatchKey, Watch] = {}

    def begin(self) -> None:
        """A run begins that was not saved before: what an earlier start recorded is removed."""
        self._recording.clear()

    def record_data(self, data: TransitionData, first_rows: Int[NDArray[np.int64], " N"]) -> None:
        """Record transitions of the dataset, as the phase ``offline``, for every seed.

        Args:
            data: N transitions.
            first_rows: for each of them the place at which its episode begins.
        """
        places = np.arange(len(data))
        for index, seed in enumerate(self.seeds):
            rows = rows_of_data(data, places, first_rows, places - first_rows, seed)
            self._take(index, rows, self._forward_of(index)(rows))

    def check(self, step: int, loggers: Loggers) -> list[str]:
        """Test the episodes that ended since, and write down what came out.

        Returns:
            A line for each alarm.
        """
        self.online.flush()
        finished = self._finished_episodes()
        for key in dict.fromkeys(key for key, _ in finished):
            if key in self._watches:
                self._watches[key].refresh(self._forward_of(key[0]))
        latest: dict[WatchKey, tuple[Watch, Check]] = {}
        alarms = []
        for key, rows in finished:
            watch = self._watch(key)
            check = watch.add(Sample(rows, self._forward_of(key[0])(rows)))
            if check is not None:
                latest[key] = watch, check
                if check.alarm:
                    alarms.append(_alarm_line(self.seeds[key[0]], key, check))
        tested = {key: Tested(check, watch.latest()) for key, (watch, check) in latest.items()}
        self._log.write(step, tested, loggers)
        return alarms

    def keep_reference(self, evaluator: Evaluator, policy: Policy) -> None:
        """Let the final policy act alone, where all is well: later episodes are held against these.

        Args:
            evaluator: of the run.
            policy: the exploration-policy.
        """
        folder, rows_of_file = self._folder / REFERENCE, self.settings.chunk_rows
        writer = RecordingWriter(folder, self.sizes, rows_of_file, chunks=None)
        writer.clear()

        def sink(index: int, rows: Rows, activations: Mapping[str, Tensor]) -> None:
            writer.add(rows, as_arrays(activations))

        episodes = np.zeros((len(self.seeds), self.settings.trusted), np.int64)
        # Every step of every episode: whoever compares with them may have fewer.
        observer = self._observer("evaluation", self._envs[1], sink, 1, 1.0)
        before, evaluator.observer = evaluator.observer, observer
        try:
            evaluator.evaluate(policy, None, episodes, "reference of the monitor")
        finally:
            evaluator.observer = before
        observer.flush()
        writer.complete()

    def show(self, step: int, loggers: Loggers) -> None:
        """Draw the reference and the latest episodes of the first seed's newest watch."""
        shown = [w for k, w in self._watches.items() if k[0] == 0 and w.tests]
        if not shown:
            return
        # As the network is now, whether or not the run was resumed since the last test.
        shown[-1].refresh(self._forward_of(0))
        sides = shown[-1].latest()
        if sides is not None:
            show_embedding(self._folder, sides, step, loggers)

    def state_dict(self) -> dict[str, Any]:
        return {
            "recording": self._recording.state_dict(),
            "online": self.online.state_dict(),
            "evaluation": self.evaluation.state_dict(),
            "episodes": [
                {"key": list(key), "rows": rows_state(concatenate(parts))}
                for key, parts in self._episodes.items()
            ],
            "latest": [[*key, value] for key, value in self._latest.items()],
            "watches": [
                {"key": list(key), "state": watch.state_dict()}
                for key, watch in self._watches.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: what was recorded later is removed, and comes again."""
        self._recording.load_state_dict(state["recording"])
        self.online.load_state_dict(state["online"])
        self.evaluation.load_state_dict(state["evaluation"])
        self._episodes = {tuple(e["key"]): [rows_from(e["rows"])] for e in state["episodes"]}
        self._latest = {(index, env): value for index, env, value in state["latest"]}
        self._watches = {}
        for stored in state["watches"]:
            key: WatchKey = tuple(stored["key"])
            watch = self._watch(key)
            watch.load_state_dict(stored["state"], self._forward_of(key[0]))

    def flush(self) -> None:
        """Write what is in memory."""
        for observer in (self.online, self.evaluation):
            observer.flush()
        self._recording.flush()

    def _observer(
        self, phase: str | None, envs: int, sink: Sink, interval: int, share: float
    ) -> Observer:
        streams = self._streams.child("recorded", phase or "online")
        return Observer(self.capture, self.seeds, phase, interval, share, streams, envs, sink)

    def _take(self, index: int, rows: Rows, activations: Mapping[str, Tensor]) -> None:
        self._recording.add(rows, as_arrays(activations))

    def _take_online(self, index: int, rows: Rows, activations: Mapping[str, Tensor]) -> None:
        self._take(index, rows, activations)
        for episode in rows.episode.tolist():
            self._latest[(index, episode % self.online.envs)] = episode
        parts, which = np.unique(
            np.stack([rows.phase, rows.stage, rows.episode], 1), axis=0, return_inverse=True
        )
        for number, (phase, stage, episode) in enumerate(parts.tolist()):
            own = rows.take(which.reshape(-1) == number)
            key = (index, PHASES[phase], stage, episode)
            self._episodes.setdefault(key, []).append(own)

    def _finished_episodes(self) -> list[tuple[WatchKey, Rows]]:
        """Those that ended, in the order in which they began.

        One that ended before another that began earlier waits for it: of several environments the
        short episodes end first, and are no like of the others.
        """
        oldest = {
            index: min(e for (i, _), e in self._latest.items() if i == index)
            for index, _ in self._latest
        }
        done = sorted(
            (key for key in self._episodes if key[3] < oldest[key[0]]), key=lambda key: key[3]
        )
        return [((k[0], k[1], k[2]), concatenate(self._episodes.pop(k))) for k in done]

    def _watch(self, key: WatchKey) -> Watch:
        if key not in self._watches:
            own = self._streams.select(key[0]).child("watch", key[1], key[2])
            self._watches[key] = Watch(self.settings.watch, own)
            # Stages that are over are forgotten: the newest of each seed and phase are kept.
            of_phase = [k for k in self._watches if k[:2] == key[:2]]
            for old in of_phase[:-KEPT_STAGES]:
                del self._watches[old]
        return self._watches[key]

    def _forward_of(self, index: int) -> Any:
        """Passes one seed's rows through its own network, as it is now."""

        def forward(rows: Rows) -> dict[str, Tensor]:
            observations = torch.from_numpy(rows.observations).to(self._device)
            everyone = observations.expand(len(self.seeds), *observations.shape)
            found = self.capture.forward(everyone)
            return {
                name: values.view(len(self.seeds), len(rows), -1)[index]
                for name, values in found.items()
            }

        return forward


def _alarm_line(seed: int, key: WatchKey, check: Check) -> str:
    _, phase, stage = key
    return (
        f"monitor: seed {seed}, {phase} in stage {stage}, episode {check.episode}: inputs are not "
        f"like those before (p = {check.p_value:.2g}, level {check.level:.2g})"
    )
