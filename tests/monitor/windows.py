"""Windows of correlated episodes with classes, actions and critics, for tests of detectors."""

import numpy as np
import torch

from jsrl.monitor.detectors.window import Window

CLASSES = 3


def window(rng, episodes=12, length=6, shift=0.0, classes=True, labels=False, columns=4):
    """AR(1) observations through fixed weights; ``shift`` moves the hidden layer alone."""
    walks = rng.normal(size=(episodes, 1, columns)) + 0.4 * rng.normal(
        size=(episodes, length, columns)
    )
    observations = torch.from_numpy(walks.reshape(-1, columns))
    draws = torch.Generator().manual_seed(0)

    def weights(*shape):
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    hidden = torch.tanh(observations @ weights(columns, 8)) + shift
    outputs = hidden @ weights(8, CLASSES)
    values = torch.stack([hidden @ weights(8), hidden @ weights(8)], 1)
    noisy = outputs + torch.from_numpy(rng.gumbel(size=outputs.shape))
    return Window(
        episode=torch.arange(episodes).repeat_interleave(length),
        layers={"inputs": observations, "hidden": hidden, "outputs": outputs},
        observations=observations,
        actions=None if classes else torch.tanh(outputs[:, :2]),
        logits=outputs if classes else None,
        labels=noisy.argmax(1) if labels else None,
        values=values,
    )


def rng_of(seed=0):
    return np.random.default_rng(seed)
