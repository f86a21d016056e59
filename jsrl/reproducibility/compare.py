"""The cells of a sweep beside ReLU's: how much less, or more, do replicas differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.nondeterminism import LEVELS
from jsrl.networks.activations import PARAMETERS
from jsrl.reproducibility.cell_file import RECORD, read_cell
from jsrl.statistics import (
    bootstrap_interval,
    improvement_interval,
    interval_of,
    mean_over_pairs,
    pair_means,
    probability_of_improvement,
    ratio_interval,
    resampled_runs,
)

Interval = tuple[float, float] | list[float] | None

BASELINE = "relu"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Row:
    """A cell and one of its differences, beside the ReLU of the same level and normalisation.

    Args:
        record: of the cell.
        measure: which difference.
        difference: mean over pairs of replicas.
        churn: mean over replicas of how far one moved since a checkpoint before; None if unknown.
        ratio: of the difference to ReLU's; None for ReLU itself, or without it.
        score: which score it is set against,
        scores: its mean over replicas,
        improvement: and how often a replica's is better than one of ReLU's.
    """

    record: Mapping[str, Any]
    measure: str
    difference: Estimate
    churn: float | None
    ratio: Estimate | None
    score: str | None
    scores: Estimate | None
    improvement: Estimate | None

    @property
    def label(self) -> str:
        return str(self.record["label"])

    @property
    def level(self) -> str:
        return str(self.record["level"])

    @property
    def norm(self) -> bool:
        return bool(self.record["layer_norm"])


def load_cells(folder: Path) -> list[dict[str, Any]]:
    """The records of a sweep, by level, normalisation and activation.

    Raises:
        UserError: if there is none, one cannot be read, or they are of different replicas.
    """
    cells = [read_cell(path) for path in sorted(folder.glob(f"*/{RECORD}"))]
    if not cells:
        raise UserError(f"{folder} has no cell of a sweep; run jsrl reproducibility first")
    counts = {cell["replicas"] for cell in cells}
    if len(counts) > 1:
        raise UserError(
            f"{folder} has cells of {' and '.join(map(str, sorted(counts)))} replicas, which cannot"
            " be compared; choose another run_dir for one of them"
        )
    order = list(LEVELS)
    return sorted(cells, key=lambda c: (order.index(c["level"]), c["layer_norm"], _place(c)))


def rows_of(cells: Sequence[Mapping[str, Any]], measure: str) -> list[Row]:
    """Every cell that has the measure."""
    return [_row(cell, _baseline(cells, cell), measure) for cell in cells if measure in _all(cell)]


def measures_of(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The differences that cells have, the first one first: the primary."""
    return list(dict.fromkeys(name for cell in cells for name in _all(cell)))


def family_of(record: Mapping[str, Any]) -> tuple[str, float | None]:
    """The activation of all networks and its β; ReLU is SmeLU's with β = 0.

    An activation without β, or networks with several, are a family of their own.
    """
    given = list(record["activation"].values())
    first = given[0]
    if any(other != first for other in given):
        return str(record["label"]), None
    if first == BASELINE:
        return "smelu", 0.0
    name = first if isinstance(first, str) else str(first["name"])
    if "beta" not in PARAMETERS[name] or name == "gsmelu":
        return str(record["label"]), None
    return name, float(1.0 if isinstance(first, str) else first.get("beta", 1.0))


def _row(cell: Mapping[str, Any], relu: Mapping[str, Any] | None, measure: str) -> Row:
    pairs = _pairs(cell, measure)
    means = pair_means(pairs, resampled_runs(len(pairs)))
    churn = _all(cell)[measure]["churn"]
    score, better, values = _score(cell)
    ratio = improvement = None
    if relu is not None and relu is not cell and measure in _all(relu):
        ratio = _ratio(cell, relu, measure)
        if values is not None:
            improvement = _improvement(values, _score(relu)[2], better)
    return Row(
        cell,
        measure,
        Estimate(mean_over_pairs(pairs), interval_of(means)),
        None if churn is None else float(np.mean(churn)),
        ratio,
        score,
        None if values is None else Estimate(float(np.mean(values)), bootstrap_interval(values)),
        improvement,
    )


def _ratio(cell: Mapping[str, Any], relu: Mapping[str, Any], measure: str) -> Estimate | None:
    """Of the replicas that both have, resampled alike; None where ReLU's differ in nothing."""
    both = sorted(set(_alive(cell)) & set(_alive(relu)))
    mine, theirs = (_among(one, measure, both) for one in (cell, relu))
    if mean_over_pairs(theirs) == 0:
        return None
    counts = resampled_runs(len(both))
    interval = ratio_interval(pair_means(mine, counts), pair_means(theirs, counts))
    return Estimate(mean_over_pairs(mine) / mean_over_pairs(theirs), interval)


def _improvement(mine: list[float], theirs: list[float] | None, better: str) -> Estimate | None:
    if theirs is None:
        return None
    if better == "lower":
        mine, theirs = [-value for value in mine], [-value for value in theirs]
    probability = probability_of_improvement(mine, theirs)
    return Estimate(probability, improvement_interval(mine, theirs))


def _score(cell: Mapping[str, Any]) -> tuple[str | None, str, list[float] | None]:
    for name, score in cell["scores"].items():
        return name, score["better"], [float(value) for value in score["values"]]
    return None, "higher", None


def _all(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    differences: Mapping[str, Any] = cell["differences"]
    return differences


def _pairs(cell: Mapping[str, Any], measure: str) -> Float[NDArray[np.float64], "M M"]:
    # What was not finite is null in the file: two predictions that cancel, without bound.
    rows = _all(cell)[measure]["pairs"]
    return np.array([[np.inf if v is None else v for v in row] for row in rows], dtype=float)


def _among(
    cell: Mapping[str, Any], measure: str, replicas: Sequence[int]
) -> Float[NDArray[np.float64], "M M"]:
    places = [_alive(cell).index(replica) for replica in replicas]
    return _pairs(cell, measure)[np.ix_(places, places)]


def _alive(cell: Mapping[str, Any]) -> list[int]:
    return [replica for replica in range(cell["replicas"]) if replica not in cell["failed"]]


def _baseline(
    cells: Sequence[Mapping[str, Any]], cell: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    for other in cells:
        same = (other["level"], other["layer_norm"]) == (cell["level"], cell["layer_norm"])
        if same and family_of(other) == ("smelu", 0.0):
            return other
    return None


def _place(cell: Mapping[str, Any]) -> tuple[str, float]:
    """ReLU first, then SmeLU by β, then the rest by name and β."""
    name, beta = family_of(cell)
    return ("" if name == "smelu" else name, beta or 0.0)
