"""Rollouts of any guide, written to a file of offline data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from jsrl.core.protocols import Guide, WatchesFrames
from jsrl.core.specs import EnvSpec
from jsrl.datasets.collect import collect
from jsrl.datasets.d4rl import save_hdf5
from jsrl.envs.make import Environments, EnvSettings

COLLECTING_ENVIRONMENTS = 8
"""Stepped side by side. Results depend on this number."""


def collect_rollouts(
    path: Path,
    env: EnvSettings,
    spec: EnvSpec,
    guide: Guide,
    transitions: int,
    seed: int,
    attributes: Mapping[str, bool | int | float | str],
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Let a guide act, and write what it saw and did.

    Of several guides ``infos/guide_member`` says which one acted. A person acts in one environment.

    Args:
        path: the file, in D4RL's layout.
        env: the environment.
        spec: what it is.
        guide: acts in every step, for S = 1, with the noise that it has.
        transitions: how many to write.
        seed: of the starts and of the guide's noise.
        attributes: what to remember about the file, beside the environment and the seed.
        report: called with the number of transitions so far.
    """
    sees = isinstance(guide, WatchesFrames) and guide.needs_frames
    environments = Environments(env, 1 if sees else COLLECTING_ENVIRONMENTS)
    infos: dict[str, NDArray[Any]] = {}
    try:
        data = collect(environments, spec, guide, transitions, seed, report, infos)
    finally:
        environments.close()
    save_hdf5(path, data, infos, {"env_id": env.id, "seed": seed, **attributes})
