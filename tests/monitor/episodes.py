"""Episodes made up for tests of the monitor: AR(1) observations through a small network."""

import numpy as np
import torch
from torch import nn

from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import WatchedSteps

COLUMNS = 6


def network(seed=0):
    """A small policy, whose weights are drawn from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(
        nn.Linear(COLUMNS, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return module


def walk(rng, length=20, rho=0.9, columns=COLUMNS):
    """AR(1) steps with unit variance, ``[length, columns]``."""
    steps = np.zeros((length, columns))
    steps[0] = rng.normal(size=columns)
    for t in range(1, length):
        steps[t] = rho * steps[t - 1] + np.sqrt(1 - rho**2) * rng.normal(size=columns)
    return steps.astype(np.float32)


def steps_of(observations, number=0, phase=4, stage=-1, actor=1):
    count = len(observations)
    return WatchedSteps(
        observations=observations,
        actions=np.tanh(observations[:, :2]),
        step=number * 1000 + np.arange(count),
        episode=np.full(count, number),
        time=np.arange(count),
        phase=np.full(count, phase),
        stage=np.full(count, stage),
        actor=np.full(count, actor),
        seed=np.zeros(count, np.int64),
    )


@torch.no_grad()
def sample_of(observations, module, number=0, **where):
    """An episode, with what two layers of the network say."""
    inputs = torch.from_numpy(observations)
    hidden = module[:2](inputs)
    layers = {"inputs": inputs, "hidden": hidden, "outputs": module[2:](hidden)}
    return Sample(steps_of(observations, number, **where), layers)
