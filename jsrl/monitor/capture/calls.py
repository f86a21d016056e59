"""What a network is called with, and calls of those that nothing can be attached to."""

from typing import Any

from torch import nn

from jsrl.core.observations import Observation
from jsrl.monitor.capture.layers import first_tensor


class CallsScripted(nn.Module):
    """Passes calls on to a TorchScript module, whose inputs and outputs can be looked at here."""

    def __init__(self, scripted: nn.Module) -> None:
        super().__init__()
        self.scripted = scripted

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """What the scripted module answers."""
        return self.scripted(*arguments, **options)


def numbers_of(observations: Any) -> Any:
    """What is looked at of an observation: of one of this package its numbers, and no images."""
    if isinstance(observations, Observation):
        return observations.vector
    tensor = first_tensor(observations)
    return observations if tensor is None else tensor
