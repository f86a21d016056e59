"""Scripted guides for Gymnasium's mountain cars: rock until the car is fast enough."""

import numpy as np
from jaxtyping import Float, Int


def push_along(observations: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 1"]:
    """Push in the direction in which the car moves, with the full force of 1.

    Args:
        observations: position and velocity of the car.

    Returns:
        The force, in the environment's own units, from -1 to 1.
    """
    velocity = observations[:, 1:]
    return np.where(velocity >= 0, 1.0, -1.0)


LEFT, RIGHT = 0, 2
"""Two of the three choices of MountainCar-v0; 1 is not to push."""


def choose_along(observations: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
    """Push in the direction in which the car of MountainCar-v0 moves.

    Args:
        observations: position and velocity of the car.

    Returns:
        The choice of each: 0, to the left, or 2, to the right.
    """
    return np.where(observations[:, 1] >= 0, RIGHT, LEFT)
