"""A scripted guide for Gymnasium's MountainCarContinuous-v0: rock until the car is fast enough."""

import numpy as np
from jaxtyping import Float


def push_along(observations: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 1"]:
    """Push in the direction in which the car moves, with the full force of 1.

    Args:
        observations: position and velocity of the car.

    Returns:
        The force, in the environment's own units, from -1 to 1.
    """
    velocity = observations[:, 1:]
    return np.where(velocity >= 0, 1.0, -1.0)
