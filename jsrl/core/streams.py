"""Named random streams, one set for each seed.

Every random draw of the package comes from a generator that is named and belongs to one seed.
Its state follows from ``SeedSequence((seed, name))``, never from ``seed + k``, so that streams
of different seeds, or of different purposes, are independent, and what one seed draws does not
depend on which other seeds run beside it.
"""

import hashlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jsrl.core.errors import UserError

Key = int | str

LARGEST_SEED = 2**63 - 1
"""What a file's column of seeds, int64, can hold."""


def checked_seed(value: Any, key: str) -> int:
    """A whole number, NumPy's too, as a seed.

    Raises:
        UserError: if it is none, or not from 0 to ``LARGEST_SEED``.
    """
    try:
        seed = operator.index(value)
    except TypeError as error:
        raise UserError(f"{key}={value!r} is no whole number; seeds are, from 0 on") from error
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"{key}={seed} is out of range; seeds are from 0 to {LARGEST_SEED}")
    return seed


def _entropy(part: Key) -> int:
    """A non-negative integer for one part of a key; equal parts give equal integers."""
    if isinstance(part, str):
        return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
    return part


def seed_sequence(seed: int, *key: Key) -> np.random.SeedSequence:
    """The seed sequence of ``key`` under ``seed``."""
    return np.random.SeedSequence([seed, *map(_entropy, key)])


class Streams:
    """The random streams of S seeds.

    A draw returns a CPU tensor with a leading axis S. Row i depends only on ``seeds[i]``, the
    key of this object, the name of the stream and how often that stream was drawn from.
    """

    def __init__(self, seeds: Sequence[int], key: tuple[Key, ...] = ()) -> None:
        self.seeds = tuple(seeds)
        self.key = key
        self._generators: list[dict[str, torch.Generator]] = [{} for _ in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def child(self, *key: Key) -> "Streams":
        """Fresh streams under a longer key: the same key always gives the same draws."""
        return Streams(self.seeds, (*self.key, *key))

    def select(self, index: int) -> "Streams":
        """The streams of one seed (S = 1), sharing their state with this object."""
        one = Streams(self.seeds[index : index + 1], self.key)
        one._generators = self._generators[index : index + 1]
        return one

    def integer(self, *key: Key) -> list[int]:
        """One integer in [0, 2³¹) a seed, a pure function of the key: an environment's seed."""
        return [
            int(seed_sequence(seed, *self.key, *key).generate_state(1)[0] >> 1)
            for seed in self.seeds
        ]

    def numpy(self, name: str) -> list[np.random.Generator]:
        """A fresh NumPy generator a seed, for draws that torch has no function for."""
        return [np.random.default_rng(seed_sequence(s, *self.key, name)) for s in self.seeds]

    def normal(
        self, name: str, shape: Sequence[int], where: Sequence[bool] | None = None
    ) -> Tensor:
        """Standard normal draws, float32 ``[S, *shape]``; 0 without a draw outside ``where``."""
        out = torch.zeros(len(self), *shape)
        for i in range(len(self)):
            if where is None or where[i]:
                out[i].normal_(generator=self._generator(i, name))
        return out

    def uniform(
        self, name: str, shape: Sequence[int], where: Sequence[bool] | None = None
    ) -> Tensor:
        """Uniform draws on [0, 1), float32 ``[S, *shape]``; 0 without a draw outside ``where``."""
        out = torch.zeros(len(self), *shape)
        for i in range(len(self)):
            if where is None or where[i]:
                out[i].uniform_(generator=self._generator(i, name))
        return out

    def integers(self, name: str, high: int, shape: Sequence[int]) -> Tensor:
        """Uniform integers in [0, high), int64 ``[S, *shape]``."""
        out = torch.empty(len(self), *shape, dtype=torch.int64)
        for i in range(len(self)):
            out[i].random_(0, high, generator=self._generator(i, name))
        return out

    def permutation(self, name: str, count: int) -> Tensor:
        """The numbers from 0 to ``count`` - 1 in a random order, int64 ``[S, count]``."""
        return torch.stack(
            [torch.randperm(count, generator=self._generator(i, name)) for i in range(len(self))]
        )

    def state_dict(self) -> list[dict[str, Tensor]]:
        """The state of every generator used so far, in the order of ``seeds``."""
        return [{name: g.get_state() for name, g in row.items()} for row in self._generators]

    def load_state_dict(self, state: list[dict[str, Tensor]]) -> None:
        """Continue where ``state_dict`` was taken. Raises ValueError if S differs."""
        if len(state) != len(self):
            raise ValueError(f"streams of {len(state)} seeds cannot be loaded into {len(self)}")
        for i, row in enumerate(state):
            self._generators[i].clear()
            for name, generator_state in row.items():
                self._generator(i, name).set_state(generator_state)

    def _generator(self, index: int, name: str) -> torch.Generator:
        row = self._generators[index]
        if name not in row:
            entropy = seed_sequence(self.seeds[index], *self.key, name).generate_state(2, np.uint32)
            generator = torch.Generator()
            generator.manual_seed(int(entropy[0]) << 32 | int(entropy[1]))
            row[name] = generator
        return row[name]
