"""The mean and the spread of all that each of S seeds has observed so far.

Shapes: S seeds, N observations of a seed, O their size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EPSILON = 1e-8
"""Added to variances, so that a number that never changes is finite when it is normalised."""


class RunningStatistics:
    """Counts, means and variances, which observations are added to in blocks.

    Blocks are put together as in Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise
    algorithm for computing sample variances", in double precision: the result is that of all
    observations at once, whatever the blocks were.

    Args:
        seeds: S.
        size: O.
        device: where they are.
    """

    def __init__(self, seeds: int, size: int, device: torch.device) -> None:
        self.count = torch.zeros(seeds, 1, dtype=torch.float64, device=device)
        self.mean = torch.zeros(seeds, size, dtype=torch.float64, device=device)
        # Of squared deviations from the mean.
        self.sum_of_squares = torch.zeros(seeds, size, dtype=torch.float64, device=device)

    def add(
        self, observations: Float[Tensor, "S N O"], takes_part: Bool[Tensor, " S"]
    ) -> Bool[Tensor, " S"]:
        """Count another block of observations.

        Args:
            observations: at least one of each seed.
            takes_part: False for seeds that stay as they are.

        Returns:
            False for seeds whose statistics would not be finite with the block, whether they take
            part or not. They stay as they are, too.
        """
        # One seed at a time: sums over one axis of several may be rounded in another way with
        # another number of seeds.
        blocks = [_moments(rows.double()) for rows in observations]
        added = observations.shape[1]
        mean, squares = (torch.stack(of_all) for of_all in zip(*blocks, strict=True))
        whole = self.count + added
        change = mean - self.mean
        new_mean = self.mean + change * (added / whole)
        new_squares = self.sum_of_squares + squares + change.square() * (self.count * added / whole)
        # As they are normalised by, in single precision.
        finite = (new_mean.float().isfinite() & new_squares.float().isfinite()).all(-1)
        moves = (finite & takes_part).unsqueeze(1)
        self.count = torch.where(moves, whole, self.count)
        self.mean = torch.where(moves, new_mean, self.mean)
        self.sum_of_squares = torch.where(moves, new_squares, self.sum_of_squares)
        return finite

    def normaliser(self) -> tuple[Float[Tensor, "S 1 O"], Float[Tensor, "S 1 O"]]:
        """Mean and standard deviation; 0 and 1 for a seed that has observed nothing."""
        variance = self.sum_of_squares / self.count.clamp(min=1)
        spread = torch.where(self.count > 0, (variance + EPSILON).sqrt(), 1.0)
        return self.mean.float().unsqueeze(1), spread.float().unsqueeze(1)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        named = {"count": self.count, "mean": self.mean, "sum_of_squares": self.sum_of_squares}
        return {name: tensor.cpu().clone() for name, tensor in named.items()}

    def load_state_dict(self, state: dict[str, Any], rows: Sequence[int] | None = None) -> None:
        """Continue where ``state_dict`` was taken, for all seeds or for those at ``rows`` of it."""
        chosen = slice(None) if rows is None else list(rows)
        for name in ("count", "mean", "sum_of_squares"):
            own: Tensor = getattr(self, name)
            setattr(self, name, state[name][chosen].to(own))


def _moments(rows: Float[Tensor, "N O"]) -> tuple[Float[Tensor, " O"], Float[Tensor, " O"]]:
    """The mean, and the sum of squared deviations from it."""
    mean = rows.mean(0)
    return mean, (rows - mean).square().sum(0)
