"""A monitor around any policy, outside of ``jsrl``: it acts through the monitor, which looks on."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.errors import UserError
from jsrl.monitor.deployed_recording import DeployedRecording
from jsrl.monitor.detector import DetectorSettings, Sample
from jsrl.monitor.hooks import Capture, first_tensor
from jsrl.monitor.looks import Looks
from jsrl.monitor.recording import (
    Recording,
    RecordingWriter,
    as_arrays,
    require_same_network,
)
from jsrl.monitor.rows import ACTORS, PHASES, Rows
from jsrl.monitor.watch import Check, Watch, WatchSettings
from jsrl.networks import GaussianPolicy
from jsrl.seeding import Streams

LATEST_CHECKS = 1000
"""Tests that are remembered."""


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

    Args:
        policy: the network.
        layers: regular expression of layer names; see ``hooks.Capture``.
        interval: steps between two that are looked at.
        settings: of the tests.
        seed: of the permutations.
        observation_dims: axes of one observation; those before it are robots.
        record: a folder to be made, for a recording of what is looked at; None for none.

    Raises:
        UserError: if the policy is no module or has no such layer, or the folder cannot be made.
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
        self._capture = Capture(policy, layers)
        self._interval = interval
        self._watch = Watch(settings, Streams([seed], ("deployed",)))
        self._seed = seed
        self._step = 0
        self._clocks: NDArray[np.int64] | None = None
        self._numbers = np.zeros(0, np.int64)
        self._next_number = 0
        self._observation_dims = observation_dims
        self._looks = Looks()
        self._ended: dict[int, Sample] = {}
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

        With ``record``, a new folder, what is looked at is also written there, in files of some
        thousand rows of which the newest 64 are kept, for ``Recording`` and ``jsrl monitor
        data=FOLDER`` to read; ``close``, or the end of a ``with``, writes the end of it. Rows bear
        the ``seed``: for ``jsrl monitor`` it has to be that of the policy in its run.
        """
        detector = DetectorSettings(permutations)
        settings = WatchSettings(
            level, horizon, window=window, reference=reference, detector=detector
        )
        folder = None if record is None else Path(record)
        return cls(policy, layers, interval, settings, seed, observation_dims, folder)

    def __call__(self, observations: Tensor, *arguments: Any, **options: Any) -> Any:
        """What the policy answers, unchanged. ``observations`` are ``[O]`` or ``[*batch, O]``."""
        return self._watched(self.policy, observations, arguments, options)

    def act(self, observations: Tensor, *arguments: Any, **options: Any) -> Any:
        """The same through the policy's own ``act``."""
        act: Callable[..., Any] | None = getattr(self.policy, "act", None)
        if act is None:
            raise UserError(f"{type(self.policy).__name__} has no act; call the monitor itself")
        return self._watched(act, observations, arguments, options)

    @property
    def ready(self) -> bool:
        """Whether the reference is complete."""
        return self._watch.ready

    def end_episode(self, mask: Bool[NDArray[np.bool_], " B"] | None = None) -> list[Check]:
        """Episodes ended: of all, or of the robots in ``mask``.

        Returns:
            The tests that followed; none while the reference is being collected.
        """
        if self._clocks is None:
            return []
        ended = np.ones(len(self._clocks), bool) if mask is None else np.asarray(mask, bool)
        if ended.shape != self._clocks.shape:
            raise UserError(
                f"mask has shape {ended.shape}; expected one entry for each of the "
                f"{len(self._clocks)} robots that the policy was called with"
            )
        for robot in np.flatnonzero(ended):
            number = int(self._numbers[robot])
            episode = self._looks.pop(number)
            if episode is not None:
                self._ended[number] = episode
            self._clocks[robot] = 0
            self._numbers[robot] = self._next_number
            self._next_number += 1
        found = [check for check in self._test_in_order() if check is not None]
        self.checks.extend(found)
        self.alarm |= any(check.alarm for check in found)
        return found

    def _test_in_order(self) -> Iterator[Check | None]:
        """Test episodes in the order in which they began: those that end first are the short ones.

        So an episode waits for those that began before it.
        """
        oldest = int(self._numbers.min())
        for number in sorted(number for number in self._ended if number < oldest):
            yield self._watch.add(self._ended.pop(number))

    def close(self) -> None:
        """Write what the recording still has in memory; without one, nothing happens.

        Raises:
            UserError: if it cannot be written.
        """
        if self._recording is not None and self._clocks is not None:
            self._recording.close(all_ended=not self._clocks.any())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
        sizes = {n: v.shape[1] for n, v in self._watch.reference[0].activations.items()}
        writer = RecordingWriter(Path(folder), sizes, chunks=None, interval=self._interval)
        writer.clear()
        for number, sample in enumerate(self._watch.reference):
            rows = replace(sample.rows, episode=np.full(len(sample.rows), number))
            writer.add(rows, as_arrays(sample.activations))
        writer.complete()

    def load_reference(self, folder: Path | str, seed: int | None = None) -> None:
        """Take the latest episodes of a recording as reference, as the network sees them now.

        Args:
            folder: that ``save_reference`` wrote, or the reference of a run of this package.
            seed: of a recording of several seeds.

        Raises:
            UserError: if the recording is of another network, of another interval, or too short.
        """
        recording = Recording(Path(folder))
        if recording.interval != self._interval:
            raise UserError(
                f"{folder} was recorded every {recording.interval} steps, this monitor looks every "
                f"{self._interval}: use interval={recording.interval}"
            )
        episodes = recording.episodes(seed=seed)
        seeds = sorted({int(rows.seed[0]) for rows in episodes})
        if len(seeds) > 1:
            raise UserError(f"{folder} holds seeds {seeds}; name one of them by seed=")
        wanted = self._watch.settings.reference
        if len(episodes) < wanted:
            raise UserError(
                f"{folder} holds {len(episodes)} episodes; this monitor has reference={wanted}"
            )
        for episode in episodes[-wanted:]:
            self._watch.trust(Sample(episode, self._forward(episode, recording)))

    def _forward(self, episode: Rows, recording: Recording) -> dict[str, Tensor]:
        observations = torch.from_numpy(episode.observations).to(self._capture.device)
        # A policy of this package has an axis of seeds, here of one.
        leading = observations.unsqueeze(0) if self._has_seeds else observations
        try:
            found = self._capture.forward(leading)
        except RuntimeError as error:
            raise UserError(
                f"{recording.folder} does not fit: the policy, called with its observations as "
                f"{list(leading.shape)}, says {error}; it is of another network, or of one whose "
                "observations have more axes"
            ) from error
        activations = {n: v.reshape(len(episode), -1) for n, v in found.items()}
        shared = {n: v.shape[1] for n, v in activations.items() if n in recording.sizes}
        known = {n: size for n, size in recording.sizes.items() if n in shared}
        require_same_network({"layers": known}, shared, recording.folder)
        return activations

    @property
    def _has_seeds(self) -> bool:
        return isinstance(self.policy, GaussianPolicy)

    def _watched(
        self, act: Callable[..., Any], observations: Tensor, arguments: Any, options: Any
    ) -> Any:
        if not isinstance(observations, Tensor):
            raise UserError(
                f"the policy was called with a {type(observations).__name__}; a monitored policy "
                "takes a torch.Tensor"
            )
        batch = observations.shape[: observations.ndim - self._observation_dims]
        robots = batch.numel()
        if self._clocks is None:
            self._clocks = np.zeros(robots, np.int64)
            self._numbers = np.arange(robots)
            self._next_number = robots
        if len(self._clocks) != robots:
            raise UserError(
                f"the policy was called with {robots} observations, before with "
                f"{len(self._clocks)}; use a monitor for each size of a batch"
            )
        self._step += 1
        due = self._step % self._interval == 0
        if due:
            seen: dict[str, Tensor] = {}
            with self._capture.attached(seen):
                answer = act(observations, *arguments, **options)
            self._capture.require_all(seen)
            self._keep(observations, answer, seen)
        else:
            answer = act(observations, *arguments, **options)
        self._clocks += 1
        return answer

    def _keep(self, observations: Tensor, answer: Any, seen: dict[str, Tensor]) -> None:
        """Remember what was looked at."""
        assert self._clocks is not None
        robots = len(self._clocks)
        action = first_tensor(answer)
        if action is None:
            raise UserError(
                f"the policy answered a {type(answer).__name__}; an action, or a tuple that begins "
                "with one, was expected: wrap the policy in a module that answers that"
            )
        activations = {n: v.reshape(robots, -1) for n, v in seen.items()}
        seen_by, done = (
            part.detach().float().cpu().numpy().reshape(robots, -1).copy()
            for part in (observations, action)
        )
        rows = Rows(
            observations=seen_by,
            actions=done,
            step=np.full(robots, self._step),
            episode=self._numbers.copy(),
            time=self._clocks.copy(),
            phase=np.full(robots, PHASES.index("deployed")),
            stage=np.full(robots, -1),
            actor=np.full(robots, ACTORS.index("exploration")),
            seed=np.full(robots, self._seed),
        )
        look = Sample(rows, activations)
        if self._recording is not None:
            self._recording.add(look)
        for robot in range(robots):
            number, count = int(self._numbers[robot]), int(self._clocks[robot]) // self._interval
            if self._looks.wants(number, count):
                self._looks.add(number, look.take(np.array([robot])))
