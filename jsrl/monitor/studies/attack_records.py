"""What a study of attacks finds: one row for each attack at each size, of each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jsrl.rollout.evaluator import Evaluation

CLEAN, NOISE = "none", "noise"

SUCCESS, RETURN, ACCURACY, CHANGE = "success", "return", "accuracy", "change"

NAMES = {
    SUCCESS: "success",
    RETURN: "return",
    ACCURACY: "accuracy",
    CHANGE: "change of answers",
}


@dataclass(frozen=True)
class Row:
    """What one attack of one size did to one network.

    Args:
        seed: whose network it is; None for a model without one.
        attack: its kind; ``none`` without an attack.
        epsilon: its size, in the units of the attack's options.
        measures: by the names of ``NAMES``; None where undefined.
        rejected: the share of windows that each family rejected.
    """

    seed: int | None
    attack: str
    epsilon: float
    measures: Mapping[str, float | None]
    rejected: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_evaluation(cls, seed: int, attack: str, epsilon: float, evaluation: Evaluation) -> "Row":
        """A row with how episodes went."""
        success = float(np.mean(evaluation.successes))
        measures = {
            SUCCESS: None if np.isnan(success) else success,
            RETURN: float(np.mean(evaluation.returns)),
        }
        return cls(seed, attack, epsilon, measures)

    def noticed(self, change: float, rejected: Mapping[str, float]) -> "Row":
        """The row with the change of the network's answers, and who noticed."""
        return replace(self, measures={**self.measures, CHANGE: change}, rejected=rejected)

    def as_record(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return {
            "seed": self.seed,
            "attack": self.attack,
            "epsilon": self.epsilon,
            **self.measures,
            "rejected": dict(self.rejected),
        }


def pooled(rows: Sequence[Row]) -> list[Row]:
    """The mean over seeds of each attack at each size, in the order of the rows."""
    found = []
    for attack, epsilon in dict.fromkeys((row.attack, row.epsilon) for row in rows):
        own = [row for row in rows if (row.attack, row.epsilon) == (attack, epsilon)]
        measures = {name: _mean([r.measures[name] for r in own]) for name in own[0].measures}
        families = dict.fromkeys(name for row in own for name in row.rejected)
        rejected = {
            name: float(np.mean([row.rejected[name] for row in own if name in row.rejected]))
            for name in families
        }
        found.append(Row(None, attack, epsilon, measures, rejected))
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
