"""JSRL-Curriculum (Uchendu et al. 2023, section 4): h shrinks while the evaluations hold up."""

import math
from dataclasses import dataclass, replace
from typing import Self

from jsrl.core.errors import UserError
from jsrl.core.ranges import all_finite, at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula.base import DecidingOptions, curricula, stage_steps


@dataclass
class JumpStartOptions(DecidingOptions):
    """Of ``curriculum=jsrl``."""

    # Steps in which the guide's share shrinks to nothing.
    stages: int = 10
    # Evaluations in the moving average that has to hold up.
    window: int = 3
    # Share by which the mean of a window may fall short of the best before.
    tolerance: float = 0.05
    # A mean below this never advances; null: there is no such bound.
    minimum: float | None = None

    def check(self) -> None:
        super().check()
        at_least("curriculum.stages", self.stages, 1)
        at_least("curriculum.window", self.window, 1)
        at_least("curriculum.tolerance", self.tolerance, 0)
        all_finite("curriculum", self)


@dataclass(frozen=True)
class JumpStartCurriculum:
    """JSRL-Curriculum: h shrinks stage by stage while the evaluations hold up.

    The next stage begins when the window of evaluations is full within this stage and its mean is
    at least ``best - tolerance·|best|``, where ``best`` is the largest mean of any earlier full
    window of any stage, at first the guide's own score, and is never reset. Below ``minimum``
    nothing advances. An evaluation that is not finite is no evidence and is left out.

    Args:
        steps: guide steps h of each stage, ending in 0.
        window: number of evaluations in the moving average.
        tolerance: share of |best| by which the mean may fall short.
        minimum: a mean below this never advances.
        best: the best full-window mean so far.
        stage: index into ``steps``.
        evaluations: those of this stage, the last ``window`` of them.
        advanced_at: environment steps at which each stage but the first began.
    """

    steps: tuple[int, ...]
    window: int = 3
    tolerance: float = 0.05
    minimum: float = -math.inf
    best: float = -math.inf
    stage: int = 0
    evaluations: tuple[float, ...] = ()
    advanced_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UserError(f"curriculum.window={self.window} must be at least 1")
        if not self.tolerance >= 0:
            raise UserError(f"curriculum.tolerance={self.tolerance} must be at least 0")

    @property
    def is_settled(self) -> bool:
        """In the last stage, in which the guide does not act."""
        return self.stage + 1 == len(self.steps)

    def guide_steps(self, streams: Streams) -> int:
        return self.steps[self.stage]

    def advance(self, evaluation: float, step: int) -> Self:
        if not math.isfinite(evaluation):
            return self
        evaluations = (*self.evaluations, evaluation)[-self.window :]
        if len(evaluations) < self.window:
            return replace(self, evaluations=evaluations)
        mean = math.fsum(evaluations) / self.window
        bound = self.best - self.tolerance * abs(self.best) if self.best > -math.inf else self.best
        best = max(self.best, mean)
        if not self.is_settled and mean >= bound and mean >= self.minimum:
            return replace(
                self,
                best=best,
                stage=self.stage + 1,
                evaluations=(),
                advanced_at=(*self.advanced_at, step),
            )
        return replace(self, best=best, evaluations=evaluations)


@curricula.register("jsrl", JumpStartOptions)
def make_jump_start(
    options: JumpStartOptions, initial_guide_steps: int, guide_score: float
) -> JumpStartCurriculum:
    """The curriculum of one seed, held against the guide's own score."""
    return JumpStartCurriculum(
        steps=stage_steps(initial_guide_steps, options.stages),
        window=options.window,
        tolerance=options.tolerance,
        minimum=-math.inf if options.minimum is None else options.minimum,
        best=guide_score,
    )
