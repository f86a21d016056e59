"""What policies of one perceptron a seed share: its layers, and the normaliser of observations."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.networks.activations import Activation
from jsrl.networks.layers import SeedMLP
from jsrl.networks.seed_policy import SeedPolicy


class MlpPolicy(SeedPolicy):
    """A policy whose distribution over actions, or whose action, is what a perceptron says.

    Args:
        num_seeds: S.
        observation_size: O.
        action_size: A, or the number of actions.
        outputs: of the perceptron.
        hidden: sizes of the hidden layers.
        activation: what follows each hidden layer.
        layer_norm: normalise hidden layers.
        normalise_observations: subtract ``observation_mean``, divide by ``observation_std``.
        arguments: the other keywords of the class, as plain values.
    """

    observation_mean: Tensor
    observation_std: Tensor

    def __init__(
        self,
        num_seeds: int,
        observation_size: int,
        action_size: int,
        *,
        outputs: int,
        hidden: Sequence[int],
        activation: Activation,
        layer_norm: bool,
        normalise_observations: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(
            num_seeds,
            observation_size,
            action_size,
            hidden=hidden,
            activation=activation,
            layer_norm=layer_norm,
            # The order is part of what identifies a guide in checkpoints.
            **arguments,
            normalise_observations=normalise_observations,
        )
        self.mlp = SeedMLP((num_seeds,), observation_size, hidden, outputs, activation, layer_norm)
        self.register_buffer("observation_mean", torch.zeros(observation_size))
        self.register_buffer("observation_std", torch.ones(observation_size))
        self.normalise_observations = normalise_observations

    def set_normaliser(
        self, mean: Float[Tensor, " O"] | None, std: Float[Tensor, " O"] | None
    ) -> None:
        """Normalise by these statistics of a dataset, if this policy normalises at all."""
        if self.normalise_observations and mean is not None and std is not None:
            self.observation_mean.copy_(mean)
            self.observation_std.copy_(std)

    def normaliser(self) -> tuple[Float[Tensor, " O"], Float[Tensor, " O"]]:
        """The mean and standard deviation of the observations it was trained on."""
        return self.observation_mean, self.observation_std

    def normalise(self, obs: Float[Tensor, "S B O"]) -> Float[Tensor, "S B O"]:
        """Observations in the units that the network was trained in."""
        if not self.normalise_observations:
            return obs
        return (obs - self.observation_mean) / self.observation_std

    def outputs(
        self, obs: Float[Tensor, "S B O"], dropout: Sequence[Tensor] = ()
    ) -> Float[Tensor, "S B outputs"]:
        """What the perceptron says; ``dropout`` holds a mask for each hidden layer."""
        out: Tensor = self.mlp(self.normalise(obs), dropout)
        return out
