"""JSRL-Random (Uchendu et al. 2023, section 4): h is drawn for each episode."""

from dataclasses import dataclass
from typing import Self

from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula.base import MeasuredOptions, curricula, stage_steps


@dataclass
class RandomOptions(MeasuredOptions):
    """Of ``curriculum=random``."""

    # Numbers of guide steps to draw from, evenly spaced from H1 down to 0.
    stages: int = 10

    def check(self) -> None:
        super().check()
        at_least("curriculum.stages", self.stages, 1)


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


@curricula.register("random", RandomOptions)
def make_random(
    options: RandomOptions, initial_guide_steps: int, guide_score: float
) -> RandomCurriculum:
    """The curriculum of one seed."""
    return RandomCurriculum(stage_steps(initial_guide_steps, options.stages))
