"""Episodes to look at: from a recording, or from a file of offline data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jsrl.datasets import Dataset, load_hdf5
from jsrl.errors import UserError
from jsrl.monitor.recording import MANIFEST, Recording
from jsrl.monitor.rows import ACTORS, PHASES, Rows


def read_episodes(path: Path, phase: str | None, seed: int, observation_size: int) -> list[Rows]:
    """The episodes of a recording's folder or of an HDF5 file, in the order of their ends.

    Args:
        path: of either.
        phase: of the recording; None takes all.
        seed: of the recording.
        observation_size: that is expected.

    Raises:
        UserError: if it is neither, of another observation, or empty.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a recording's folder or an HDF5 file")
    if path.is_dir():
        if not (path / MANIFEST).exists():
            raise UserError(f"{path} is no recording: it has no {MANIFEST}")
        rows = Recording(path).rows(phase, seed=seed)
        episodes = rows.episodes()
    else:
        episodes = episodes_of_dataset(load_hdf5(path), seed)
    if not episodes:
        raise UserError(
            f"{path} has no episode of seed {seed}"
            f"{'' if phase is None else f' in phase {phase}'}; choose another seed or phase"
        )
    size = episodes[0].observations.shape[1]
    if size != observation_size:
        raise UserError(
            f"{path} has observations of size {size}; the policy expects {observation_size}: it is "
            "of another environment"
        )
    return episodes


def episodes_of_dataset(dataset: Dataset, seed: int) -> list[Rows]:
    """The episodes of offline data, as if the seed's policy had seen them."""
    ends = [*dataset.episode_starts[1:], len(dataset)]
    return [
        rows_of_data(dataset, int(start), int(end), number, seed)
        for number, (start, end) in enumerate(zip(dataset.episode_starts, ends, strict=True))
    ]


def rows_of_data(dataset: Dataset, start: int, end: int, episode: int, seed: int) -> Rows:
    """The transitions from ``start`` to ``end``, of one episode."""
    count = end - start
    return Rows(
        observations=dataset.data.observations[start:end],
        actions=dataset.data.actions[start:end],
        step=np.arange(start, end),
        episode=np.full(count, episode),
        time=np.arange(count),
        phase=np.full(count, PHASES.index("offline")),
        stage=np.full(count, -1),
        actor=np.full(count, ACTORS.index("data")),
        seed=np.full(count, seed),
    )


def as_deployed(episodes: Sequence[Rows]) -> list[Rows]:
    """The same episodes without a difference of who acted: what is compared is what was seen."""
    actor = ACTORS.index("exploration")
    return [Rows(**{**rows.__dict__, "actor": np.full(len(rows), actor)}) for rows in episodes]
