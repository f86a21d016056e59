"""Timing on a machine that others may load: everything in turn, and ratios within one round."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

BLOCK_SECONDS = 0.05
MIN_ROUNDS = 3

Times = dict[str, list[float]]
"""For each name the seconds per call of every round, rounds in the same order."""


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    seconds: float,
    finish: Callable[[], object] = lambda: None,
    calls: int | None = None,
) -> Times:
    """Time functions in turn: A B C, A B C, …, so that a change of load meets all of them.

    Args:
        functions: what to time, by name; without ``calls`` each is called twice beforehand.
        seconds: how long, for each of them together.
        finish: called before the clock is read, to wait for a device.
        calls: of each function in a round; by default as many as take 50 ms.
    """
    blocks = {name: calls or _calls_in_block(f, finish) for name, f in functions.items()}
    times: Times = {name: [] for name in functions}
    for _ in range(max(MIN_ROUNDS, round(seconds / BLOCK_SECONDS))):
        for name, function in functions.items():
            times[name].append(_seconds_per_call(function, blocks[name], finish))
    return times


def typical(times: Sequence[float]) -> float:
    """The median of the rounds, in seconds per call."""
    return statistics.median(times)


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """How many times as long ``slower`` takes: the median over rounds of the ratio in a round."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def _calls_in_block(function: Callable[[], object], finish: Callable[[], object]) -> int:
    function()
    return max(1, round(BLOCK_SECONDS / _seconds_per_call(function, 1, finish)))


def _seconds_per_call(
    function: Callable[[], object], calls: int, finish: Callable[[], object]
) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    finish()
    return (time.perf_counter() - start) / calls
