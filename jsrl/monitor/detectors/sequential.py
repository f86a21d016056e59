"""Tests that go on: how often they may be wrong over many episodes.

A test at 5 % after each of 200 episodes raises ten false alarms. Two ways to promise less are here.
*Alpha spending*: the level is divided over the tests of N episodes, whatever they have in common
(Bonferroni), so that any false alarm in N episodes has at most that probability. *A conformal
martingale* (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005, section
7.1), where so small a level cannot be reached by permuting few episodes: it multiplies evidence of
single episodes, and reaches 1/level with at most that probability (Ville's inequality).
"""

import math
from dataclasses import dataclass

import numpy as np

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.splits import count_splits


@dataclass(frozen=True)
class AlphaSpending:
    """A level for any false alarm among the tests after each of ``episodes`` episodes.

    Raises:
        UserError: if the level or the number is out of range.
    """

    level: float = 0.05
    episodes: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"monitor.level={self.level} must lie between 0 and 1")
        if self.episodes < 1:
            raise UserError(f"monitor.horizon={self.episodes} must be at least 1 episode")

    @property
    def per_test(self) -> float:
        """The level of each test; after ``episodes`` tests the account is opened anew."""
        return self.level / self.episodes

    def reachable(self, reference: int, window: int) -> bool:
        """Whether permuting so many episodes can give a p-value as small."""
        return count_splits(reference, window) * self.per_test >= 1

    def reference_needed(self, window: int) -> int:
        """The fewest reference episodes with which it can."""
        reference = 1
        while not self.reachable(reference, window):
            reference += 1
        return reference


BETS = tuple(i / 20 for i in range(1, 20))


@dataclass
class ConformalMartingale:
    """A bet against exchangeability that may begin at any of ``horizon`` episodes.

    The power martingale Π ε·p^(ε - 1), averaged over bets ε and over the episode from which it
    bets; what has not begun keeps its stake. Betting from the start alone, capital that was lost
    over many good episodes would have to be won back first.

    Args:
        level: the alarm is raised where the capital reaches 1/level.
        horizon: after so many episodes all begins anew.
        log_sums: for each bet in ``BETS`` the logarithm of the capital of all that have begun,
            of a stake of 1 each: what a resumed monitor goes on from.
        episodes: how many have been seen.
    """

    level: float = 0.05
    horizon: int = 200
    log_sums: tuple[float, ...] = (-math.inf,) * len(BETS)
    episodes: int = 0

    def __post_init__(self) -> None:
        _ = AlphaSpending(self.level, self.horizon)

    def update(self, p_value: float) -> None:
        """Bet on the next conformal p-value, uniform on (0, 1] as long as nothing changed.

        Raises:
            UserError: if it does not lie in (0, 1].
        """
        if not 0 < p_value <= 1:
            raise UserError(f"p_value={p_value} must lie above 0 and at most at 1")
        if self.episodes == self.horizon:
            self.episodes, self.log_sums = 0, (-math.inf,) * len(BETS)
        self.episodes += 1
        self.log_sums = tuple(
            float(np.logaddexp(log_sum, 0.0)) + math.log(bet) + (bet - 1) * math.log(p_value)
            for log_sum, bet in zip(self.log_sums, BETS, strict=True)
        )

    @property
    def log_capital(self) -> float:
        """Logarithm of the capital, of a stake of 1 in all."""
        begun = float(np.logaddexp.reduce(self.log_sums)) - math.log(len(BETS))
        waiting = self.horizon - self.episodes
        whole = np.logaddexp(begun, math.log(waiting)) if waiting else begun
        return float(whole) - math.log(self.horizon)

    @property
    def p_value(self) -> float:
        """1/capital, at most 1: valid at any time."""
        return min(1.0, math.exp(-self.log_capital))

    @property
    def alarm(self) -> bool:
        return self.log_capital >= -math.log(self.level)


def conformal_p_value(scores: list[float], draw: float) -> float:
    """The smoothed rank of the last score among all: larger is stranger.

    Args:
        scores: of all episodes so far, the newest last, by a rule that treats all alike.
        draw: uniform on [0, 1), for ties: with it p is exactly uniform.

    Raises:
        UserError: if there is no score, or one is NaN, or the draw is out of range.
    """
    if not scores or any(math.isnan(score) for score in scores):
        raise UserError(f"scores={scores}: a conformal p-value needs at least one, and no NaN")
    if not 0 <= draw < 1:
        raise UserError(f"draw={draw} must lie in [0, 1)")
    newest = scores[-1]
    above = sum(score > newest for score in scores)
    equal = sum(score == newest for score in scores)
    return (above + (1 - draw) * equal) / len(scores)
