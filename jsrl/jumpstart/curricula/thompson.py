"""h by Thompson sampling on what happens in training: the least guidance that does well enough."""

from collections.abc import Sequence
from dataclasses import dataclass

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula.base import curricula
from jsrl.jumpstart.curricula.counted import PRIOR, CountedOptions, CountedSuccess, choices


@dataclass
class ThompsonOptions(CountedOptions):
    """Of ``curriculum=thompson``."""

    # The smallest h is taken whose sampled success is at least this share of the best sampled one.
    share: float = 0.5

    def check(self) -> None:
        super().check()
        if not 0 <= self.share <= 1:
            raise UserError(f"curriculum.share={self.share} must lie in [0, 1]")


@dataclass(frozen=True)
class ThompsonCurriculum(CountedSuccess):
    """h is chosen for each episode by one draw of the success with every h (Thompson 1933).

    The success with h is Beta(1/2 + successes, 1/2 + failures), of discounted counts; the smallest
    h is taken whose draw is at least ``share`` of the largest draw. So it is plain learning in
    nearly all episodes where guided ones end worse, and hands over late where only guided episodes
    succeed. Where all fail alike it is plain learning in about 0.57 of the episodes with two
    numbers h to choose from, and in 0.26 with five: the least successful draws differ by orders of
    magnitude, and few are near the largest.

    Args:
        share: of the best draw that is good enough.
    """

    share: float = 0.5

    @property
    def stage(self) -> int:
        """The index into ``steps`` of what is chosen by the expected success with every h."""
        return least_sufficient(self.means(), self.share)

    def guide_steps(self, streams: Streams) -> int:
        (generator,) = streams.numpy("thompson")
        good, bad = ([PRIOR + n for n in counts] for counts in (self.successes, self.failures))
        return self.steps[least_sufficient(generator.beta(good, bad).tolist(), self.share)]


def least_sufficient(successes: Sequence[float], share: float) -> int:
    """The index of the last success that is at least ``share`` of the largest."""
    enough = share * max(successes)
    return max(k for k, success in enumerate(successes) if success >= enough)


@curricula.register("thompson", ThompsonOptions)
def make_thompson(
    options: ThompsonOptions, initial_guide_steps: int, guide_score: float
) -> ThompsonCurriculum:
    """The curriculum of one seed, which has seen no episode."""
    steps = choices(initial_guide_steps, options.stages)
    nothing = (0.0,) * len(steps)
    return ThompsonCurriculum(steps, nothing, nothing, options.forgetting, options.share)
