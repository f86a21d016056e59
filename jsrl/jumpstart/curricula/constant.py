"""The same number of guide steps in every episode; none of them is plain learning."""

from dataclasses import dataclass
from typing import Self

from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula.base import CurriculumOptions, curricula


@dataclass
class ConstantOptions(CurriculumOptions):
    """Of ``curriculum=constant``."""

    # Steps of the guide at the beginning of every episode.
    guide_steps: int = 0

    neutral = (("guide_steps", 0),)

    def check(self) -> None:
        super().check()
        at_least("curriculum.guide_steps", self.guide_steps, 0)


@dataclass(frozen=True)
class ConstantCurriculum:
    """The guide always acts for the same number of steps; 0 is plain offline-to-online learning."""

    steps: int = 0
    stage: int = 0

    def guide_steps(self, streams: Streams) -> int:
        return self.steps

    def advance(self, evaluation: float, step: int) -> Self:
        return self


@curricula.register("none")
def make_without_guide(
    options: CurriculumOptions, initial_guide_steps: int, guide_score: float
) -> ConstantCurriculum:
    """The guide never acts."""
    return ConstantCurriculum(0)


@curricula.register("constant", ConstantOptions)
def make_constant(
    options: ConstantOptions, initial_guide_steps: int, guide_score: float
) -> ConstantCurriculum:
    """The guide always acts for as many steps as the options say."""
    return ConstantCurriculum(options.guide_steps)
