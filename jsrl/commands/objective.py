"""The value of a run as one number, for a sweep that searches for the best run."""

import math
from collections.abc import Mapping
from typing import Any


def objective(summary: Mapping[str, Any], key: str | None, success_key: str | None) -> float:
    """Return the mean over seeds of a measure in the exploration-policy's final evaluation.

    Args:
        summary: the contents of the run's ``summary.json``.
        key: ``objective``: one of ``summary.MEASURES``; None for success where ``success_key``
            names an entry that says so, else return.
        success_key: ``env.success_key``.

    Returns:
        The mean, or NaN where it is undefined, as after a failure of every seed. Optuna counts
        NaN as a failed trial, and goes on.
    """
    measure = key or ("return" if success_key is None else "success")
    mean = summary["evaluation"]["exploration"][measure]["mean"]
    return math.nan if mean is None else float(mean)
