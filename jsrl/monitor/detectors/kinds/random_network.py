"""Random-network distillation: what was never seen is predicted worse.

Burda et al., "Exploration by Random Network Distillation", ICLR 2019: a predictor learns on trusted
samples what a random network answers; its error tells what is new. Here both see an embedding, and
of the predictor only the last layer is fitted, by ridge regression: that takes a moment, and is the
same every time.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.ranges import above_zero, at_least
from jsrl.core.streams import seed_sequence
from jsrl.monitor.detectors.kinds.base import (
    LAYERS,
    DetectorOptions,
    Scorer,
    ScoringDetector,
    detectors,
    embedding,
)
from jsrl.monitor.detectors.window import Window


@dataclass
class RandomNetworkOptions(DetectorOptions):
    """Of the detector ``random_network``."""

    # The layer whose activations are the embedding; null: the last inner one.
    layer: str | None = None
    # Hidden units of the random network and of its predictor.
    hidden: int = 128
    # Numbers that are predicted.
    outputs: int = 16
    # The ridge, relative to the mean square of a hidden unit.
    ridge: float = 1e-3
    # Seed of both networks.
    seed: int = 0

    def check(self) -> None:
        for name in ("hidden", "outputs"):
            at_least(f"monitor.detectors.random_network.{name}", getattr(self, name), 1)
        above_zero("monitor.detectors.random_network.ridge", self.ridge)


@detectors.register("random_network", RandomNetworkOptions)
class RandomNetwork(ScoringDetector):
    """The mean square error of the predictor.

    Args:
        options: see ``RandomNetworkOptions``.
    """

    needs = ("layers",)
    fits = True
    family = LAYERS
    score_names = ("error",)

    def __init__(self, options: RandomNetworkOptions) -> None:
        super().__init__(options)

    def fit(self, trusted: Window) -> Scorer:
        features = self._features(trusted)
        mean, spread = features.mean(0), features.std(0)
        spread = torch.where(spread > 0, spread, 1.0)
        target, basis = (
            RandomLayers(features.shape[1], self.options, name) for name in ("target", "predictor")
        )

        def networks(window: Window) -> tuple[Float[Tensor, "N K"], Float[Tensor, "N H1"]]:
            # Beyond that a tanh is flat; what is far off is to stay strange all the same.
            z = ((self._features(window) - mean) / spread).clamp(-20, 20)
            return target.outputs(z), _with_one(basis.hidden(z), z)

        answers, design = networks(trusted)
        products = design.T @ design
        ridge = self.options.ridge * products.diagonal().mean()
        identity = torch.eye(len(products), dtype=products.dtype)
        weights = torch.linalg.solve(products + ridge * identity, design.T @ answers)

        def scorer(window: Window) -> Float[Tensor, "1 N"]:
            answers, design = networks(window)
            return (answers - design @ weights).square().mean(1)[None]

        return scorer

    def _features(self, window: Window) -> Float[Tensor, "N D"]:
        return embedding(window, self.options.layer, "monitor.detectors.random_network")


class RandomLayers:
    """A hidden layer with tanh, and a linear one, with weights that are drawn once.

    Args:
        size: of what goes in.
        options: how many units, and the seed.
        name: of the stream from which weights are drawn.
    """

    def __init__(self, size: int, options: RandomNetworkOptions, name: str) -> None:
        state = int(seed_sequence(options.seed, "random network", name).generate_state(1)[0])
        draws = torch.Generator().manual_seed(state)

        def normal(*shape: int) -> Tensor:
            weights = torch.randn(*shape, generator=draws, dtype=torch.float64)
            return weights / shape[0] ** 0.5

        self._first, self._bias = 2 * normal(size, options.hidden), normal(1, options.hidden)
        self._last = normal(options.hidden, options.outputs)

    def hidden(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N H"]:
        """The hidden units."""
        return torch.tanh(z @ self._first + self._bias)

    def outputs(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N K"]:
        """What the whole network answers."""
        return self.hidden(z) @ self._last


def _with_one(hidden: Float[Tensor, "N H"], z: Float[Tensor, "N D"]) -> Float[Tensor, "N H1"]:
    """The predictor's units, and the embedding itself, for what is linear in it."""
    return torch.cat([hidden, z, torch.ones(len(z), 1, dtype=z.dtype)], 1)
