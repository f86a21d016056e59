"""Episodes to be tested: from a recording, or from a file of offline data."""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.datasets import Dataset, DatasetWarning, load_hdf5
from jsrl.monitor.capture.recording import Recording
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import ACTORS, steps_of_dataset


@dataclass(frozen=True)
class EpisodeSource:
    """Episodes that were recorded every ``interval`` environment steps.

    They have the activations that were asked for and recorded, and no others. ``lines`` say what
    was converted in a file of offline data, and what is doubtful there.
    """

    episodes: list[Sample]
    interval: int
    lines: tuple[str, ...] = ()


def read_episodes(
    path: Path,
    key: str,
    phase: str | None,
    seed: int,
    observation_size: int,
    spec: EnvSpec | None = None,
    layers: Collection[str] = (),
    appended: int = 0,
) -> EpisodeSource:
    """The whole episodes of a recording's folder or of an HDF5 file, in order.

    Args:
        path: the folder or the file.
        key: the key of the configuration that names it.
        phase: which phase of the recording is read; None reads all.
        seed: which seed of the recording is read.
        observation_size: the size of an observation that is expected.
        spec: the spaces of the environment that the policy acts in. Actions of a file are in its
            units and are clipped as it clips them, unless the file says otherwise.
        layers: the layers whose recorded activations are read; an HDF5 file has none.
        appended: how many columns the policy appends itself: a recording of its training
            has them too, and they are left out.

    Raises:
        UserError: if the path is neither, holds no whole episode, or has other observations.
    """
    if not path.exists():
        raise UserError(
            f"{key}={str(path)!r} does not exist; expected a recording's folder or an HDF5 file"
        )
    if path.is_dir():
        recording = Recording(path)
        found = EpisodeSource(recording.samples(layers, phase, seed), recording.interval)
    else:
        dataset = _read_file(path, key, spec)
        found = EpisodeSource(episodes_of_dataset(dataset, seed), 1, dataset.notices())
    if not found.episodes:
        of_phase = "" if phase is None else f" in phase {phase}"
        raise UserError(
            f"{path} has no whole episode of seed {seed}{of_phase}{_seeds_of(path)}; choose "
            "another seed or phase, or wait until it has grown"
        )
    size = found.episodes[0].steps.observations.shape[1]
    if appended and size == observation_size + appended:
        found, size = _without_last_columns(found, observation_size), observation_size
    if size != observation_size:
        raise UserError(
            f"{path} has observations of size {size}; the policy expects {observation_size}: it is "
            "of another environment"
        )
    return found


def _without_last_columns(source: EpisodeSource, size: int) -> EpisodeSource:
    """The episodes with the first columns of their observations alone."""
    episodes = [
        replace(e, steps=replace(e.steps, observations=e.steps.observations[:, :size]))
        for e in source.episodes
    ]
    return replace(source, episodes=episodes)


def _read_file(path: Path, key: str, spec: EnvSpec | None) -> Dataset:
    # Whoever asks prints what is doubtful.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        return load_hdf5(path, spec=spec, clip_actions=True, key=key)


def _seeds_of(path: Path) -> str:
    """Which seeds a recording has, since whoever deploys a policy names its seed."""
    if not path.is_dir():
        return ""
    return f" (it has steps of seeds {sorted(set(Recording(path).steps().seed.tolist()))})"


def with_interval(source: EpisodeSource, interval: int, streams: Streams) -> list[Sample]:
    """The episodes as if they had been recorded at this interval, from a first step that is drawn.

    Raises:
        UserError: if the interval is no multiple of that of the source.
    """
    if interval % source.interval:
        raise UserError(
            f"one side was recorded every {source.interval} steps and the other every {interval}; "
            "one has to be a multiple of the other: see monitor.interval"
        )
    stride = interval // source.interval
    found = []
    for number, episode in enumerate(source.episodes):
        first, length = streams.integer("first row", number)[0] % stride, len(episode.steps)
        found.append(episode.take(np.arange(min(first, length - 1), length, stride)))
    return found


def episodes_of_dataset(dataset: Dataset, seed: int) -> list[Sample]:
    """The episodes of offline data, as if the policy of a seed had seen them."""
    starts = np.asarray(dataset.episode_starts)
    lengths = np.diff(starts, append=len(dataset))
    numbers = np.repeat(np.arange(len(starts)), lengths)
    steps = steps_of_dataset(dataset.data, starts[numbers], numbers, seed)
    ranges = zip(starts, lengths, strict=True)
    return [Sample(steps.take(slice(i, i + n)), {}) for i, n in ranges]


def as_deployed(episodes: Sequence[Sample]) -> list[Sample]:
    """The episodes as if the policy had acted throughout, so that all steps are compared."""
    actor = ACTORS.index("exploration")
    return [
        replace(episode, steps=replace(episode.steps, actor=np.full(len(episode.steps), actor)))
        for episode in episodes
    ]
