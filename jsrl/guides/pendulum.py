"""A scripted guide of any quality for Gymnasium's Pendulum-v1: swing up by energy, then balance."""

import numpy as np
from jaxtyping import Bool, Float

GRAVITY = 15.0
"""3g/2l of the pendulum: E = ω²/2 + 15·cos θ is constant without torque, and 15 at rest upright."""

STRONGEST = 2.0
"""The largest torque that the environment takes."""


class SwingUp:
    """Swings up with the torque that moves the energy towards 15, and balances near the top.

    Energy shaping after Åström and Furuta 2000 (Automatica 36, 287-295).

    Args:
        quality: the probability with which a step is the controller's. In the other steps the
            torque works against the motion, so that the pendulum comes to rest below. None is a
            guide whose torque is uniform in all that the environment takes.
    """

    def __init__(self, quality: float | None = 1.0) -> None:
        self.quality = quality

    def __call__(
        self, observations: Float[np.ndarray, "n 3"], generator: np.random.Generator | None = None
    ) -> Float[np.ndarray, "n 1"]:
        """The torque, in the environment's units.

        Args:
            observations: cosine and sine of the angle, 0 upright, and the angular velocity.
            generator: for the draws; None for what is done most often.
        """
        count = len(observations)
        if self.quality is None:
            drawn = np.zeros(count) if generator is None else generator.uniform(-1, 1, count)
            return STRONGEST * drawn[:, None]
        chance = np.full(count, 0.5) if generator is None else generator.uniform(size=count)
        able: Bool[np.ndarray, " n"] = chance < self.quality
        torque = np.where(able, _controlled(observations), _against(observations))
        return torque[:, None]


def _controlled(observations: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    cosine, sine, velocity = observations.T
    missing = GRAVITY - (velocity**2 / 2 + GRAVITY * cosine)
    # At rest it has to begin in some direction.
    swing = STRONGEST * np.sign(missing) * np.where(velocity >= 0, 1.0, -1.0)
    balance = np.clip(-10 * sine - 2.5 * velocity, -STRONGEST, STRONGEST)
    return np.where((cosine > 0.9) & (np.abs(velocity) < 3), balance, swing)


def _against(observations: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    return np.asarray(-STRONGEST * np.tanh(observations[:, 2]))
