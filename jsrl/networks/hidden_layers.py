"""What follows each hidden layer of a network: its activation, and whether it is normalised."""

from dataclasses import dataclass

from jsrl.networks.activations import Activation


@dataclass(frozen=True)
class HiddenLayers:
    """Of one network.

    Args:
        activation: what follows each hidden layer.
        layer_norm: whether hidden layers are normalised before it.
    """

    activation: Activation = "relu"
    layer_norm: bool = False


@dataclass(frozen=True)
class NetworkLayers:
    """Of the networks of a learner, which may differ."""

    actor: HiddenLayers = HiddenLayers()
    critic: HiddenLayers = HiddenLayers()
    value: HiddenLayers = HiddenLayers()
