"""A policy of one seed, held against the episodes that it left as a reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import AppendsNumbers
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings
from jsrl.monitor.capture.episode_sources import (
    EpisodeSource,
    as_deployed,
    read_episodes,
    with_interval,
)
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.observer import Sink
from jsrl.monitor.capture.recording_files import read_manifest, require_same_network
from jsrl.monitor.capture.recording_writer import RecordingWriter
from jsrl.monitor.capture.roll_out import Wrap, roll_out
from jsrl.monitor.capture.samples import Sample, as_arrays
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.monitor.detectors.rates import RateSettings
from jsrl.monitor.watch.audit import Audit, Auditor
from jsrl.monitor.watch.settings import WatchSettings
from jsrl.networks.deployment import DeployedPolicy


@dataclass(frozen=True)
class AuditSettings:
    """Which episodes are tested, and how.

    Args:
        data: a recording's folder or an HDF5 file; None for fresh episodes.
        reference: a recording's folder or an HDF5 file with episodes that are trusted.
        phase: which phase of the recording is tested; None tests all.
        growing: whether episodes are still added to the recording.
        episodes: how many fresh episodes are run.
        num_envs: environments that run at a time.
        interval: steps from one of a fresh episode that is watched to the next.
        watch: how the episodes are tested.
        rates: how detection rates are measured.
    """

    data: Path | None
    reference: Path
    phase: str | None
    growing: bool
    episodes: int
    num_envs: int
    interval: int
    watch: WatchSettings
    rates: RateSettings


class AuditedPolicy:
    """A policy, the episodes to be tested, and those to compare them with.

    The layers of a policy are asked again for the episodes of a recording. Recordings hold no
    images, so that of a policy that sees images the activations are used that were recorded.

    Args:
        policy: S = 1.
        capture: the layers that are tested.
        env: the environment of fresh episodes.
        spec: its spaces.
        streams: of the policy's seed.
        settings: which episodes are tested, and how.
        wrap: what is put around the environment of fresh episodes, such as a fault.
    """

    def __init__(
        self,
        policy: DeployedPolicy,
        capture: LayerCapture,
        env: EnvSettings,
        spec: EnvSpec,
        streams: Streams,
        settings: AuditSettings,
        wrap: Wrap | None = None,
    ) -> None:
        self._policy = policy
        self._capture = capture
        self._env = env
        self._spec = spec
        self._streams = streams
        self._settings = settings
        self._wrap = wrap
        self._auditor: Auditor | None = None
        self._interval = settings.interval
        self._seen: set[tuple[int, int]] = set()

    @property
    def images_line(self) -> str | None:
        """What is not compared of a policy that sees images; None where it sees none."""
        if not self._policy.images:
            return None
        beside = ", and the numbers of the observation beside the images"
        return (
            f"the policy sees images ({', '.join(self._policy.images)}), which are not compared; "
            f"what is compared is its layers ({', '.join(self._capture.layers)}), as they were "
            f"when the steps were recorded{beside if self._policy.observation_size else ''}"
        )

    @torch.no_grad()
    def forward(self, steps: WatchedSteps) -> dict[str, Tensor]:
        """The activations of each layer in these steps."""
        found = self._capture.observe(steps.observed[None])
        return {name: values.view(len(steps), -1) for name, values in found.items()}

    def audit(self) -> Audit | None:
        """Test the episodes that are new.

        Returns:
            What was found so far; None while a growing recording has no episode yet.

        Raises:
            UserError: if reference or data are not there or do not fit.
        """
        episodes = self._new_episodes()
        if episodes is None:
            return None
        if self._auditor is None:
            self._auditor = Auditor(
                self._answered(self._reference()),
                self._settings.watch,
                self._settings.rates,
                self._streams,
            )
        self._auditor.add(self._answered(episodes))
        return self._auditor.audit()

    def keep_reference(self, folder: Path, episodes: int) -> None:
        """Roll out trusted episodes, and record them in a folder in place of what it holds."""
        recorded: list[tuple[WatchedSteps, dict[str, Tensor]]] = []
        # Every step, since whoever compares with them may have fewer.
        self._roll_out(episodes, lambda _, r, a: recorded.append((r, a)), 1)
        sizes = {name: values.shape[1] for name, values in recorded[0][1].items()}
        writer = RecordingWriter(folder, sizes, chunks=None)
        writer.clear()
        for steps, activations in recorded:
            writer.add(steps, as_arrays(activations))
        writer.complete()

    def _reference(self) -> list[Sample]:
        """The reference, recorded at the interval of the episodes that are tested."""
        found = self._read(self._settings.reference, "reference", None)
        return with_interval(found, self._interval, self._streams)

    def _new_episodes(self) -> list[Sample] | None:
        """The episodes that were not tested yet; None while a growing recording has none."""
        path = self._settings.data
        if path is None:
            return self._fresh_episodes()
        try:
            source = self._read(path, "data", self._settings.phase)
        except UserError:
            if self._settings.growing and self._auditor is None and path.is_dir():
                return None
            raise
        self._interval = source.interval
        new = [episode for episode in source.episodes if _name(episode) not in self._seen]
        self._seen |= {_name(episode) for episode in new}
        return new

    def _fresh_episodes(self) -> list[Sample]:
        parts: list[Sample] = []

        def sink(_: int, steps: WatchedSteps, activations: dict[str, Tensor]) -> None:
            # Where images were seen, what the layers said is kept in their place, since it is
            # compared with what a recording says, and is much smaller.
            said = activations if steps.images else {}
            parts.append(Sample(replace(steps, images={}), said))

        self._roll_out(self._settings.episodes, sink, self._settings.interval)
        everything = Sample.concatenate(parts)
        return [everything.take(places) for places in everything.steps.places_of_episodes()]

    def _answered(self, episodes: Sequence[Sample]) -> list[Sample]:
        """The episodes as if the policy had acted, with the activations of its layers."""
        return [
            episode if episode.activations else Sample(episode.steps, self.forward(episode.steps))
            for episode in as_deployed(episodes)
        ]

    def _read(self, path: Path, key: str, phase: str | None) -> EpisodeSource:
        size, (seed,) = self._policy.observation_size, self._streams.seeds
        spec = self._spec if path.is_file() else None
        layers = self._capture.layers if self._policy.images else ()
        policy = self._policy
        appended = len(policy.appended) if isinstance(policy, AppendsNumbers) else 0
        source = read_episodes(path, key, phase, seed, size, spec, layers, appended)
        for line in source.lines:
            print(line)
        if path.is_dir():
            self._require_own(path)
        return source

    def _require_own(self, folder: Path) -> None:
        """Refuse a recording of a network that has not the layers of this policy.

        It may hold some of these layers only.
        """
        everything = LayerCapture(self._policy, ".*")
        images = {
            name: torch.zeros(1, 1, *shape, dtype=torch.uint8)
            for name, shape in self._policy.images.items()
        }
        zeros = Observation(torch.zeros(1, 1, self._policy.observation_size), images)
        own = {name: value.numel() for name, value in everything.observe(zeros).items()}
        recorded = read_manifest(folder)
        shared = {name: size for name, size in own.items() if name in recorded["layers"]}
        require_same_network(recorded, shared, folder)

    def _roll_out(self, episodes: int, sink: Sink, interval: int) -> None:
        roll_out(
            *(self._env, self._spec, self._policy, self._capture, self._streams),
            *(episodes, self._settings.num_envs, sink),
            interval=interval,
            wrap=self._wrap,
        )


def _name(episode: Sample) -> tuple[int, int]:
    """Phase and number of an episode."""
    steps = episode.steps
    return int(steps.phase[-1]), int(steps.episode[0])
