"""Gradient times input (Shrikumar et al. 2016, arXiv 1605.01713, section 2.2)."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.monitor.attribution.methods.base import Attribution, MethodOptions, gradient, methods


@methods.register("gradient_x_input")
class GradientTimesInput:
    """The gradient of the output by each column, times how far the column is from the baseline.

    The contributions add up to the output only where the network is linear between the two.

    Args:
        options: it has none of its own.
    """

    complete: ClassVar[bool] = False

    def __init__(self, options: MethodOptions) -> None:
        self.options = options

    def attribute(
        self,
        network: nn.Module,
        rows: Float[Tensor, "N O"],
        targets: Int[Tensor, " N"],
        baseline: Float[Tensor, " O"],
    ) -> Attribution:
        slope, output = gradient(network, rows, targets)
        return Attribution(slope * (rows - baseline), output, torch.zeros_like(output))
