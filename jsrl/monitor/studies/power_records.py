"""What the records of faults say: shares of windows that a method rejects, and their order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CLEAN = "clean"
"""The kind of the record of episodes without a fault."""

Record = Mapping[str, Any]


def rejected(record: Record, method: str, level: float) -> float | None:
    """The share of windows in which a method rejects; None where it said nothing."""
    values = [p for p in record["p_values"].get(method, []) if p is not None]
    return float(np.mean(np.array(values) <= level)) if values else None


def false_alarms(clean: Record, method: str, level: float) -> tuple[float, float] | None:
    """The share of clean windows that a method rejects, and its standard error over roll-outs.

    Windows of a roll-out share a reference, so that roll-outs are what is independent.
    """
    values = clean["p_values"].get(method)
    if not values:
        return None
    rejects, rollouts = np.array(values, float) <= level, np.array(clean["rollouts"])
    shares = np.array([rejects[rollouts == number].mean() for number in np.unique(rollouts)])
    return float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares)))


def in_order_of_strength(records: Sequence[Record]) -> list[Record]:
    """Records of one fault, the weakest first."""
    order = {"rescaled": ["0.9", "0.5", "2.0"], "friction": ["0.7", "0.3", "0.0"]}
    order["gear"] = ["0.9", "0.7", "0.5"]
    kind = records[0]["kind"]
    if kind in order:
        return sorted(records, key=lambda record: order[kind].index(record["label"]))
    return sorted(records, key=lambda record: float(record["label"]))
