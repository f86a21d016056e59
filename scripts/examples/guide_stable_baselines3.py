"""A guide from a Stable-Baselines3 file (``pip install stable-baselines3``).

Use it with ``guide=python
guide.target=scripts/examples/guide_stable_baselines3.py:StableBaselines3Guide
"guide.arguments={algorithm: SAC, path: model.zip}"``. It says itself in which bounds it answers:
those of the environment that it was trained in.

Loading a Stable-Baselines3 zip can run code that is in it. Use files that you trust.
"""

from pathlib import Path

import numpy as np
import stable_baselines3

from jsrl.core.errors import UserError


class StableBaselines3Guide:
    """Answers with the deterministic action of a saved policy on flat Box observations.

    Args:
        algorithm: the class that saved it: A2C, DDPG, PPO, SAC or TD3.
        path: the zip.
    """

    def __init__(self, algorithm: str, path: str) -> None:
        if not Path(path).is_file():
            raise UserError(f"guide.arguments.path={path!r}: there is no such file")
        self.model = getattr(stable_baselines3, algorithm).load(path, device="cpu")
        self.action_low = self.model.action_space.low
        self.action_high = self.model.action_space.high

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions [n, A], in the bounds that the policy was trained with."""
        actions, _ = self.model.predict(observations, deterministic=True)
        return actions
