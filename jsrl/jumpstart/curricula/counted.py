"""What curricula share that count the success of training episodes for each number of steps h."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from jsrl.core.episodes import Episode
from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least
from jsrl.jumpstart.curricula.base import MeasuredOptions, stage_steps

PRIOR = 0.5
"""Of successes and of failures for each h: Jeffreys' Beta(1/2, 1/2)."""


@dataclass
class CountedOptions(MeasuredOptions):
    """Of curricula that count the success of training episodes."""

    # Numbers of guide steps to choose from, evenly spaced from H1 down to 0.
    stages: int = 5
    # Factor of all counts after each episode, so that what was long ago is forgotten.
    forgetting: float = 0.97

    learns_from_success: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        at_least("curriculum.stages", self.stages, 1)
        if not 0 < self.forgetting <= 1:
            raise UserError(f"curriculum.forgetting={self.forgetting} must lie in (0, 1]")


@dataclass(frozen=True)
class CountedSuccess:
    """Discounted counts of successes and failures for each h.

    Args:
        steps: the numbers h to choose from, the largest first, each once.
        successes: for each h.
        failures: for each h.
        forgetting: factor of all counts after each episode.
    """

    steps: tuple[int, ...]
    successes: tuple[float, ...]
    failures: tuple[float, ...]
    forgetting: float = 0.97

    def advance(self, evaluation: float, step: int) -> Self:
        """An evaluation changes nothing."""
        return self

    def observe(self, episode: Episode) -> Self:
        """Count an episode. One whose success or whose h is not known changes nothing."""
        if episode.success is None or episode.planned_steps not in self.steps:
            return self
        place, success = self.steps.index(episode.planned_steps), float(episode.success > 0)
        return replace(
            self,
            successes=self._counted(self.successes, place, success),
            failures=self._counted(self.failures, place, 1 - success),
        )

    def means(self) -> tuple[float, ...]:
        """The expected success with each h."""
        return tuple(
            (good + PRIOR) / (good + bad + 2 * PRIOR)
            for good, bad in zip(self.successes, self.failures, strict=True)
        )

    def _counted(self, counts: tuple[float, ...], place: int, more: float) -> tuple[float, ...]:
        return tuple(
            self.forgetting * (count + (more if k == place else 0.0))
            for k, count in enumerate(counts)
        )


def choices(initial_guide_steps: int, stages: int) -> tuple[int, ...]:
    """H1 - H1/n, H1 - 2·H1/n, …, 0, each once."""
    return tuple(dict.fromkeys(stage_steps(initial_guide_steps, stages)))
