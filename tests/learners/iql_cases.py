"""IQL on random minibatches: its settings, and what the tests of it share."""

from dataclasses import replace

import torch
from minibatches import random_batch, seen
from specs import box, vector

from jsrl.core.streams import Streams
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.options import LearnerInputs
from jsrl.networks.hidden_layers import NetworkLayers

CPU = torch.device("cpu")
B = 16
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
SEEN = seen(OBSERVATION, camera=(3, 16, 16))
"""The same vector, and an image beside it."""
BASE = IQLOptions(hidden=[12, 10], batch_size=B, learning_rate=3e-3, target_rate=0.05)
PRESETS = {
    "official": replace(BASE, expectile=0.7, temperature=0.5, dropout=0.1),
    "corl": replace(
        BASE,
        expectile=0.8,
        temperature=3.0,
        dropout=0.1,
        initialisation="pytorch",
        log_std_range=(-20.0, 2.0),
        value_first=False,
        critic_reduction="mean",
        normalise_observations=True,
    ),
    "wsrl": replace(
        BASE,
        reward_scale=10.0,
        reward_shift=-5.0,
        initialisation="variance_scaling",
        log_std_range=(-11.5, 2.3),
        tanh_mean=False,
        actor_schedule="constant",
        value_first=False,
        critic_reduction="mean",
        online_action_clip=0.99999,
    ),
}


def make(seeds, settings, name="iql", observation=OBSERVATION):
    mean, std = torch.tensor([0.5, -0.5, 1.0]), torch.tensor([2.0, 0.5, 1.5])
    streams = Streams(seeds).child(name)
    return IQL(
        settings, LearnerInputs(streams, observation, ACTIONS, CPU, NetworkLayers(), mean, std)
    )


def batch(streams, observation=OBSERVATION):
    """A random minibatch, with a few terminations and truncations."""
    return random_batch(streams, B, observation, ACTIONS)


def train(learner, streams, updates, observation=OBSERVATION):
    metrics = {}
    for _ in range(updates):
        metrics = learner.update(batch(streams, observation), learner.draws(streams))
    return metrics


def flat(state):
    """Every tensor of a nested state, by its path."""
    if isinstance(state, torch.Tensor):
        return {"": state}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {
        f"{key}/{path}": value
        for key, part in items
        if isinstance(part, dict | list | tuple | torch.Tensor)
        for path, value in flat(part).items()
    }


def networks(learner):
    return {n: p.clone() for n, p in learner.networks.state_dict().items()}
