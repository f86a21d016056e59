"""What all curricula share: their options, their registry, and their state in a checkpoint."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from jsrl.core.errors import UserError
from jsrl.core.protocols import Curriculum
from jsrl.core.ranges import at_least, one_of
from jsrl.core.registry import KindOptions, Registry


@dataclass
class CurriculumOptions(KindOptions):
    """What every curriculum has: how the guide is measured before the online stage."""

    # Episodes of the guide alone over which it is measured.
    initial_episodes: int = 100
    # What is evaluated: success or return.
    metric: str = "success"

    learns_from_success: ClassVar[bool] = False
    """Whether it has to know which training episodes had success."""

    @property
    def given_guide_steps(self) -> int | None:
        """H1 where the options give it; None where it is measured."""
        return None

    @property
    def goes_by_guide(self) -> bool:
        """Whether it begins from what the guide's own episodes were like."""
        return False

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""
        at_least("curriculum.initial_episodes", self.initial_episodes, 1)
        one_of("curriculum.metric", self.metric, ("success", "return"))


@dataclass
class MeasuredOptions(CurriculumOptions):
    """Of curricula that begin with the length of the guide's own episodes."""

    # H1, the guide steps at the beginning; null: as long as the guide's own episodes are.
    initial_guide_steps: int | None = None

    @property
    def given_guide_steps(self) -> int | None:
        return self.initial_guide_steps

    @property
    def goes_by_guide(self) -> bool:
        return self.initial_guide_steps is None


@dataclass
class DecidingOptions(MeasuredOptions):
    """Of curricula that decide on evaluations."""

    # Environment steps of each seed between two evaluations that the curriculum decides on.
    interval: int = 1000
    # Which policy's evaluation decides: combined or exploration.
    decide_on: str = "combined"

    @property
    def goes_by_guide(self) -> bool:
        """The guide's score is what evaluations are held against."""
        return True

    def check(self) -> None:
        super().check()
        at_least("curriculum.interval", self.interval, 1)
        one_of("curriculum.decide_on", self.decide_on, ("combined", "exploration"))


class MakeCurriculum(Protocol):
    """Makes the curriculum of one seed."""

    def __call__(self, options: Any, initial_guide_steps: int, guide_score: float) -> Curriculum:
        """A curriculum at its beginning.

        Args:
            options: of its kind.
            initial_guide_steps: H1.
            guide_score: what the guide alone reaches in ``curriculum.metric``.
        """
        ...


curricula: Registry[MakeCurriculum] = Registry("curriculum", CurriculumOptions)
"""The kinds of ``curriculum=…``."""


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
