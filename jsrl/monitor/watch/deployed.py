"""A monitor around any policy outside of ``jsrl``: the policy acts through it and is watched."""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import Policy
from jsrl.core.ranges import one_of
from jsrl.core.streams import Streams, checked_seed
from jsrl.monitor.capture.calls import CallsScripted, numbers_of
from jsrl.monitor.capture.forward_passes import PassRecorder
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.watch.deployed_episodes import DeployedEpisodes
from jsrl.monitor.watch.deployed_layers import DeployedLayers
from jsrl.monitor.watch.deployed_recording import DeployedRecording
from jsrl.monitor.watch.deployed_reference import read_reference, write_reference
from jsrl.monitor.watch.deployed_requests import DeployedRequests, one_by_one
from jsrl.monitor.watch.deployed_tests import DeployedTests
from jsrl.monitor.watch.episode_watch import Check, Watch
from jsrl.monitor.watch.health import MonitorHealth, MonitorStatus
from jsrl.monitor.watch.settings import WatchSettings

EPISODES, REQUESTS = "episodes", "requests"
SAMPLES = (EPISODES, REQUESTS)
"""What a monitor takes for independent of each other."""

DEFAULTS: dict[str, dict[str, Any]] = {
    EPISODES: {"horizon": 200, "window": 3, "stride": 1, "reference": 60},
    REQUESTS: {"horizon": 10_000, "window": 50, "stride": 50, "reference": 500},
}
PERMUTATIONS = {EPISODES: 50_000, REQUESTS: 5000}
"""A test of requests has many more blocks to permute, and someone waits for its answer."""


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
        share: of independent requests, the probability that one of them is watched; None for
            episodes.

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
        share: float | None = None,
    ) -> None:
        if not isinstance(policy, nn.Module):
            raise UserError(
                f"a monitor looks into a torch.nn.Module; got a {type(policy).__name__}"
            )
        if interval < 1:
            raise UserError(f"interval={interval} must be at least 1 step")
        self.policy = policy
        # Nothing can be attached to a TorchScript module, but to a module around it.
        scripted = isinstance(policy, torch.jit.ScriptModule)
        self._called = CallsScripted(policy) if scripted else policy
        self._capture = LayerCapture(self._called, layers)
        self._interval = interval
        own_seed = checked_seed(seed, "seed")
        self._watch = Watch(settings, Streams([own_seed], ("deployed",)))
        self._health = MonitorHealth()
        self._layers = DeployedLayers(self._capture, self._health)
        self._episodes: DeployedEpisodes | DeployedRequests = (
            DeployedEpisodes(interval, observation_dims, own_seed)
            if share is None
            else DeployedRequests(share, observation_dims, own_seed)
        )
        self._tests = DeployedTests(self._watch, self._health, wait=share is None)
        self._recording = None if record is None else DeployedRecording(record, interval)

    @classmethod
    def wrap(
        cls,
        policy: nn.Module,
        *,
        layers: str = ".*",
        interval: int = 1,
        level: float = 0.05,
        samples: str = EPISODES,
        horizon: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        reference: int | None = None,
        share: float = 1.0,
        permutations: int | None = None,
        seed: int = 0,
        observation_dims: int = 1,
        record: Path | str | None = None,
    ) -> Self:
        """Watch a policy; see ``WatchSettings`` for what the numbers mean.

        With ``samples="requests"`` the rows of a batch, of any size, are independent requests to a
        network, not robots whose episodes end: each is tested like an episode of one step, without
        ``end_episode``. The request that completes a ``stride`` is answered after the test; all
        others are answered at once, also while another thread tests.

        Args:
            policy: the network.
            layers: a regular expression of layer names.
            interval: of episodes, the steps from one that is watched to the next.
            level: the probability of any false alarm among ``horizon`` episodes or requests.
            samples: ``episodes`` or ``requests``.
            horizon: by default 200 episodes or 10,000 requests.
            window: how many are tested at a time; by default 3 episodes or 50 requests.
            stride: how many come from one test to the next; by default 1 episode or 50 requests,
                and never more than the window.
            reference: how many are taken as good; by default 60 episodes or 500 requests.
            share: the probability that a request is watched, in (0, 1]; the others are not counted
                in the numbers above.
            permutations: how many a test draws at most; by default 50,000, of requests 5,000.
            seed: the seed of the permutations, and of which requests are watched.
            observation_dims: how many axes an observation has.
            record: a new folder for a recording, or None.

        With ``record``, a new folder, the watched steps are also written there, in files of some
        thousand steps of which the newest 64 are kept, for ``Recording`` and ``jsrl monitor
        data=FOLDER`` to read. ``close``, or the end of a ``with``, writes the last of them. Steps
        bear the ``seed``: for ``jsrl monitor`` it has to be that of the policy in its run.

        Raises:
            UserError: as the class does, and where an option does not belong to the samples.
        """
        one_of("samples", samples, SAMPLES)
        requests = samples == REQUESTS
        if requests and interval != 1:
            raise UserError(f"interval={interval} is of episodes; of requests, watch a share=")
        if not requests and share != 1:
            raise UserError(f"share={share} is of requests; of episodes, watch steps by interval=")
        given = {"horizon": horizon, "window": window, "stride": stride, "reference": reference}
        settings = _settings(samples, level, given, permutations)
        folder = None if record is None else Path(record)
        own_share = share if requests else None
        return cls(policy, layers, interval, settings, seed, observation_dims, folder, own_share)

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
    def checks(self) -> deque[Check]:
        """The latest tests, at most ``LATEST_CHECKS`` of them."""
        return self._tests.checks

    @property
    def alarm(self) -> bool:
        """Whether any test raised an alarm."""
        return self._tests.alarm

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
            UserError: if the mask has another size than the observations, or requests are watched.
        """
        return self._tests.run(self._end(mask))

    def _end(self, mask: Bool[NDArray[np.bool_], " B"] | None) -> list[Sample]:
        if isinstance(self._episodes, DeployedRequests):
            raise UserError(
                f"with samples={REQUESTS!r} no episode ends: each request is tested when its "
                "window is complete; leave out end_episode"
            )
        try:
            return self._episodes.end_episodes(mask)
        except UserError:
            raise
        except Exception as error:  # Whatever it is, the robot goes on to its next episode.
            self._health.note("test", error)
            return []

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
        recorder = None if step is None else self._layers.begin()
        try:
            answer = act(*arguments, **options)
        finally:
            if recorder is not None:
                recorder.end()
        if recorder is not None and step is not None:
            self._keep(step, seen, answer, recorder)
        self._episodes.end_step()
        return answer

    def _keep(self, step: int, observations: Tensor, answer: Any, recorder: PassRecorder) -> None:
        """Keep what was watched until its episode ends, and write it to the recording."""
        try:
            layers = self._layers.observed(recorder)
            watched = self._episodes.keep(step, observations, answer, layers)
        except Exception as error:  # Out of memory, sizes that change, or what no one thought of.
            self._health.note("look", error)
            return
        if self._recording is not None:
            try:
                self._recording.add(watched)
            except Exception as error:  # A full disk, or a folder that is gone.
                self._health.note("recording", error)
        if isinstance(self._episodes, DeployedRequests):
            self._tests.run(one_by_one(watched))


def _settings(
    samples: str, level: float, given: Mapping[str, int | None], permutations: int | None
) -> WatchSettings:
    """The numbers that were given, and for the others the defaults of such samples."""
    numbers = DEFAULTS[samples] | {n: value for n, value in given.items() if value is not None}
    if given["stride"] is None:
        numbers["stride"] = min(numbers["stride"], numbers["window"])
    detector = DetectorSettings(PERMUTATIONS[samples] if permutations is None else permutations)
    return WatchSettings(level, detector=detector, **numbers)
