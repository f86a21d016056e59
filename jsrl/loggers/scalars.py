"""A value of several seeds as single numbers with a name each, on one axis of steps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jsrl.loggers.jsonl import records_of


class Scalars(NamedTuple):
    """The finite numbers of one named value.

    ``tagged`` has ``<name>/seed_<k>`` for each seed and ``<name>/mean``, or, of one seed and of
    what has no seed, ``<name>`` alone. ``mean`` is that over the seeds, None if none is finite.
    """

    tagged: dict[str, float]
    mean: float | None


def scalars_of(
    step: int,
    phase: str,
    name: str,
    value: Sequence[float] | np.ndarray | float,
    seeds: Sequence[int],
) -> Scalars:
    """The numbers of one named value, ``[S]`` or a number without a seed.

    Raises:
        ValueError: if a sequence has not one entry a seed.
    """
    records = records_of(step, phase, name, value, seeds)
    split = len(records) > 1
    tagged = {
        f"{name}/seed_{record.seed}" if split else name: record.value
        for record in records
        if record.value is not None
    }
    if not tagged:
        return Scalars({}, None)
    mean = float(np.mean(list(tagged.values())))
    return Scalars(tagged | {f"{name}/mean": mean} if split else tagged, mean)


def on_one_axis(step: int, phase: str, offline_updates: int) -> int:
    """The place of a step on one axis for all phases.

    Environment steps run from 0 upwards, and the updates of offline pre-training stand before
    them, from ``-offline_updates`` to 0.
    """
    return step - offline_updates if phase == "offline" else step
