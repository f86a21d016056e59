"""Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv 1703.01365, section 3)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.ranges import above_zero, at_least
from jsrl.monitor.attribution.methods.base import (
    Attribution,
    MethodOptions,
    chosen,
    gradient,
    methods,
)


@dataclass
class IntegratedGradientsOptions(MethodOptions):
    """Of ``method=integrated_gradients``."""

    # Points of the straight path from the baseline to a row, at first.
    steps: int = 32
    # They are doubled up to here where the contributions do not add up.
    most_steps: int = 2048
    # How far their sum may be off the change of the output, in shares of it where it is above 1.
    tolerance: float = 1e-3

    def check(self) -> None:
        at_least("method.steps", self.steps, 1)
        above_zero("method.tolerance", self.tolerance)
        if self.most_steps < self.steps:
            raise UserError(
                f"method.most_steps={self.most_steps} must be at least method.steps={self.steps}"
            )


@methods.register("integrated_gradients", IntegratedGradientsOptions)
class IntegratedGradients:
    """The mean gradient on the straight path from the baseline, times the way.

    The mean is taken by the midpoint rule. Each row has as many points as it needs by itself.

    Args:
        options: see ``IntegratedGradientsOptions``.
    """

    complete: ClassVar[bool] = True

    def __init__(self, options: IntegratedGradientsOptions) -> None:
        self.options = options

    def attribute(
        self,
        network: nn.Module,
        rows: Float[Tensor, "N O"],
        targets: Int[Tensor, " N"],
        baseline: Float[Tensor, " O"],
    ) -> Attribution:
        with torch.no_grad():
            output = chosen(network(rows), targets)
            rest = chosen(network(baseline.expand_as(rows)), targets)
        change = output - rest
        allowed = self.options.tolerance * change.abs().clamp_min(1.0)
        columns = torch.zeros_like(rows)
        left, steps = torch.arange(len(rows)), self.options.steps
        while len(left):
            columns[left] = _along_path(network, rows[left], targets[left], baseline, steps)
            missed = (change[left] - columns[left].sum(1)).abs() > allowed[left]
            left, steps = left[missed], 2 * steps
            if steps > self.options.most_steps:
                break
        return Attribution(columns, output, rest)


def _along_path(
    network: nn.Module,
    rows: Float[Tensor, "N O"],
    targets: Int[Tensor, " N"],
    baseline: Float[Tensor, " O"],
    steps: int,
) -> Float[Tensor, "N O"]:
    way, total = rows - baseline, torch.zeros_like(rows)
    for step in range(steps):
        slope, _ = gradient(network, baseline + (step + 0.5) / steps * way, targets)
        total += slope
    return way * total / steps
