"""What in data looks as if their flags lie: said with counts, the first place, and what to do.

Nothing here changes the data.
"""

import numpy as np
from jaxtyping import Bool, Int64

from jsrl.datasets.episodes import Episodes, Rows, follows, starts_of
from jsrl.datasets.jumps import Jumps

SHOWN_COLUMNS = 4
ALIKE = 0.9
"""What holds for at least this share of something is said of all of it."""

FEWEST_EPISODES = 3


def doubts_of(
    episodes: Episodes, rows: Rows, jumps: Jumps | None, limit: int | None, source: str
) -> tuple[str, ...]:
    """One line for each thing that is probably wrong.

    Args:
        episodes: made of the rows.
        rows: as the file has them.
        jumps: between unrelated states, if there are any.
        limit: the environment's time limit, if it is known.
        source: what was read.
    """
    found = [
        jump_doubt(episodes, jumps),
        _disagreement(rows, episodes),
        _terminals(rows),
    ]
    if limit is not None:
        found += [long_episodes(episodes, limit), _terminal_at_limit(episodes, limit)]
    return tuple(f"dataset {source}: {line}" for line in found if line is not None)


def jump_doubt(episodes: Episodes, jumps: Jumps | None) -> str | None:
    """States that follow each other and cannot."""
    if jumps is None:
        return None
    count = int(jumps.where.sum())
    first = int(episodes.rows[np.argmax(jumps.where)])
    columns = ", ".join(map(str, jumps.columns[:SHOWN_COLUMNS]))
    more = len(jumps.columns) - SHOWN_COLUMNS
    return (
        f"{count} of {len(jumps.where)} transitions jump from one state to an unrelated one, the "
        f"first in row {first}, where observation column {jumps.column} moves by {jumps.size:.4g} "
        f"and 99 % of steps by at most {jumps.ordinary:.4g} (columns {columns}"
        f"{f' and {more} more' if more > 0 else ''}): flags that end episodes are missing or out "
        "of step there; give dataset.split_at_jumps=true to end episodes at these rows, or mend "
        "timeouts in the file; where such leaps belong to the environment all is well"
    )


def long_episodes(episodes: Episodes, limit: int) -> str | None:
    """Episodes that the environment would have ended earlier."""
    starts = starts_of(episodes.data)
    lengths = np.diff(starts, append=len(episodes.data))
    long = lengths > limit
    if not long.any():
        return None
    first = int(episodes.rows[starts[np.argmax(long)]])
    return (
        f"{int(long.sum())} of {len(starts)} episodes are longer than the environment's time limit "
        f"of {limit} steps, the longest {int(lengths.max())}, the first from row {first} on: "
        "they were recorded under another limit, or flags that end episodes are missing; if the "
        "limit is another, give env.max_episode_steps"
    )


def _disagreement(rows: Rows, episodes: Episodes) -> str | None:
    """Stored successors that are not the observation of the next row of the episode."""
    if rows.successors is None:
        return None
    inside = np.zeros(len(rows.rewards), bool)
    data = episodes.data
    inside[episodes.rows] = ~(data.terminals | data.timeouts)
    inside[-1] = False
    places = np.flatnonzero(inside)
    if not len(places):
        return None
    wrong = ~follows(rows.successors[places], rows.observations[places + 1])
    if not wrong.any():
        return None
    count, first = int(wrong.sum()), int(places[np.argmax(wrong)])
    found = (
        f"in {count} of {len(places)} rows inside of episodes, the first row {first}, "
        "next_observations is not the observation of the following row"
    )
    if count < ALIKE * len(places):
        return (
            f"{found}: timeouts are out of step or missing there; take timeouts out of the file "
            "to end episodes at these rows, or mend them"
        )
    if follows(rows.successors[places], rows.observations[places]).mean() >= ALIKE:
        return f"{found} but the row's own: they are not shifted; take them out of the file"
    return (
        f"{found}: the rows are shuffled, so that episodes and returns mean nothing, or "
        "next_observations are shifted; in the second case take them out of the file"
    )


def _terminals(rows: Rows) -> str | None:
    """Flags that say of nearly every row that the episode ends there."""
    share = float(rows.terminals.mean())
    if not ALIKE <= share < 1:
        return None
    first = int(np.argmin(rows.terminals))
    return (
        f"terminals is set in {int(rows.terminals.sum())} of {len(rows.terminals)} rows, not in "
        f"row {first}: it seems to be a mask that is 1 where an episode goes on; store "
        "1 - terminals in that case"
    )


def _terminal_at_limit(episodes: Episodes, limit: int) -> str | None:
    """Terminals that stand where the time limit ends an episode."""
    data = episodes.data
    lengths = _lengths_at(data.terminals, starts_of(data))
    at_limit = lengths == limit
    if at_limit.sum() < FEWEST_EPISODES or at_limit.mean() < ALIKE:
        return None
    first = int(episodes.rows[np.flatnonzero(data.terminals)[np.argmax(at_limit)]])
    return (
        f"{int(at_limit.sum())} of {len(lengths)} terminals stand exactly at the environment's "
        f"time limit of {limit} steps, the first in row {first}: if they mark that time was up, "
        "no value is learnt beyond them: let the file mark an end by time as one of timeouts, or, "
        "in robomimic's layout, dones where the task was solved alone"
    )


def _lengths_at(
    terminals: Bool[np.ndarray, " N"], starts: Int64[np.ndarray, " K"]
) -> Int64[np.ndarray, " T"]:
    """How long each episode is that ends in a terminal."""
    ends = np.flatnonzero(terminals)
    return (ends - starts[np.searchsorted(starts, ends, side="right") - 1] + 1).astype(np.int64)
