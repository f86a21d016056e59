"""What a recurrent policy from elsewhere remembers of each row of environments."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

State = Sequence[NDArray[np.floating]]


class RowMemory:
    """A recurrent state for each row, which begins anew with each episode.

    Args:
        initial: the state with which an episode begins, arrays without an axis of rows.
    """

    def __init__(self, initial: State = ()) -> None:
        self._initial = [np.array(part) for part in initial]
        self._states: dict[int, list[NDArray[np.floating]]] = {}

    def take(self, rows: Int[np.ndarray, " n"], axis: int = 0) -> list[NDArray[np.floating]]:
        """The states of these rows, put side by side along ``axis``."""
        states = [self._states.get(int(row), self._initial) for row in rows]
        return [np.stack(parts, axis) for parts in zip(*states, strict=True)]

    def keep(self, rows: Int[np.ndarray, " n"], states: State, axis: int = 0) -> None:
        """Remember the states of these rows, which have the form that ``take`` gives them."""
        for index, row in enumerate(rows):
            # Copies, since a view would keep the arrays of all rows.
            self._states[int(row)] = [np.take(part, index, axis).copy() for part in states]

    def forget(self, rows: Int[np.ndarray, " n"]) -> None:
        """New episodes begin in these rows."""
        for row in rows:
            self._states.pop(int(row), None)


class RemembersRows:
    """A policy that is frozen but for what it remembers: a copy has a memory of its own.

    Args:
        memory: None for a policy without one.
    """

    def __init__(self, memory: RowMemory | None) -> None:
        self.stateful = memory is not None
        self.memory = memory or RowMemory()

    def reset(self, *, rows: Int[np.ndarray, " n"]) -> None:
        """New episodes begin in these rows."""
        self.memory.forget(rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The networks are shared: they are large, and nothing changes them.
        copied = copy.copy(self)
        copied.memory = copy.deepcopy(self.memory, memo)
        return copied
