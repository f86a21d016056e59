"""What an attack may change: every column by so much, some of them together, others not at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError


@dataclass(frozen=True)
class Ball:
    """Perturbations of O columns, by G free coordinates.

    Columns that are tied share a coordinate, and so move by the same amount; a frozen column has
    none.

    Args:
        radii: the largest amount of each coordinate, in the columns' own units.
        spread: 1 where a column follows a coordinate, and 0 elsewhere; at most one 1 a column.
    """

    radii: Float[Tensor, " G"]
    spread: Float[Tensor, "G O"]

    @classmethod
    def of(
        cls,
        sizes: Float[Tensor, " O"],
        tied: Sequence[Sequence[int]] = (),
        frozen: Sequence[int] = (),
    ) -> "Ball":
        """The ball in which no column moves by more than its size.

        Args:
            sizes: the largest amount of each column, at least 0.
            tied: groups of columns; a group moves by at most the smallest of its sizes.
            frozen: columns that do not move.

        Raises:
            UserError: if a column is in two groups, or some columns of a group are frozen and
                others are not.
        """
        grouped = [column for group in tied for column in group]
        if len(set(grouped)) < len(grouped):
            raise UserError(
                f"attack.tied={[list(g) for g in tied]} has a column twice; name each in one group"
            )
        for group in tied:
            held = sorted(set(group) & set(frozen))
            if held and len(held) < len(set(group)):
                raise UserError(
                    f"attack.tied={[list(g) for g in tied]} ties columns {list(group)}, of which "
                    f"attack.frozen has {held} alone; freeze all of them or none"
                )
        alone = [[column] for column in range(len(sizes)) if column not in grouped]
        groups = sorted(g for g in (*map(list, tied), *alone) if not set(g) & set(frozen))
        spread = torch.zeros(len(groups), len(sizes))
        for place, group in enumerate(groups):
            spread[place, group] = 1.0
        radii = [sizes[group].min() for group in groups]
        return cls(torch.stack(radii) if radii else torch.zeros(0), spread)

    def expand(self, free: Float[Tensor, "*N G"]) -> Float[Tensor, "*N O"]:
        """The perturbation of every column; exactly equal where columns are tied."""
        return free @ self.spread

    def clamp(self, free: Float[Tensor, "*N G"]) -> Float[Tensor, "*N G"]:
        """The nearest coordinates inside of the ball."""
        return torch.maximum(torch.minimum(free, self.radii), -self.radii)
