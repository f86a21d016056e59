"""The monitor of a training run: it records, tests episodes once they ended, and keeps a reference.

While a policy learns, its activations for the same input change. So both sides of a test are passed
through the network as it is then, and episodes that passed become the reference of later ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import zeros_of
from jsrl.core.protocols import Policy
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionData
from jsrl.loggers import Loggers
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.observer import Observer, Sink
from jsrl.monitor.capture.recording_writer import RecordingWriter
from jsrl.monitor.capture.samples import Sample, as_arrays
from jsrl.monitor.capture.steps import WatchedSteps, steps_of_dataset
from jsrl.monitor.watch.episode_watch import Check, Forward, Watch
from jsrl.monitor.watch.training_episodes import TrainingEpisodes
from jsrl.monitor.watch.training_log import (
    TestedEpisodes,
    TrainingLog,
    TwinValues,
    WatchKey,
    show_embedding,
)
from jsrl.monitor.watch.training_settings import TrainingMonitorSettings
from jsrl.rollout.evaluator import Evaluator

RECORDING, REFERENCE = "recording", "reference"
"""Folders in a run's ``monitor``: steps recorded in training, and trusted episodes at its end."""

KEPT_STAGES = 4
"""How many stages of each seed and phase keep their reference in memory, the newest ones."""


class TrainingMonitor:
    """Watches the policy of a run while it trains.

    Args:
        settings: what is recorded and how it is tested.
        policy: the exploration-policy, whose first axis is the seeds.
        seeds: the S seeds.
        envs: how many environments of each seed the collector and the evaluator have.
        streams: the streams of the seeds, for all draws of the monitor.
        folder: the folder ``monitor`` of the run.
        spec: of the environment.
        twin_values: gives Q ``[S, 2, N]`` of observations and actions ``[S, N, …]``, if the learner
            has two critics.

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
        spec: EnvSpec,
        twin_values: TwinValues | None = None,
    ) -> None:
        if not isinstance(policy, nn.Module):
            raise UserError(
                f"monitor=on looks into a torch.nn.Module; the learner's policy is a "
                f"{type(policy).__name__}: use monitor=off"
            )
        self.settings = settings
        self.seeds = tuple(seeds)
        self.capture = LayerCapture(policy, settings.layers)
        self._streams = streams
        self._envs = envs
        self._folder = folder
        self._device = self.capture.device
        probe = self.capture.observe(zeros_of(spec.observation, len(seeds), 1))
        self.sizes = {name: value[0].numel() for name, value in probe.items()}
        self._recording = RecordingWriter(
            *(folder / RECORDING, self.sizes, settings.chunk_rows, settings.chunks),
            interval=settings.interval,
        )
        interval, share = settings.interval, settings.share
        self.online = self._observer(None, envs[0], self._take_online, interval, share)
        self.evaluation = self._observer("evaluation", envs[1], self._take, interval, share)
        self._log = TrainingLog(
            *(seeds, streams, settings.rates, twin_values, self._device),
            bounded=isinstance(spec.actions, BoxActions),
        )
        self._episodes = TrainingEpisodes(envs[0])
        self._watches: dict[WatchKey, Watch] = {}

    def begin(self) -> None:
        """Remove what an earlier start recorded, as a run begins that was not saved before."""
        self._recording.clear()

    def record_data(self, data: TransitionData, first_places: Int[NDArray[np.int64], " N"]) -> None:
        """Record transitions of the dataset, as the phase ``offline``, for every seed.

        Args:
            data: N transitions, episode after episode.
            first_places: for each of them, the place at which its episode begins, which also is
                the number of the episode.
        """
        for index, seed in enumerate(self.seeds):
            steps = steps_of_dataset(data, first_places, first_places, seed)
            self._take(index, steps, self._forward_of(index)(steps))

    def check(self, step: int, loggers: Loggers) -> list[str]:
        """Test the episodes that ended since the last time, and log what was found.

        Returns:
            One line for each alarm.
        """
        self.online.flush()
        finished = self._episodes.pop_finished()
        for key in dict.fromkeys(key for key, _ in finished):
            if key in self._watches:
                self._watches[key].refresh(self._forward_of(key[0]))
        latest: dict[WatchKey, tuple[Watch, Check]] = {}
        alarms = []
        for key, steps in finished:
            watch = self._watch(key)
            check = watch.add(Sample(steps, self._forward_of(key[0])(steps)))
            if check is not None:
                latest[key] = watch, check
                if check.alarm:
                    alarms.append(_alarm_line(self.seeds[key[0]], key, check))
        tested = {
            key: TestedEpisodes(check, watch.latest()) for key, (watch, check) in latest.items()
        }
        self._log.write(step, tested, loggers)
        return alarms

    def keep_reference(self, evaluator: Evaluator, policy: Policy) -> None:
        """Record episodes of the final policy acting alone, which later ones are compared with.

        Args:
            evaluator: the evaluator of the run.
            policy: the exploration-policy.
        """
        folder, chunk_rows = self._folder / REFERENCE, self.settings.chunk_rows
        writer = RecordingWriter(folder, self.sizes, chunk_rows, chunks=None)
        writer.clear()

        def sink(index: int, steps: WatchedSteps, activations: Mapping[str, Tensor]) -> None:
            writer.add(steps, as_arrays(activations))

        episodes = np.zeros((len(self.seeds), self.settings.trusted), np.int64)
        # Every step of every episode, since whoever compares with them may have fewer.
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
        """What is recorded and not yet written or tested, and the references so far."""
        return {
            "recording": self._recording.state_dict(),
            "online": self.online.state_dict(),
            "evaluation": self.evaluation.state_dict(),
            **self._episodes.state_dict(),
            "watches": [
                {"key": list(key), "state": watch.state_dict()}
                for key, watch in self._watches.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; what was recorded after it is removed and comes again."""
        self._recording.load_state_dict(state["recording"])
        self.online.load_state_dict(state["online"])
        self.evaluation.load_state_dict(state["evaluation"])
        self._episodes.load_state_dict(state)
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

    def _take(self, index: int, steps: WatchedSteps, activations: Mapping[str, Tensor]) -> None:
        self._recording.add(steps, as_arrays(activations))

    def _take_online(
        self, index: int, steps: WatchedSteps, activations: Mapping[str, Tensor]
    ) -> None:
        self._take(index, steps, activations)
        self._episodes.add(index, steps)

    def _watch(self, key: WatchKey) -> Watch:
        if key not in self._watches:
            own = self._streams.select(key[0]).child("watch", key[1], key[2])
            self._watches[key] = Watch(self.settings.watch, own)
            # Stages that are over are forgotten, except the newest of each seed and phase.
            of_phase = [k for k in self._watches if k[:2] == key[:2]]
            for old in of_phase[:-KEPT_STAGES]:
                del self._watches[old]
        return self._watches[key]

    def _forward_of(self, index: int) -> Forward:
        """A function that passes one seed's steps through its own network, as it is now."""

        def forward(steps: WatchedSteps) -> dict[str, Tensor]:
            everyone = steps.observed.for_each(lambda x: x.expand(len(self.seeds), *x.shape))
            found = self.capture.observe(everyone)
            return {
                name: values.view(len(self.seeds), len(steps), -1)[index]
                for name, values in found.items()
            }

        return forward


def _alarm_line(seed: int, key: WatchKey, check: Check) -> str:
    _, phase, stage = key
    return (
        f"monitor: seed {seed}, {phase} in stage {stage}, episode {check.episode}: inputs are not "
        f"like those before (p = {check.p_value:.2g}, level {check.level:.2g})"
    )
