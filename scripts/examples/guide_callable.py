"""A guide of your own: any function of a batch of observations.

Use it with ``guide=python guide.target=scripts/examples/guide_callable.py:towards_goal``.
This one, for a point maze, pushes straight at the goal and knows nothing of walls.
"""

import numpy as np


def towards_goal(observations: np.ndarray) -> np.ndarray:
    """Actions [n, 2] in [-1, 1] for flat observations [n, 8].

    The columns follow the names of the parts in alphabetical order: achieved_goal (x, y),
    desired_goal (x, y), observation (x, y and their velocities).
    """
    position, goal, velocity = observations[:, 0:2], observations[:, 2:4], observations[:, 6:8]
    return np.clip(3.0 * (goal - position) - 0.5 * velocity, -1.0, 1.0)
