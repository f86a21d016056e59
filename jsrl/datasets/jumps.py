"""Transitions that lead implausibly far: where one episode was taken for the rest of another.

A jump is told by the data themselves. In a column of observations whose values move, the sizes of
the steps of a simulation have one distribution; jumps between unrelated states stand apart from
it, each alone between ordinary steps. Much in a simulation is sudden and yet no such jump, and is
told from it: columns that rest most of the time (goals, flags, objects not yet touched), angles
that come round, quaternions that change sign, velocities that turn over at a contact.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

FEWEST_ROWS = 20
"""Of fewer transitions nothing is said."""

LARGEST_SHARE = 0.1
"""More than this share of the transitions are not exceptions."""

GAPS = ((20, 2.0), (4, 3.0), (3, 5.0), (2, 8.0), (1, 20.0))
"""By which factor at least so many jumps have to stand apart from the ordinary steps. With a tail
of index 3, as of Student's t with three degrees of freedom, the largest of all steps is 20 times
the second once in 8,000 columns; twenty steps apart by a factor of 2 are rarer still."""

LARGEST_BETWEEN = 0.25
"""In that gap there may be so many steps for each jump: some jumps are short."""

LARGEST_NEIGHBOURS = 0.2
"""Jumps stand alone. In columns where more of them than this stand side by side they are spikes."""

PERIODS = (math.pi, 2 * math.pi, 180.0, 360.0)
DERIVATIVE_CORRELATION = 0.9
ROWS_FOR_DERIVATIVES = 5000
CHUNK_COLUMNS = 16


@dataclass(frozen=True)
class Jumps:
    """What was found.

    Args:
        where: of N transitions, those that jump.
        columns: of the observation, those in which they do, the most often first.
        size: of the first one, in its largest column.
        column: which that is.
        ordinary: 99 % of the steps in that column are at most so large.
    """

    where: Bool[np.ndarray, " N"]
    columns: tuple[int, ...]
    size: float
    column: int
    ordinary: float


def find_jumps(
    observations: Float[np.ndarray, "N O"],
    successors: Float[np.ndarray, "N O"],
    counted: Bool[np.ndarray, " N"],
) -> Jumps | None:
    """Transitions whose states lie implausibly far apart, or None.

    Args:
        observations: of N transitions, in the order of the file.
        successors: theirs.
        counted: those to look at; of a terminal the successor may not be known.
    """
    rows = np.flatnonzero(counted)
    if len(rows) < FEWEST_ROWS:
        return None
    neighbours = np.diff(rows) == 1
    found: dict[int, Bool[np.ndarray, " M"]] = {}
    for column in range(observations.shape[1]):
        before, after = observations[rows, column], successors[rows, column]
        outliers = _jumps_of_column(before, after, neighbours)
        if outliers is not None:
            found[column] = outliers
    found = _without_derivatives(found, observations[rows], successors[rows])
    if not found:
        return None
    everywhere = np.zeros(len(rows), bool)
    for outliers in found.values():
        everywhere |= outliers
    return _described(found, everywhere, rows, observations, successors)


def _described(
    found: dict[int, Bool[np.ndarray, " M"]],
    everywhere: Bool[np.ndarray, " M"],
    rows: Int64[np.ndarray, " M"],
    observations: Float[np.ndarray, "N O"],
    successors: Float[np.ndarray, "N O"],
) -> Jumps:
    first = int(np.argmax(everywhere))
    where = np.zeros(len(observations), bool)
    where[rows[everywhere]] = True
    ordinary, size, column = 0.0, 0.0, 0
    largest = -1.0
    for candidate, outliers in found.items():
        if not outliers[first]:
            continue
        steps = np.abs(successors[rows, candidate] - observations[rows, candidate])
        usual = float(np.quantile(steps[~everywhere], 0.99))
        if steps[first] / usual > largest:
            largest = float(steps[first] / usual)
            ordinary, size, column = usual, float(steps[first]), candidate
    columns = sorted(found, key=lambda name: -int(found[name].sum()))
    return Jumps(where, tuple(columns), size, column, ordinary)


def _jumps_of_column(
    before: Float[np.ndarray, " M"],
    after: Float[np.ndarray, " M"],
    neighbours: Bool[np.ndarray, " M1"],
) -> Bool[np.ndarray, " M"] | None:
    """The jumps of one column, or None where there are none or it is not one that can tell."""
    size = np.abs(after.astype(np.float64) - before)
    threshold = _threshold(size, before)
    if threshold is None:
        return None
    jumps = size >= threshold
    ordinary = float(size[~jumps].max())
    if _come_round(size[jumps], ordinary) or _change_sign(before[jumps], after[jumps], ordinary):
        return None
    side_by_side = (jumps[1:] & jumps[:-1] & neighbours).sum()
    if side_by_side > LARGEST_NEIGHBOURS * jumps.sum():
        return None
    alone = jumps & ~_beside_fast_steps(size, jumps, neighbours)
    return alone if alone.any() else None


def _beside_fast_steps(
    size: Float64[np.ndarray, " M"],
    jumps: Bool[np.ndarray, " M"],
    neighbours: Bool[np.ndarray, " M1"],
) -> Bool[np.ndarray, " M"]:
    """Steps right beside one that is no jump and at least half as large: parts of a fast movement.

    A hand that darts takes several large steps in a row, the largest of which may reach the sizes
    of jumps; a jump between unrelated states comes out of ordinary steps and goes on in them.
    """
    ordinary = np.where(jumps, 0.0, size)
    beside = np.zeros(len(size))
    beside[1:] = np.where(neighbours, ordinary[:-1], 0.0)
    beside[:-1] = np.maximum(beside[:-1], np.where(neighbours, ordinary[1:], 0.0))
    return beside >= 0.5 * size


def _threshold(size: Float64[np.ndarray, " M"], values: Float[np.ndarray, " M"]) -> float | None:
    """The smallest size of a step that is a jump: where the largest stand apart from the rest."""
    count = len(size)
    candidates = int(LARGEST_SHARE * count)
    rounding = 4 * np.finfo(np.float32).eps * float(np.abs(values).max())
    if float(np.median(size)) <= rounding:
        return None
    # One more than can be jumps: the largest of the ordinary ones.
    top = np.sort(np.partition(size, count - candidates - 1)[count - candidates - 1 :])[::-1]
    jumps = np.arange(1, candidates + 1)
    gap = np.select([jumps >= number for number, _ in GAPS], [factor for _, factor in GAPS])
    lower = top[:candidates] / gap
    # How many steps are at least as large as the lower end of the gap.
    reaching = len(top) - np.searchsorted(top[::-1], lower, side="left")
    apart = (reaching - jumps <= LARGEST_BETWEEN * jumps) & (top[-1] < lower)
    return float(top[np.flatnonzero(apart)[-1]]) if apart.any() else None


def _come_round(size: Float64[np.ndarray, " J"], ordinary: float) -> bool:
    """Whether all jumps are an angle's that passes from one end of its range to the other."""
    return any(bool((np.abs(size - period) <= ordinary).all()) for period in PERIODS)


def _change_sign(
    before: Float[np.ndarray, " J"], after: Float[np.ndarray, " J"], ordinary: float
) -> bool:
    """Whether all jumps are from a value to its opposite: a quaternion's, a ball's at a wall."""
    return bool((np.abs(before + after) <= ordinary).all())


def _without_derivatives(
    found: dict[int, Bool[np.ndarray, " M"]],
    observations: Float[np.ndarray, "M O"],
    successors: Float[np.ndarray, "M O"],
) -> dict[int, Bool[np.ndarray, " M"]]:
    """Leave out velocities of columns that do not jump at the same time.

    A contact turns a velocity over in one step, while the position goes on from where it was.
    """
    stride = max(1, len(observations) // ROWS_FOR_DERIVATIVES)
    sample, following = observations[::stride], successors[::stride]
    steps = _standardised(following - sample)
    left = dict(found)
    for column, jumps in found.items():
        level = _standardised(sample[:, [column]])[:, 0]
        related = np.abs(level @ steps) / len(level) >= DERIVATIVE_CORRELATION
        related[column] = False
        positions = [int(position) for position in np.flatnonzero(related)]
        if positions and not any(
            p in found and (found[p] & jumps).sum() > 0.5 * jumps.sum() for p in positions
        ):
            del left[column]
    return left


def _standardised(values: Float[np.ndarray, "M O"]) -> Float64[np.ndarray, "M O"]:
    """Each column by its mean and deviation, the largest values, perhaps of jumps, brought in."""
    low, high = np.quantile(values, (0.05, 0.95), axis=0)
    kept = np.clip(values.astype(np.float64), low, high)
    spread = kept.std(axis=0)
    return (kept - kept.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
