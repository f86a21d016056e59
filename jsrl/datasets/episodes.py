"""Where episodes end, and which observation follows which: rows of a file become transitions.

D4RL's oldest files have no ``timeouts``. Its own reader then ends an episode at the environment's
time limit (``qlearning_dataset`` of ``d4rl/__init__.py``), and so does this one.

Where an episode ends:
    - at a terminal, and at a timeout, and at the end of the arrays. A transition that is
      marked as both counts as a terminal.
    - Without ``timeouts`` but with ``next_observations``, an episode also ends where the
      successor is not the observation of the next row; that end is a timeout.
    - Without ``timeouts``, or with some that are never set and no ``next_observations``, an
      episode also ends at the environment's time limit, if ``spec`` is given.

Where successors come from: with ``next_observations`` they are taken as they are and every
row is kept. Without, they are the observations of the next row. A terminal transition's
successor then stays unknown and does not matter, since nothing is bootstrapped from it: its
own observation stands in. The last transition of an episode that did not end in a terminal
has no successor at all: it is dropped, as D4RL's ``qlearning_dataset`` does, and the one
before it becomes the timeout.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from jsrl.core.transitions import TransitionData
from jsrl.datasets.validation import dataset_error

SAME_STATE_TOLERANCE = 1e-5
"""Two stored observations closer than this (absolute and relative) are the same state."""


@dataclass(frozen=True)
class Rows:
    """Checked arrays as a file holds them, N rows.

    ``successors`` and ``timeouts`` are None where the file has none.
    """

    observations: Float[np.ndarray, "N O"]
    actions: Shaped[np.ndarray, "N *A"]
    rewards: Float[np.ndarray, " N"]
    successors: Float[np.ndarray, "N O"] | None
    terminals: Bool[np.ndarray, " N"]
    timeouts: Bool[np.ndarray, " N"] | None


@dataclass(frozen=True)
class Episodes:
    """Transitions in whole episodes.

    Args:
        data: N transitions.
        rows: int64 ``[N]``, where in the file each transition stands.
        lines: what was done to the rows, one line each.
        unflagged: whether the file does not tell timeouts and no time limit was known.
    """

    data: TransitionData
    rows: Int64[np.ndarray, " N"]
    lines: tuple[str, ...] = ()
    unflagged: bool = False


def episodes_of(rows: Rows, limit: int | None, source: str) -> Episodes:
    """Split rows into episodes and derive the successors that were not stored.

    Args:
        rows: of a file.
        limit: the environment's time limit, if it is known.
        source: what was read.

    Raises:
        UserError: if no transition has a successor.
    """
    timeouts, lines, unflagged = _timeouts(rows, limit, source)
    terminals, successors = rows.terminals, rows.successors
    ends = terminals | timeouts
    ends[-1] = True
    cut = ends & ~terminals
    if successors is not None:
        kept = np.arange(len(ends))
        data = TransitionData(
            rows.observations, rows.actions, rows.rewards, successors, terminals, cut
        )
        return Episodes(data, kept, tuple(lines), unflagged)
    next_observations = np.empty_like(rows.observations)
    next_observations[:-1] = rows.observations[1:]
    next_observations[terminals] = rows.observations[terminals]
    data = TransitionData(
        rows.observations, rows.actions, rows.rewards, next_observations, terminals, cut
    )
    episodes = without(Episodes(data, np.arange(len(ends)), tuple(lines), unflagged), cut)
    if len(episodes.data) == 0:
        raise dataset_error(
            source,
            "no transition has a successor: every episode is a single step that is not terminal; "
            "expected longer episodes, or next_observations in the file",
        )
    if cut.any():
        line = (
            f"dataset {source}: {_rows(int(cut.sum()))} without a known successor left out, the "
            "last of each episode that does not end in a terminal state"
        )
        episodes = Episodes(episodes.data, episodes.rows, (*lines, line), unflagged)
    return episodes


def without(episodes: Episodes, dropped: Bool[np.ndarray, " N"]) -> Episodes:
    """Leave out transitions; what stood before one of them in its episode now ends by timeout."""
    data = episodes.data
    ends = data.terminals | data.timeouts
    timeouts = data.timeouts & ~dropped
    timeouts[:-1] |= dropped[1:] & ~ends[:-1] & ~dropped[:-1]
    kept = np.flatnonzero(~dropped)
    whole = TransitionData(
        data.observations,
        data.actions,
        data.rewards,
        data.next_observations,
        data.terminals,
        timeouts,
    )
    # ``take`` copies: only where something is left out.
    left = whole.take(kept) if len(kept) < len(data) else whole
    return Episodes(left, episodes.rows[kept], episodes.lines, episodes.unflagged)


def starts_of(data: TransitionData) -> Int64[np.ndarray, " K"]:
    """The index of each episode's first transition."""
    last = data.terminals | data.timeouts
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(last[:-1]) + 1]).astype(np.int64)


def follows(
    successors: Float[np.ndarray, "M O"], observations: Float[np.ndarray, "M O"]
) -> Bool[np.ndarray, " M"]:
    """Whether each of the successors is the observation beside it, up to rounding.

    The absolute tolerance is smaller for columns whose values all are, since their units may be
    such that every value is below it.
    """
    largest = np.abs(observations).max(axis=0, initial=0.0)
    tolerance = SAME_STATE_TOLERANCE * np.minimum(1.0, largest)
    gap = np.abs(successors - observations)
    same: Bool[np.ndarray, " M"] = (
        gap <= tolerance + SAME_STATE_TOLERANCE * np.abs(observations)
    ).all(axis=1)
    return same


def _timeouts(
    rows: Rows, limit: int | None, source: str
) -> tuple[Bool[np.ndarray, " N"], list[str], bool]:
    """The ends by timeout, a line on how they were found, and whether they could not be."""
    stored, count = rows.timeouts, len(rows.rewards)
    if stored is not None and (stored.any() or rows.successors is not None):
        return stored, [], False
    timeouts = np.zeros(count, bool)
    if stored is None and rows.successors is not None:
        timeouts[:-1] = ~follows(rows.successors[:-1], rows.observations[1:])
    told = int((timeouts & ~rows.terminals).sum())
    ends = rows.terminals | timeouts
    if limit is None:
        return timeouts, [], bool(_longest(ends) > 1)
    at_limit = (_places(ends) % limit == limit - 1) & ~ends
    # Where the file ends something ends anyway, whatever the limit is.
    at_limit[-1] = False
    found = int(at_limit.sum())
    lines = []
    if told or found:
        what = "no timeouts" if stored is None else "timeouts that are never set"
        by_successors = f"{told} where next_observations is not the following row, " if told else ""
        lines.append(
            f"dataset {source} has {what}: episodes are ended {by_successors}{found} at the "
            f"environment's time limit of {limit} steps (env.max_episode_steps changes it)"
        )
    return timeouts | at_limit, lines, False


def _places(ends: Bool[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """Of each row, how many of its episode stand before it."""
    index = np.arange(len(ends))
    first = np.zeros(len(ends), np.int64)
    first[1:] = np.where(ends[:-1], index[1:], 0)
    return index - np.maximum.accumulate(first)


def _longest(ends: Bool[np.ndarray, " N"]) -> int:
    return int(_places(ends).max()) + 1


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
