"""Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2), column by column."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.monitor.attribution.methods.base import Attribution, MethodOptions, chosen, methods


@methods.register("occlusion")
class Occlusion:
    """By how much the output falls where a column takes the value of the baseline.

    The contributions add up to the output only where the columns do not interact.

    Args:
        options: it has none of its own.
    """

    complete: ClassVar[bool] = False

    def __init__(self, options: MethodOptions) -> None:
        self.options = options

    @torch.no_grad()
    def attribute(
        self,
        network: nn.Module,
        rows: Float[Tensor, "N O"],
        targets: Int[Tensor, " N"],
        baseline: Float[Tensor, " O"],
    ) -> Attribution:
        output = chosen(network(rows), targets)
        falls = []
        for column in range(rows.shape[1]):
            occluded = rows.clone()
            occluded[:, column] = baseline[column]
            falls.append(output - chosen(network(occluded), targets))
        columns = torch.stack(falls, 1) if falls else torch.zeros_like(rows)
        rest = chosen(network(baseline.expand_as(rows)), targets)
        return Attribution(columns, output, rest)
