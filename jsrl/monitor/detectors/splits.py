"""Which blocks are put on which side: the splits that a permutation test compares.

A block is what may be moved from one side to the other without changing anything under the null
hypothesis: a single sample, or all steps of an episode. The same splits serve every layer, so that
one decision can be made over all layers.

Where not all splits are compared, those that are drawn differ from the observed one and from each
other. Under the null hypothesis the observed split and R of the others that are drawn without
replacement are exchangeable, so that (1 + b)/(1 + R) keeps its level, and does so exactly where no
two statistics are equal (Phipson and Smyth, "Permutation p-values should never be zero", 2010;
Hemerik and Goeman, "Exact testing with random permutations", 2018). Both halves matter. With draws
that may repeat the observed split a test is valid, but a joint one cannot reject where they do.
With draws that leave it out and may repeat each other it is not: the observed one of N splits is
the most extreme with probability 1/N, and p would be 1/(1 + R) then, however small that is.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError

MOST_ENUMERATED = 200_000
"""More splits than this are drawn, not enumerated: they would fill the memory."""


@dataclass(frozen=True)
class Splits:
    """R splits of B blocks into two sides of fixed numbers of blocks; the first is the observed.

    Args:
        first_side: 1 where a block lies on the first side, else 0.
        exhaustive: whether these are all splits there are. If not, no two of them are the same.
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
    chosen = _enumerated(first, second)
    sides = torch.zeros(count, first + second, dtype=torch.float64)
    return Splits(sides.scatter_(1, chosen, 1.0).T.contiguous(), exhaustive=True)


def _enumerated(first: int, second: int) -> Int[Tensor, "R F"]:
    """The blocks on the first side in every split; in the observed one they are 0 to first - 1."""
    return torch.tensor(list(combinations(range(first + second), first)))


def drawn_splits(first: int, second: int, permutations: int, generator: torch.Generator) -> Splits:
    """The observed split and ``permutations`` of the others, drawn without replacement.

    All splits, if there are no more.
    """
    count = count_splits(first, second)
    if count <= min(permutations + 1, MOST_ENUMERATED):
        return all_splits(first, second)
    permutations = min(permutations, count - 1)
    observed = np.arange(first + second) < first
    if count <= 2 * (permutations + 1):
        # Most of them: to draw until all are different would take long.
        others = 1 + torch.randperm(count - 1, generator=generator)[:permutations]
        chosen = _enumerated(first, second)[others].numpy()
        drawn = np.zeros((permutations, first + second), bool)
        np.put_along_axis(drawn, chosen, True, 1)
        sides = np.concatenate([observed[None], drawn])
    else:
        sides = _draw_different(observed, permutations, generator)
    columns = torch.from_numpy(np.ascontiguousarray(sides.T, np.float64))
    return Splits(columns, exhaustive=permutations == count - 1)


def _draw_different(
    observed: Bool[NDArray[np.bool_], " B"], permutations: int, generator: torch.Generator
) -> Bool[NDArray[np.bool_], "R B"]:
    """The observed split, and others that differ from it and from each other."""
    sides, size, first = observed[None], len(observed), int(observed.sum())
    while len(sides) <= permutations:
        missing = permutations + 1 - len(sides)
        order = torch.rand(missing, size, generator=generator).argsort(1)
        drawn = np.zeros((missing, size), bool)
        np.put_along_axis(drawn, order[:, :first].numpy(), True, 1)
        sides = np.concatenate([sides, drawn])
        packed = np.ascontiguousarray(np.packbits(sides, axis=1))
        keys = packed.view(np.dtype((np.void, packed.shape[1])))[:, 0]
        # In the order in which they were drawn, which no split of them is preferred by.
        sides = sides[np.sort(np.unique(keys, return_index=True)[1])]
    return sides


def best_splits(first: int, second: int, permutations: int, generator: torch.Generator) -> Splits:
    """All splits where there are no more than were to be drawn, else that many drawn ones."""
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
