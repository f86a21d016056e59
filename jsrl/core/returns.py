"""The return from a transition to the end of its episode, as learners ask for it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jsrl.core.errors import UserError

UNKNOWN = -np.inf
"""The return-to-go of a transition whose episode goes on: as a lower bound, it binds nothing."""


@dataclass(frozen=True)
class ReturnsToGo:
    """How the return-to-go Σ γ^k r_{t+k} of a transition is worked out.

    Where a task ends an episode, nothing follows. Where a time limit or the end of a recording
    cuts it, what would have followed is not known, and ``goes_on`` says what is put there.

    Args:
        discount: γ, in [0, 1].
        scale: rewards are scale·reward + shift, step by step.
        shift: see ``scale``.
        goes_on: whether the last reward of an episode that was cut is taken to follow for ever,
            r/(1 - γ); else nothing follows. Where all rewards of the episode are the same, as in a
            failed attempt at a task of sparse rewards, every step has the return r/(1 - γ) then
            (Nakamoto et al. 2023, arXiv 2303.05479, and their code for AntMaze).

    Raises:
        UserError: if what goes on for ever has no finite return.
    """

    discount: float
    scale: float = 1.0
    shift: float = 0.0
    goes_on: bool = True

    def __post_init__(self) -> None:
        if self.goes_on and self.discount >= 1:
            raise UserError(
                f"discount={self.discount}: a reward that goes on for ever after a time limit has "
                "no finite return; use a discount below 1, or take nothing to follow a limit"
            )

    def of_episode(
        self, rewards: Float[np.ndarray, " N"], *, terminated: bool
    ) -> Float[np.ndarray, " N"]:
        """The returns-to-go of the last N steps of an episode, float32.

        Args:
            rewards: as they were recorded, to the episode's end.
            terminated: whether the task ended it.
        """
        learnt = self.scale * rewards.astype(np.float64) + self.shift
        later = 0.0 if terminated or not self.goes_on else learnt[-1] / (1 - self.discount)
        found = np.empty(len(learnt), np.float32)
        for step in range(len(learnt) - 1, -1, -1):
            later = learnt[step] + self.discount * later
            found[step] = later
        return found
