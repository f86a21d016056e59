"""A policy of Stable-Baselines3 behind a monitor (``pip install 'jsrl-torch[sb3]'``)."""

from typing import Any

from torch import nn

from jsrl import Monitor


class Predicts(nn.Module):
    """Calls ``predict``, as ``model.predict`` does: arrays come in, actions and states go out."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy: Any = policy

    def forward(self, observation: Any, **options: Any) -> Any:
        """Actions and states; ``deterministic=True`` is an option, as in ``model.predict``."""
        return self.policy.predict(observation, **options)


# The layers of SAC's and TD3's actor, and those of PPO's and A2C's: critics are not asked.
LAYERS = r"inputs|outputs|policy\.actor\.(latent_pi|mu).*|policy\.mlp_extractor\.policy_net.*"


def watched(model: Any, **options: Any) -> Monitor:
    """A monitor to call in the place of ``model.predict``."""
    return Monitor.wrap(Predicts(model.policy), layers=LAYERS, **options)
