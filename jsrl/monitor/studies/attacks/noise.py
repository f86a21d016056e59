"""Random noise of an attack's size: the control, which wants nothing."""

from jaxtyping import Float
from torch import Tensor

from jsrl.core.streams import Streams
from jsrl.monitor.studies.attacks.ball import Ball
from jsrl.monitor.studies.attacks.base import AttackOptions, Objective, attacks


@attacks.register("noise")
class Noise:
    """A random corner of the ball for each row, as far from it as an attack is at most.

    Args:
        options: see ``AttackOptions``.
    """

    def __init__(self, options: AttackOptions) -> None:
        pass

    def fit(
        self, objective: Objective, trusted: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> None:
        """Nothing has to be prepared."""

    def perturbation(
        self, objective: Objective, clean: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> Float[Tensor, "N O"]:
        """Random signs times the radii."""
        drawn = streams.uniform("signs", (len(clean), len(ball.radii)))[0]
        return ball.expand(((drawn < 0.5).float() * 2 - 1) * ball.radii)
