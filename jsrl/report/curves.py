"""Curves out of the records of runs: steps, and a value for each seed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jsrl.loggers.metrics import Record

Curve = tuple[Int[np.ndarray, " T"], Float[np.ndarray, "S T"]]
"""Environment steps ``[T]``, and a value for each seed ``[S, T]``, NaN where there is none."""

EXPLORER_SHARE = "collect/explorer_share"
GUIDE_STEPS = "curriculum/guide_steps"


def curve(metrics: Sequence[Sequence[Record]], name: str, phase: str | None = "online") -> Curve:
    """The values of ``name`` over steps, the seeds of several runs one below the other.

    Args:
        metrics: the records of each run; equal seeds of different runs stay apart.
        name: ``<group>/<name>``.
        phase: only the records of this phase; None for all.
    """
    found: dict[tuple[int, int | None], dict[int, float]] = {}
    for run, records in enumerate(metrics):
        for record in records:
            if record.name == name and phase in (None, record.phase):
                value = np.nan if record.value is None else record.value
                found.setdefault((run, record.seed), {})[record.step] = value
    steps = np.array(sorted({step for values in found.values() for step in values}), dtype=int)
    rows = [[values.get(int(step), np.nan) for step in steps] for values in found.values()]
    return steps, np.array(rows, dtype=float).reshape(len(found), len(steps))


def has_guide_steps(guide_steps: Curve) -> bool:
    """Whether the number h of guide steps was ever above 0."""
    return bool(np.nanmax(guide_steps[1], initial=0) > 0)


def is_shared(explorer_share: Curve) -> bool:
    """Whether anyone but the explorer ever acted."""
    return bool(np.nanmin(explorer_share[1], initial=1) < 1)
