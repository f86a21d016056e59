"""Curricula: how many steps the guide acts in each episode.

A curriculum is a pure value of one seed. ``advance`` returns the next one; nothing is changed in
place, so that an evaluation can ask for guide steps without moving the training's clock.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from jsrl.errors import UserError
from jsrl.seeding import Streams


def stage_steps(initial_guide_steps: int, stages: int) -> tuple[int, ...]:
    """H1 - H1/n, H1 - 2·H1/n, …, 0, rounded (Uchendu et al. 2023, section 4).

    Raises:
        UserError: if there is no stage, or H1 is negative.
    """
    if stages < 1:
        raise UserError(f"curriculum.stages={stages} must be at least 1")
    if initial_guide_steps < 0:
        raise UserError(f"curriculum.initial_guide_steps={initial_guide_steps} must be at least 0")
    # In whole numbers: H1·(n - k)/n rounded half up, with no error of floating point.
    return tuple(
        (2 * initial_guide_steps * (stages - k) + stages) // (2 * stages)
        for k in range(1, stages + 1)
    )


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
        if self.stage + 1 < len(self.steps) and mean >= bound and mean >= self.minimum:
            return replace(
                self,
                best=best,
                stage=self.stage + 1,
                evaluations=(),
                advanced_at=(*self.advanced_at, step),
            )
        return replace(self, best=best, evaluations=evaluations)


@dataclass(frozen=True)
class RandomCurriculum:
    """JSRL-Random: h is drawn uniformly from the stages, afresh for each episode."""

    steps: tuple[int, ...]
    stage: int = 0

    def guide_steps(self, streams: Streams) -> int:
        index = int(streams.integers("guide_steps", len(self.steps), ())[0])
        return self.steps[index]

    def advance(self, evaluation: float, step: int) -> Self:
        return self


@dataclass(frozen=True)
class ConstantCurriculum:
    """The guide always acts for the same number of steps; 0 is plain offline-to-online learning."""

    steps: int = 0
    stage: int = 0

    def guide_steps(self, streams: Streams) -> int:
        return self.steps

    def advance(self, evaluation: float, step: int) -> Self:
        return self


def curriculum_state(curriculum: Any) -> dict[str, Any]:
    """The fields of a curriculum as plain values, for a checkpoint."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(curriculum).items()
    }


def restore_curriculum(curriculum: Any, state: dict[str, Any]) -> Any:
    """A curriculum of the same kind with the fields of ``curriculum_state``."""
    fields = {
        name: tuple(value) if isinstance(value, list) else value for name, value in state.items()
    }
    return replace(curriculum, **fields)
