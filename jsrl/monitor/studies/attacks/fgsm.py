"""The fast gradient sign method (Goodfellow, Shlens and Szegedy 2015, arXiv 1412.6572, section 4).

The change of an action has no gradient where nothing is changed yet. So the gradient is taken a
little beside the row, in a random place (Tramèr et al. 2018, arXiv 1705.07204, section 3.4).
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
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
class FgsmOptions(AttackOptions):
    """Of ``attack=fgsm``."""

    # Where the gradient is taken: a random place of the ball, shrunk to this share of it.
    start: float = 0.1

    def check(self) -> None:
        super().check()
        if not 0 <= self.start <= 1:
            raise UserError(f"attack.start={self.start} must lie in [0, 1]")


@attacks.register("fgsm", FgsmOptions)
class Fgsm:
    """One step to the corner of the ball that the gradient's signs point at.

    Args:
        options: see ``FgsmOptions``.
    """

    def __init__(self, options: FgsmOptions) -> None:
        self._start = options.start

    def fit(
        self, objective: Objective, trusted: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> None:
        """Nothing has to be prepared."""

    def perturbation(
        self, objective: Objective, clean: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> Float[Tensor, "N O"]:
        """The corner; where a gradient is 0, the column stays as it is."""
        start = self._start * random_start(ball, streams, len(clean))
        gradient, _ = ascent(objective, clean, start, ball)
        return ball.expand(gradient.sign() * ball.radii)
