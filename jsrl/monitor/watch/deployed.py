"""A monitor around any policy outside of ``jsrl``: the policy acts through it and is watched."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import Policy
from jsrl.core.streams import Streams, checked_seed
from jsrl.monitor.capture.calls import CallsScripted, numbers_of
from jsrl.monitor.capture.forward_passes import PassRecorder
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.watch.deployed_episodes import DeployedEpisodes
from jsrl.monitor.watch.deployed_recording import DeployedRecording
from jsrl.monitor.watch.deployed_reference import read_reference, write_reference
from jsrl.monitor.watch.episode_watch import Check, Watch
from jsrl.monitor.watch.health import MonitorHealth, MonitorStatus
from jsrl.monitor.watch.locks import PicklableLock
from jsrl.monitor.watch.settings import WatchSettings

LATEST_CHECKS = 1000
"""How many tests are remembered, the latest ones."""


class Monitor:
    """A policy that is watched while it acts. ``Monitor.wrap`` makes one.

    Its first episodes, all of which should be good ones, are the reference; each one after that is
    tested together with those before it::

        policy = Monitor.wrap(network)
        while True:
            action = policy(observation)            # [O], or [B, O] for B robots at once
            ...
            if episode_ended:
                for check in policy.end_episode():
                    if check.alarm: ...

    Whatever goes wrong in the monitor itself, the policy's answers are as they would be without it:
    what could not be watched, tested or recorded is counted in ``status`` and told once, as a
    warning. Several threads may act through one monitor, or each through its own of the same
    network; a pass is seen by the monitor that it was made through alone.

    Args:
        policy: the network.
        layers: a regular expression of layer names; see ``LayerCapture``.
        interval: the steps from one that is watched to the next.
        settings: when an alarm is raised.
        seed: the seed of the permutations, from 0 to 2⁶³ - 1.
        observation_dims: how many axes an observation has; the axes before them are robots.
        record: a folder that is made for a recording of the watched steps; None for no recording.

    Raises:
        UserError: if the policy is no module or has no such layer, a number is out of range, or the
            folder cannot be made.
    """

    def __init__(
        self,
        policy: nn.Module,
        layers: str,
        interval: int,
        settings: WatchSettings,
        seed: int,
        observation_dims: int = 1,
        record: Path | None = None,
    ) -> None:
        if not isinstance(policy, nn.Module):
            raise UserError(
                f"a monitor looks into a torch.nn.Module; got a {type(policy).__name__}"
            )
        if interval < 1:
            raise UserError(f"interval={interval} must be at least 1 step")
        self.policy = policy
        self.checks: deque[Check] = deque(maxlen=LATEST_CHECKS)
        self.alarm = False
        # Nothing can be attached to a TorchScript module, but to a module around it.
        scripted = isinstance(policy, torch.jit.ScriptModule)
        self._called = CallsScripted(policy) if scripted else policy
        self._capture = LayerCapture(self._called, layers)
        self._layers: tuple[str, ...] | None = None
        self._interval = interval
        own_seed = checked_seed(seed, "seed")
        self._watch = Watch(settings, Streams([own_seed], ("deployed",)))
        self._episodes = DeployedEpisodes(interval, observation_dims, own_seed)
        self._health = MonitorHealth()
        self._testing = PicklableLock()
        self._waiting: deque[Sample] = deque()
        self._recording = None if record is None else DeployedRecording(record, interval)

    @classmethod
    def wrap(
        cls,
        policy: nn.Module,
        *,
        layers: str = ".*",
        interval: int = 1,
        level: float = 0.05,
        horizon: int = 200,
        window: int = 3,
        reference: int = 60,
        permutations: int = 50_000,
        seed: int = 0,
        observation_dims: int = 1,
        record: Path | str | None = None,
    ) -> Self:
        """Watch a policy; see ``WatchSettings`` for what the numbers mean.

        With ``record``, a new folder, the watched steps are also written there, in files of some
        thousand steps of which the newest 64 are kept, for ``Recording`` and ``jsrl monitor
        data=FOLDER`` to read. ``close``, or the end of a ``with``, writes the last of them. Steps
        bear the ``seed``: for ``jsrl monitor`` it has to be that of the policy in its run.
        """
        detector = DetectorSettings(permutations)
        settings = WatchSettings(
            level, horizon, window=window, reference=reference, detector=detector
        )
        folder = None if record is None else Path(record)
        return cls(policy, layers, interval, settings, seed, observation_dims, folder)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """What the policy answers, unchanged.

        The first argument is the observation, ``[O]`` or ``[*batch, O]``: a tensor, an array, or
        what holds one, of which the first is looked at.
        """
        return self._watched(self._called, arguments, options)

    def act(self, *arguments: Any, **options: Any) -> Any:
        """What the policy's own ``act`` answers, unchanged.

        Raises:
            UserError: if the policy has no ``act``.
        """
        if not isinstance(self.policy, Policy):
            raise UserError(f"{type(self.policy).__name__} has no act; call the monitor itself")
        return self._watched(self.policy.act, arguments, options)

    @property
    def ready(self) -> bool:
        """Whether the reference is complete."""
        return self._watch.ready

    @property
    def status(self) -> MonitorStatus:
        """The state of the monitor, and what of its own has failed so far."""
        faults = self._health.counts
        state = "degraded" if faults else "watching" if self.ready else "collecting"
        return MonitorStatus(
            *(state, self._health.reason, faults),
            *(len(self._watch.reference), self._watch.tests, self.alarm),
        )

    def end_episode(self, mask: Bool[NDArray[np.bool_], " B"] | None = None) -> list[Check]:
        """Note that the episodes of all robots ended, or of those in ``mask``.

        Returns:
            The tests that followed; none while the reference is being collected. Where several
            threads act, one may be given the tests of another's episodes; ``checks`` has all.

        Raises:
            UserError: if the mask has another size than the observations.
        """
        self._waiting.extend(self._end(mask))
        found: list[Check] = []
        # Other threads act on meanwhile.
        with self._testing:
            while self._waiting:
                check = self._test(self._waiting.popleft())
                if check is not None:
                    found.append(check)
            self.checks.extend(found)
            self.alarm |= any(check.alarm for check in found)
        return found

    def _end(self, mask: Bool[NDArray[np.bool_], " B"] | None) -> list[Sample]:
        try:
            return self._episodes.end_episodes(mask)
        except UserError:
            raise
        except Exception as error:  # Whatever it is, the robot goes on to its next episode.
            self._health.note("test", error)
            return []

    def _test(self, episode: Sample) -> Check | None:
        try:
            return self._watch.add(episode)
        except Exception as error:  # Whatever it is, the policy acts on.
            self._health.note("test", error)
            return None

    def close(self) -> None:
        """Write what the recording still has in memory; without a recording, nothing happens.

        Raises:
            UserError: if it cannot be written.
        """
        if self._recording is not None:
            self._recording.close(all_ended=self._episodes.all_ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self.close()
        except UserError as fault:
            if kind is None:
                raise
            self._health.note("recording", fault)

    def save_reference(self, folder: Path | str) -> None:
        """Write the reference, for a monitor of the same network in another process.

        Raises:
            UserError: if it is not complete yet, or cannot be written.
        """
        if not self.ready:
            raise UserError(
                f"the reference has {len(self._watch.reference)} of "
                f"{self._watch.settings.reference} episodes; run more before saving it"
            )
        write_reference(Path(folder), list(self._watch.reference), self._interval)

    def load_reference(self, folder: Path | str, seed: int | None = None) -> None:
        """Take the latest episodes of a recording as the reference.

        Args:
            folder: a folder that ``save_reference`` wrote, or the reference of a run.
            seed: whose episodes are taken; needed where the recording holds several seeds.

        Raises:
            UserError: if the recording is of another network, of another interval, or too short.
        """
        wanted = self._watch.settings.reference
        for episode in read_reference(Path(folder), self._capture, self._interval, wanted, seed):
            self._watch.trust(episode)

    def _watched(
        self, act: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """What ``act`` answers or raises, and its activations are kept if the step is watched."""
        try:
            seen = numbers_of(next(iter((*arguments, *options.values())), None))
            step = self._episodes.begin_step(seen)
        except Exception as error:  # Whoever acts is not to notice that somebody looks on.
            self._health.note("look", error)
            return act(*arguments, **options)
        recorder = None if step is None else self._begin_recording()
        try:
            answer = act(*arguments, **options)
        finally:
            if recorder is not None:
                recorder.end()
        if recorder is not None and step is not None:
            self._keep(step, seen, answer, recorder)
        self._episodes.end_step()
        return answer

    def _begin_recording(self) -> PassRecorder | None:
        try:
            recorder = self._capture.recorder_that_never_raises()
            recorder.begin()
            return recorder
        except Exception as error:  # Modules of others may not take what is put on them.
            self._health.note("look", error)
            return None

    def _observed_layers(self, recorder: PassRecorder) -> dict[str, Tensor]:
        """The layers that are watched: those that said something when they were first looked at.

        Raises:
            Exception: if none of them did, or one of those that are watched says nothing now.
        """
        said = recorder.into
        if self._layers is None and said:
            silent = [name for name in self._capture.layers if name not in said]
            if silent:
                text = f"{', '.join(silent)} said nothing that a monitor can look at"
                self._health.note("layer", recorder.fault or UserError(text))
            self._layers = tuple(name for name in self._capture.layers if name in said)
        watched = self._layers or tuple(self._capture.layers)
        if any(name not in said for name in watched):
            if recorder.fault is not None:
                raise recorder.fault
            self._capture.require_all({*said, *(set(self._capture.layers) - set(watched))})
        return {name: said[name] for name in watched}

    def _keep(self, step: int, observations: Tensor, answer: Any, recorder: PassRecorder) -> None:
        """Keep what was watched until its episode ends, and write it to the recording."""
        try:
            layers = self._observed_layers(recorder)
            watched = self._episodes.keep(step, observations, answer, layers)
        except Exception as error:  # Out of memory, sizes that change, or what no one thought of.
            self._health.note("look", error)
            return
        if self._recording is None:
            return
        try:
            self._recording.add(watched)
        except Exception as error:  # A full disk, or a folder that is gone.
            self._health.note("recording", error)
