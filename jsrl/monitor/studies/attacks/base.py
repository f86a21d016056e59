"""What all kinds of attacks share: their options, their registry, and what they are given.

Shapes: N rows, O columns of a row, G free coordinates of a ``Ball``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least, one_of
from jsrl.core.registry import KindOptions, Registry
from jsrl.core.streams import Streams
from jsrl.monitor.studies.attacks.ball import Ball

ACTION, LOWEST_Q = "action", "lowest_q"
GOALS = (ACTION, LOWEST_Q)

DEVIATIONS, OWN = "deviations", "own"
UNITS = (DEVIATIONS, OWN)

Objective = Callable[[Float[Tensor, "N O"], Float[Tensor, "N O"]], Float[Tensor, " N"]]
"""What an attacker would have large, row by row: of perturbed rows, and of the rows as they are. It
is differentiable by the perturbed rows."""


@dataclass
class AttackOptions(KindOptions):
    """What every attack has."""

    # What the attacker wants: action, the largest change, or lowest_q, the least valuable action.
    goal: str = ACTION
    # Largest changes of a column.
    epsilons: list[float] = field(default_factory=lambda: [0.05, 0.1, 0.2])
    # Of what: deviations, standard deviations of the column in trusted observations, or own, the
    # column's own unit.
    units: str = DEVIATIONS
    # Groups of columns that move alike, by name or number, such as [[0,4],[1,5]].
    tied: list[Any] = field(default_factory=list)
    # Columns that are left as they are, by name or number; a part's name stands for all of it.
    frozen: list[Any] = field(default_factory=list)
    # Whether the attacker knows the monitor, and keeps the statistics that it looks at.
    adaptive: bool = False
    # Weight of what the attacker wants to keep, where it is adaptive.
    penalty: float = 10.0
    # Share of trusted episodes on either side, beyond which a statistic counts as changed.
    quantile: float = 0.05

    def check(self) -> None:
        one_of("attack.goal", self.goal, GOALS)
        one_of("attack.units", self.units, UNITS)
        wrong = [e for e in self.epsilons if not (math.isfinite(e) and e >= 0)]
        if wrong or not self.epsilons:
            raise UserError(
                f"attack.epsilons={list(self.epsilons)} must be one number or more, each finite "
                "and at least 0"
            )
        at_least("attack.penalty", self.penalty, 0)
        if not 0 < self.quantile < 0.5:
            raise UserError(f"attack.quantile={self.quantile} must lie between 0 and 0.5")


def sizes_of(
    options: AttackOptions, epsilon: float, spread: Float[Tensor, " O"]
) -> Float[Tensor, " O"]:
    """By how much each column may move, in its own unit.

    Args:
        options: of the attack.
        epsilon: its size.
        spread: the standard deviation of each column in trusted rows.
    """
    return epsilon * (spread if options.units == DEVIATIONS else torch.ones_like(spread))


class Attack(Protocol):
    """Chooses perturbations."""

    def fit(
        self, objective: Objective, trusted: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> None:
        """Prepare for one objective and one ball on trusted rows; may do nothing."""
        ...

    def perturbation(
        self, objective: Objective, clean: Float[Tensor, "N O"], ball: Ball, streams: Streams
    ) -> Float[Tensor, "N O"]:
        """What to add to each row.

        Args:
            objective: what to make large.
            clean: the rows as they are.
            ball: what is allowed.
            streams: of one seed (S = 1), for what is random.
        """
        ...


attacks: Registry[Callable[[Any], Attack]] = Registry("attack", AttackOptions)
"""The kinds of ``attack=…``."""


def ascent(
    objective: Objective, clean: Float[Tensor, "N O"], free: Float[Tensor, "*N G"], ball: Ball
) -> tuple[Float[Tensor, "*N G"], Float[Tensor, " N"]]:
    """The gradient of the objective by the free coordinates, and its values.

    Coordinates ``[G]`` are those of all rows together, whose objectives are then summed.
    """
    with torch.enable_grad():
        free = free.detach().requires_grad_(True)
        values = objective(clean + ball.expand(free), clean)
        if not values.requires_grad:
            return torch.zeros_like(free), values
        (gradient,) = torch.autograd.grad(values.sum(), free)
    return gradient, values.detach()


def random_start(ball: Ball, streams: Streams, *rows: int) -> Float[Tensor, "*N G"]:
    """Uniform draws from the ball."""
    drawn = streams.uniform("start", (*rows, len(ball.radii)))[0]
    return (2 * drawn - 1) * ball.radii
