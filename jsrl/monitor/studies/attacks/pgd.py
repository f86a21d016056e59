"""Projected gradient descent (Madry et al. 2018, arXiv 1706.06083, section 2.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.monitor.studies.attacks.ball import Ball
from jsrl.monitor.studies.attacks.base import (
    AttackOptions,
    Objective,
    ascent,
    attacks,
    random_start,
)


@dataclass
class IteratedOptions(AttackOptions):
    """Of attacks in several steps."""

    # How many steps.
    steps: int = 10
    # The sum of all steps in radii of the ball: with 2 or more, every corner is within reach.
    reach: float = 2.5

    def check(self) -> None:
        super().check()
        at_least("attack.steps", self.steps, 1)
        if not self.reach > 0:
            raise UserError(f"attack.reach={self.reach} must be above 0")


@attacks.register("pgd", IteratedOptions)
class Pgd:
    """Steps along the gradient's signs, from a random place of the ball, which is never left.

    Args:
        options: see ``IteratedOptions``.
    """

    def __init__(self, options: IteratedOptions) -> None:
        self._options = options

    def fit(
        self, objective: Objective, trusted: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> None:
        """Nothing has to be prepared."""

    def perturbation(
        self, objective: Objective, clean: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> Float[Tensor, "N O"]:
        """For each row the best of all places on the way."""
        o = self._options
        free = random_start(ball, streams, len(clean))
        best, highest = free, torch.full((len(clean),), -torch.inf)
        for step in range(o.steps + 1):
            gradient, values = ascent(objective, clean, free, ball)
            better = values > highest
            best = torch.where(better[:, None], free, best)
            highest = torch.where(better, values, highest)
            if step < o.steps:
                free = ball.clamp(free + gradient.sign() * ball.radii * (o.reach / o.steps))
        return ball.expand(best)
