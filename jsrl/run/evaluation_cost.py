"""What evaluations cost: episodes and environment steps, told apart by what they are for.

- ``guide``: the guide alone, before training, where the curriculum begins from how that went.
- ``decision``: those that a curriculum decides on, as long as it can still decide anything.
- ``report``: all others, which measure and change nothing.

An episode that serves a decision and a report is counted as one of ``decision``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from jsrl.core.protocols import Curriculum, Settles
from jsrl.rollout.evaluator import Evaluation

GUIDE, DECISION, REPORT = PURPOSES = ("guide", "decision", "report")

Counts = dict[str, dict[str, list[int]]]
"""By purpose ``episodes`` and ``env_steps``, a number for each seed."""


class EvaluationCost:
    """Counts the evaluations of S seeds since the run began.

    Args:
        num_seeds: S.
    """

    def __init__(self, num_seeds: int) -> None:
        self._num_seeds = num_seeds
        nothing = [0] * num_seeds
        self._counts: Counts | None = {
            purpose: {"episodes": list(nothing), "env_steps": list(nothing)} for purpose in PURPOSES
        }

    @property
    def counts(self) -> Counts | None:
        """Of every purpose; None if an earlier version, which did not count, began the run."""
        return self._counts

    def add(
        self,
        purpose: str,
        evaluation: Evaluation,
        seeds: Bool[NDArray[np.bool_], " S"] | None = None,
    ) -> None:
        """Count the episodes of an evaluation.

        Args:
            purpose: what they were for.
            evaluation: all of them.
            seeds: those for which they were for that; the others' are counted as reports. None
                for all.
        """
        if self._counts is None:
            return
        episodes, steps = evaluation.lengths.shape[1], evaluation.lengths.sum(1)
        for index in range(self._num_seeds):
            own = self._counts[purpose if seeds is None or seeds[index] else REPORT]
            own["episodes"][index] += episodes
            own["env_steps"][index] += int(steps[index])

    def so_far(self, purpose: str) -> dict[str, list[int]]:
        """Episodes and environment steps for a purpose, ``[S]`` each; nothing if not counted."""
        return {} if self._counts is None else self._counts[purpose]

    def state_dict(self) -> Counts | None:
        """Plain values, for a checkpoint."""
        return None if self._counts is None else _copy(self._counts)

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Continue where ``state_dict`` was taken; None for a checkpoint of an earlier version."""
        self._counts = None if state is None else _copy(state)


def may_decide(curricula: Sequence[Curriculum]) -> Bool[NDArray[np.bool_], " S"]:
    """The seeds whose curricula an evaluation may still change."""
    return np.array([not (isinstance(c, Settles) and c.is_settled) for c in curricula])


def _copy(counts: Mapping[str, Any]) -> Counts:
    return {
        purpose: {name: list(values) for name, values in counts[purpose].items()}
        for purpose in PURPOSES
    }
