"""Episodes to look at: from a recording, or from a file of offline data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jsrl.datasets import Dataset, load_hdf5
from jsrl.errors import UserError
from jsrl.monitor.recording import Recording
from jsrl.monitor.rows import ACTORS, Rows, rows_of_data
from jsrl.seeding import Streams


@dataclass(frozen=True)
class Source:
    """Episodes, and how many steps lie between two of their rows."""

    episodes: list[Rows]
    interval: int


def read_source(
    path: Path, key: str, phase: str | None, seed: int, observation_size: int
) -> Source:
    """The whole episodes of a recording's folder or of an HDF5 file, in order.

    Args:
        path: of either.
        key: of the configuration that names it.
        phase: of the recording; None takes all.
        seed: of the recording.
        observation_size: that is expected.

    Raises:
        UserError: if it is neither, of another observation, or empty.
    """
    if not path.exists():
        raise UserError(
            f"{key}={str(path)!r} does not exist; expected a recording's folder or an HDF5 file"
        )
    if path.is_dir():
        recording = Recording(path)
        found = Source(recording.episodes(phase, seed), recording.interval)
    else:
        found = Source(episodes_of_dataset(load_hdf5(path, key=key), seed), 1)
    if not found.episodes:
        of_phase = "" if phase is None else f" in phase {phase}"
        raise UserError(
            f"{path} has no whole episode of seed {seed}{of_phase}{_seeds_of(path)}; choose "
            "another seed or phase, or wait until it has grown"
        )
    size = found.episodes[0].observations.shape[1]
    if size != observation_size:
        raise UserError(
            f"{path} has observations of size {size}; the policy expects {observation_size}: it is "
            "of another environment"
        )
    return found


def _seeds_of(path: Path) -> str:
    """Which seeds a recording has: whoever deploys a policy names its seed."""
    if not path.is_dir():
        return ""
    return f" (it has rows of seeds {sorted(set(Recording(path).rows().seed.tolist()))})"


def alike(source: Source, interval: int, streams: Streams) -> list[Rows]:
    """The episodes with rows so many steps apart, from a first row that is drawn.

    Raises:
        UserError: if the interval is no multiple of the source's.
    """
    if interval % source.interval:
        raise UserError(
            f"rows lie {source.interval} steps apart on one side and {interval} on the other; one "
            "has to be a multiple of the other: see monitor.interval"
        )
    stride = interval // source.interval
    found = []
    for number, rows in enumerate(source.episodes):
        first = streams.integer("first row", number)[0] % stride
        kept = rows.take(np.arange(min(first, len(rows) - 1), len(rows), stride))
        found.append(kept)
    return found


def episodes_of_dataset(dataset: Dataset, seed: int) -> list[Rows]:
    """The episodes of offline data, as if the seed's policy had seen them."""
    starts = dataset.episode_starts
    found = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(dataset)], strict=True)):
        places, time = np.arange(start, end), np.arange(end - start)
        data = dataset.data.take(places)
        found.append(rows_of_data(data, places, np.full(len(time), number), time, seed))
    return found


def as_deployed(episodes: Sequence[Rows]) -> list[Rows]:
    """The same episodes without a difference of who acted: what is compared is what was seen."""
    actor = ACTORS.index("exploration")
    return [replace(rows, actor=np.full(len(rows), actor)) for rows in episodes]
