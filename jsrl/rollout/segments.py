"""Which transitions of a ring follow one another, and how many are left until their episode ends.

Shapes: S seeds, E environments of a seed, N transitions of a seed, B of a minibatch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

OPEN = -1
"""In place of the last transition of an episode that is not over, or of where none began."""


class Segments:
    """Stretches of transitions of one environment of which each continues the one before.

    The k-th transition of a seed since the beginning stands at slot ``k % N`` and is of
    environment ``k % E``.

    Args:
        num_seeds: S.
        num_envs: E.
        capacity: N, at least 2 * E.
    """

    def __init__(self, num_seeds: int, num_envs: int, capacity: int) -> None:
        self.num_envs = num_envs
        self.capacity = capacity
        self.added = 0
        self._last = np.full((num_seeds, capacity), OPEN, np.int64)
        self._first = np.full((num_seeds, num_envs), OPEN, np.int64)
        # Whether a segment is open in every environment.
        self._all_go_on = False

    def add(
        self, follows: Bool[np.ndarray, "S E"] | None, ended: Bool[np.ndarray, "S E"] | None
    ) -> list[tuple[int, Int[np.ndarray, " n"]]]:
        """One more transition of every environment.

        Args:
            follows: where its observation is the successor of the transition before; None for
                everywhere.
            ended: where it ended its episode; None for nowhere.

        Returns:
            For each episode that ended the seed, and the slots of those of its transitions that
            are held, in their order.
        """
        # Mostly every environment goes on, and the slots were not used before.
        if follows is None and ended is None and self._all_go_on and self._are_fresh():
            self.added += self.num_envs
            return []
        if follows is not None:
            broken = (self._first != OPEN) & ~follows
            for seed, env in np.argwhere(broken):
                self._close(seed, env, self.added + env - self.num_envs)
        numbers = np.arange(self.added, self.added + self.num_envs)
        start = self.added % self.capacity
        first = min(self.num_envs, self.capacity - start)
        self._last[:, start : start + first] = OPEN
        self._last[:, : self.num_envs - first] = OPEN
        np.copyto(self._first, numbers, where=self._first == OPEN)
        self.added += self.num_envs
        self._all_go_on = ended is None or not ended.any()
        if ended is None:
            return []
        return [
            (int(seed), self._close(seed, env, numbers[env])) for seed, env in np.argwhere(ended)
        ]

    def _are_fresh(self) -> bool:
        """Whether the next slots hold nothing yet."""
        return self.added + self.num_envs <= self.capacity

    def left(self, slots: Int[Tensor, "S B"]) -> Int[Tensor, "S B"]:
        """How many transitions of the same segment are held after those at ``slots``."""
        newest = self.added - 1
        numbers = newest - (newest - slots) % self.capacity
        last = torch.from_numpy(self._last).gather(1, slots)
        so_far = newest - (newest - numbers) % self.num_envs
        return (torch.where(last == OPEN, so_far, last) - numbers) // self.num_envs

    def later(self, slots: Int[Tensor, "S B"], steps: Int[Tensor, "S B"]) -> Int[Tensor, "S B"]:
        """The slots so many steps later in the same environments."""
        return (slots + steps * self.num_envs) % self.capacity

    def state_dict(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "last": torch.from_numpy(self._last[:, : min(self.added, self.capacity)].copy()),
            "first": torch.from_numpy(self._first.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.added = state["added"]
        # A run that goes on for longer may have room for more.
        self._last[:, : state["last"].shape[1]] = state["last"].numpy()
        self._first = state["first"].numpy().copy()
        self._all_go_on = bool((self._first != OPEN).all())

    def _close(self, seed: int, env: int, last: int) -> Int[np.ndarray, " n"]:
        """End the segment of an environment; the slots that are held of it."""
        first = int(self._first[seed, env])
        # Transitions that were overwritten are left alone.
        gone = self.added - self.capacity - first
        first += max(0, -(-gone // self.num_envs)) * self.num_envs
        slots = np.arange(first, last + 1, self.num_envs) % self.capacity
        self._last[seed, slots] = last
        self._first[seed, env] = OPEN
        return slots
