"""h where success changes fastest, upwards or downwards.

Absolute learning progress after Matiisen et al. 2017 (arXiv 1707.00183, section 3), as the
difference of a fast and a slow mean of the success with each h.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from jsrl.core.episodes import Episode
from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula.base import MeasuredOptions, curricula
from jsrl.jumpstart.curricula.counted import choices


@dataclass
class LearningProgressOptions(MeasuredOptions):
    """Of ``curriculum=learning_progress``."""

    # Numbers of guide steps to choose from, evenly spaced from H1 down to 0.
    stages: int = 5
    # Rate of the fast mean of success, in each episode with this h.
    fast_rate: float = 0.2
    # Rate of the slow mean.
    slow_rate: float = 0.05
    # Probability with which any h is taken.
    exploration: float = 0.2

    learns_from_success: ClassVar[bool] = True

    def check(self) -> None:
        super().check()
        at_least("curriculum.stages", self.stages, 1)
        for name in ("fast_rate", "slow_rate", "exploration"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"curriculum.{name}={value} must lie in [0, 1]")


@dataclass(frozen=True)
class LearningProgressCurriculum:
    """h is drawn in proportion to how fast the success with it changes, or with ε any of them.

    Both means begin at 0. Where nothing changes, any h is drawn.

    Args:
        steps: the numbers h to choose from, the largest first, each once.
        fast: mean success with each h, of the episodes lately.
        slow: mean success with each h, over longer.
        rates: of the fast and of the slow mean.
        exploration: ε.
    """

    steps: tuple[int, ...]
    fast: tuple[float, ...]
    slow: tuple[float, ...]
    rates: tuple[float, ...] = (0.2, 0.05)
    exploration: float = 0.2

    @property
    def stage(self) -> int:
        """The index into ``steps`` of the h whose success changes fastest, the first of equals."""
        progress = self.progress()
        return progress.index(max(progress))

    def guide_steps(self, streams: Streams) -> int:
        (generator,) = streams.numpy("learning_progress")
        progress, count = self.progress(), len(self.steps)
        total = sum(progress)
        even = self.exploration if total > 0 else 1.0
        odds = [even / count + (1 - even) * p / (total or 1.0) for p in progress]
        return self.steps[int(generator.choice(count, p=[p / sum(odds) for p in odds]))]

    def advance(self, evaluation: float, step: int) -> Self:
        """An evaluation changes nothing."""
        return self

    def observe(self, episode: Episode) -> Self:
        """Count an episode. One whose success or whose h is not known changes nothing."""
        if episode.success is None or episode.planned_steps not in self.steps:
            return self
        place, success = self.steps.index(episode.planned_steps), float(episode.success > 0)
        fast, slow = (
            tuple(m + rate * (success - m) if k == place else m for k, m in enumerate(means))
            for means, rate in zip((self.fast, self.slow), self.rates, strict=True)
        )
        return replace(self, fast=fast, slow=slow)

    def progress(self) -> tuple[float, ...]:
        """How far apart the two means are with each h."""
        return tuple(abs(f - s) for f, s in zip(self.fast, self.slow, strict=True))


@curricula.register("learning_progress", LearningProgressOptions)
def make_learning_progress(
    options: LearningProgressOptions, initial_guide_steps: int, guide_score: float
) -> LearningProgressCurriculum:
    """The curriculum of one seed, which has seen no episode."""
    steps = choices(initial_guide_steps, options.stages)
    nothing = (0.0,) * len(steps)
    rates = (options.fast_rate, options.slow_rate)
    return LearningProgressCurriculum(steps, nothing, nothing, rates, options.exploration)
