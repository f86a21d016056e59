"""When a watch raises an alarm, and what it promises about false ones."""

from dataclasses import dataclass, field

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.ensemble import movable_episodes
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.sequential import AlphaSpending


@dataclass(frozen=True)
class WatchSettings:
    """When a watch raises an alarm.

    Args:
        level: the probability of any false alarm among ``horizon`` episodes.
        horizon: the number of episodes over which the level is spent.
        shared_by: how many phases share the level.
        window: how many episodes, the latest ones, are tested at a time.
        stride: the number of episodes from one test to the next.
        reference: how many episodes a reference consists of.
        rolling: whether episodes that passed move on into the reference, whose oldest episodes
            leave it; this is for a policy that still learns.
        detector: how episodes are compared.

    Raises:
        UserError: if a number is out of range.
    """

    level: float = 0.05
    horizon: int = 200
    shared_by: int = 1
    window: int = 3
    stride: int = 1
    reference: int = 60
    rolling: bool = False
    detector: DetectorSettings = field(default_factory=DetectorSettings)

    def __post_init__(self) -> None:
        if self.window < 1 or self.reference < 2 or not 1 <= self.stride <= self.window:
            raise UserError(
                f"monitor.window={self.window} must be at least 1, "
                f"monitor.reference={self.reference} at least 2, and monitor.stride={self.stride} "
                "at least 1 and at most monitor.window: every episode is to be tested"
            )
        _ = self.spending

    @property
    def spending(self) -> AlphaSpending:
        """How the level is divided over the tests."""
        return AlphaSpending(self.level / self.shared_by, max(1, self.horizon // self.stride))

    def permutations_reach(self, reference: int, window: int) -> bool:
        """Whether so many episodes, and the permutations that are drawn, can reach the level."""
        spending, drawn = self.spending, self.detector.permutations + 1
        # Those on which a detector fits a model are not permuted.
        reference = movable_episodes(self.detector, reference)
        return spending.reachable(reference, window) and drawn * spending.per_test >= 1

    def statement(self, episodes: int) -> str:
        """The bound on false alarms among so many episodes, in a sentence.

        After every ``horizon`` episodes the level is spent anew, and the bounds add up.
        """
        accounts = max(1, -(-episodes // self.horizon))
        bound = min(1.0, accounts * self.level)
        return (
            f"Where nothing is wrong, any alarm at all in {accounts * self.horizon} episodes has a "
            f"probability of at most {bound:.2g}."
        )
