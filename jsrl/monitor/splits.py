"""Which blocks are put on which side: the splits that a permutation test compares.

A block is what may be moved from one side to the other without changing anything under the null
hypothesis: a single sample, or all steps of an episode. The same splits serve every layer, so that
layers can be judged together.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.errors import UserError

MOST_ENUMERATED = 200_000
"""More splits than this are drawn, not enumerated: they would fill the memory."""


@dataclass(frozen=True)
class Splits:
    """R splits of B blocks into two sides of fixed numbers of blocks; the first is the observed.

    Args:
        first_side: 1 where a block lies on the first side, else 0.
        exhaustive: whether these are all splits there are.
    """

    first_side: Float[Tensor, "B R"]
    exhaustive: bool

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that they can give."""
        return 1 / self.first_side.shape[1]


def count_splits(first: int, second: int) -> int:
    """In how many ways as many blocks can be put on two sides."""
    return math.comb(first + second, first)


@lru_cache(maxsize=4)
def all_splits(first: int, second: int) -> Splits:
    """Every split of ``first`` + ``second`` blocks.

    Raises:
        UserError: if there are more than can be enumerated.
    """
    count = count_splits(first, second)
    if count > MOST_ENUMERATED:
        raise UserError(
            f"{first} and {second} blocks can be split in {count} ways; at most {MOST_ENUMERATED} "
            "are enumerated: use exhaustive=False, which draws some of them"
        )
    # The first combination is the observed one: (0, …, first - 1).
    chosen = torch.tensor(list(combinations(range(first + second), first)))
    sides = torch.zeros(count, first + second, dtype=torch.float64)
    return Splits(sides.scatter_(1, chosen, 1.0).T.contiguous(), exhaustive=True)


def drawn_splits(first: int, second: int, permutations: int, generator: torch.Generator) -> Splits:
    """The observed split and ``permutations`` drawn ones, with replacement."""
    order = torch.rand(permutations, first + second, generator=generator).argsort(1)
    sides = torch.zeros(permutations + 1, first + second, dtype=torch.float64)
    sides[0, :first] = 1
    sides[1:].scatter_(1, order[:, :first], 1.0)
    return Splits(sides.T.contiguous(), exhaustive=False)


def best_splits(first: int, second: int, permutations: int, generator: torch.Generator) -> Splits:
    """All splits where there are no more than were to be drawn, else that many drawn ones."""
    if count_splits(first, second) <= permutations + 1:
        return all_splits(first, second)
    return drawn_splits(first, second, permutations, generator)


def number_blocks(
    groups_x: Int[Tensor, " N"], groups_y: Int[Tensor, " M"]
) -> tuple[Int[Tensor, " NM"], int, int]:
    """Number the groups of both sides from 0, those of the first side before those of the second.

    Equal numbers on different sides are different blocks.

    Returns:
        The block of every sample, and how many blocks each side has.
    """
    names_x, blocks_x = groups_x.unique(return_inverse=True)
    names_y, blocks_y = groups_y.unique(return_inverse=True)
    return torch.cat([blocks_x, blocks_y + len(names_x)]), len(names_x), len(names_y)
