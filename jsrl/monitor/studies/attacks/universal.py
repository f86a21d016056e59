"""One perturbation for all rows (Moosavi-Dezfooli et al. 2017, arXiv 1610.08401).

It is found by ascent of the mean objective over trusted rows, as by Shafahi et al. 2020 (arXiv
1811.11304, section 3), not by the original's search for one row after the other.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.streams import Streams
from jsrl.monitor.studies.attacks.ball import Ball
from jsrl.monitor.studies.attacks.base import Objective, ascent, attacks, random_start
from jsrl.monitor.studies.attacks.pgd import IteratedOptions


@attacks.register("universal", IteratedOptions)
class Universal:
    """The same vector for all rows, found beforehand.

    Args:
        options: see ``IteratedOptions``.
    """

    def __init__(self, options: IteratedOptions) -> None:
        self._options = options
        self._vector: Tensor | None = None

    def fit(
        self, objective: Objective, trusted: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> None:
        """Find the vector: the best place on the way, by the mean over trusted rows."""
        o = self._options
        free = random_start(ball, streams)
        best, highest = free, -torch.inf
        for step in range(o.steps + 1):
            gradient, values = ascent(objective, trusted, free, ball)
            if (mean := float(values.mean())) > highest:
                best, highest = free, mean
            if step < o.steps:
                free = ball.clamp(free + gradient.sign() * ball.radii * (o.reach / o.steps))
        self._vector = ball.expand(best)

    def perturbation(
        self, objective: Objective, clean: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> Float[Tensor, "N O"]:
        """The vector, for every row."""
        if self._vector is None:
            raise ValueError("fit comes before perturbation")
        return self._vector.expand(len(clean), -1)
