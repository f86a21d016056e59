"""h at the frontier of what succeeds: neither too easy nor out of reach.

The tasks of intermediate difficulty of Florensa et al. 2018 (arXiv 1705.06366, section 4.1), with
the number of guide steps as the task.
"""

from dataclasses import dataclass

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.jumpstart.curricula.base import curricula
from jsrl.jumpstart.curricula.counted import CountedOptions, CountedSuccess, choices


@dataclass
class FrontierOptions(CountedOptions):
    """Of ``curriculum=frontier``."""

    # The success that is sought.
    sought_success: float = 0.5

    def check(self) -> None:
        super().check()
        if not 0 <= self.sought_success <= 1:
            raise UserError(f"curriculum.sought_success={self.sought_success} must lie in [0, 1]")


@dataclass(frozen=True)
class FrontierCurriculum(CountedSuccess):
    """The h whose expected success is nearest the one that is sought, the smallest of equals.

    What was never tried is expected to succeed every second time, and what was tried long ago
    again comes near that, so that every h has its turn.

    Args:
        sought_success: what it is.
    """

    sought_success: float = 0.5

    @property
    def stage(self) -> int:
        """The index into ``steps``."""
        away = [abs(mean - self.sought_success) for mean in self.means()]
        return max(k for k, distance in enumerate(away) if distance == min(away))

    def guide_steps(self, streams: Streams) -> int:
        return self.steps[self.stage]


@curricula.register("frontier", FrontierOptions)
def make_frontier(
    options: FrontierOptions, initial_guide_steps: int, guide_score: float
) -> FrontierCurriculum:
    """The curriculum of one seed, which has seen no episode."""
    steps = choices(initial_guide_steps, options.stages)
    nothing = (0.0,) * len(steps)
    return FrontierCurriculum(steps, nothing, nothing, options.forgetting, options.sought_success)
