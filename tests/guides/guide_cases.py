"""Small environments' specifications and policies that the guide tests share."""

from dataclasses import replace
from pathlib import Path

import torch

from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy

SPEC = EnvSpec(
    id="Fake-v0",
    observation_size=5,
    action_size=2,
    layout=(("desired_goal", 0, 2), ("observation", 2, 5)),
    action_low=(-2.0, -2.0),
    action_high=(2.0, 2.0),
    max_episode_steps=50,
)

UNIT = replace(SPEC, id="Unit-v0", action_low=(-1.0, -1.0), action_high=(1.0, 1.0))
"""Takes actions as policies give them."""


def random_policy(
    seeds: list[int], observation_size: int = 5, action_size: int = 2
) -> GaussianPolicy:
    """Randomly initialised policies: seed i's weights depend on seed i alone."""
    policy = GaussianPolicy(len(seeds), observation_size, action_size, hidden=(16, 16))
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams(seeds), "actor")
    return policy


def write_checkpoint(
    path: Path,
    seeds: list[int],
    observation_size: int = 5,
    action_size: int = 2,
    **changes: object,
) -> GaussianPolicy:
    """Write a checkpoint of random policies; returns them."""
    policy = random_policy(seeds, observation_size, action_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": "jsrl-checkpoint",
        "version": 1,
        "seeds": seeds,
        "policies": {
            "exploration": {"description": policy.describe(), "state": policy.state_dict()}
        },
        "environment": {
            "observation_size": observation_size,
            "action_size": action_size,
            "layout": [list(part) for part in SPEC.layout],
        },
    }
    torch.save({**content, **changes}, path)
    return policy


def observations(seeds: int, environments: int, size: int = 5) -> torch.Tensor:
    """Random observations ``[S, E, O]``."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(seeds, environments, size, generator=generator)
