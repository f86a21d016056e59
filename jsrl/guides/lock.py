"""A scripted guide for the combination lock, as good or as bad as it is asked to be.

What Jump-Start RL asks of a guide is that it visits the states that the best policy visits, with a
probability of at least 1/C at every step (Uchendu et al. 2023, arXiv 2204.02372, "Theoretical
analysis"). In ``envs.lock`` that is the probability that all of its actions before were right.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jsrl.core.errors import UserError
from jsrl.core.ranges import one_of
from jsrl.envs.lock import LockEnv
from jsrl.envs.make import make_env
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.view import GuideView, environment_range

STEP, EPISODE = "step", "episode"
RANDOM, WRONG = "random", "wrong"


@dataclass
class LockOptions(GuideOptions):
    """Of ``guide=lock``."""

    # Probability of meaning to give the right action.
    quality: float = 1.0
    # Of what it is the probability: of a step, or of all steps of an episode together, each of
    # which then has quality^(1/horizon).
    per: str = STEP
    # What it does otherwise: random, any action, the right one too, or wrong, any of the others.
    otherwise: str = WRONG

    def check(self) -> None:
        super().check()
        one_of("guide.per", self.per, (STEP, EPISODE))
        one_of("guide.otherwise", self.otherwise, (RANDOM, WRONG))
        if not 0 <= self.quality <= 1:
            raise UserError(f"guide.quality={self.quality} must lie in [0, 1]")

    def slip(self, horizon: int) -> float:
        """The probability at each step of not meaning to give the right action."""
        if self.per == STEP:
            return 1 - self.quality
        return 1 - float(self.quality ** (1 / horizon))


def actions_of(
    draws: Float[np.ndarray, "*#n"],
    slips: Float[np.ndarray, "*#n"],
    right: Int[np.ndarray, "*#n"],
    actions: int,
    *,
    wrong: Bool[np.ndarray, "*#n"] | bool,
) -> Int[np.ndarray, "..."]:
    """The right action where the draw is not below the slip, and one that the draw settles where.

    All arguments are broadcast against one another.

    Args:
        draws: uniform on [0, 1).
        slips: with this probability the action is another one.
        right: the right action.
        actions: A.
        wrong: whether the other one is wrong, evenly among the A - 1 of them, or any of the A.
    """
    draws, slips = np.broadcast_arrays(draws, slips)
    slipped = draws < slips
    # What is left of the draw, uniform on [0, 1) once more.
    rest = np.divide(draws, slips, out=np.zeros(draws.shape), where=slipped)
    choices = actions - np.asarray(wrong, np.int64)
    other = np.minimum((rest * choices).astype(np.int64), choices - 1)
    other = other + (np.asarray(wrong) & (other >= right))
    return np.where(slipped, other, right)


class LockPolicy:
    """Right with some probability, where the lock is not lost yet and where it is.

    Args:
        combination: the right action of each step, ``[H]``.
        actions: A.
        slip: with this probability it does something else.
        wrong: whether that is always wrong.
    """

    stochastic = True

    def __init__(
        self, combination: Int[np.ndarray, " H"], actions: int, slip: float, *, wrong: bool
    ) -> None:
        self.combination, self.actions, self.slip, self.wrong = combination, actions, slip, wrong

    def __call__(
        self,
        observations: Float[np.ndarray, "n O"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Int[np.ndarray, " n"]:
        """Actions in states that are one-hot, with 2·H + 1 columns.

        Without a generator it does what it does most: what is right, unless it never means to.
        """
        horizon = len(self.combination)
        state = observations.argmax(-1)
        time = np.where(state > horizon, state - horizon, state)
        # Nothing is asked of it in the state behind the last step but by whoever looks there.
        right = self.combination[np.minimum(time, horizon - 1)]
        draws = np.ones(len(state)) if generator is None else generator.random(len(state))
        if generator is None and self.slip == 1:
            draws = np.zeros(len(state))
        return actions_of(draws, np.asarray(self.slip), right, self.actions, wrong=self.wrong)


@guides.register("lock", LockOptions)
def make_lock(options: LockOptions, inputs: GuideInputs) -> ForeignGuide:
    """The guide that knows the combination of the environment.

    Raises:
        UserError: if the environment is no combination lock.
    """
    example = make_env(inputs.env)
    try:
        lock = example.unwrapped
        if not isinstance(lock, LockEnv):
            raise UserError(
                f"guide=lock knows combinations of jsrl/lock-v0, and env.id={inputs.spec.id} is "
                "none; use env=lock, or another guide"
            )
        combination, actions = lock.combination, lock.actions
    finally:
        example.close()
    slip, wrong = options.slip(len(combination)), options.otherwise == WRONG
    return ForeignGuide(
        LockPolicy(combination, actions, slip, wrong=wrong),
        GuideView(),
        inputs.spec,
        len(inputs.seeds),
        name="lock",
        fingerprint=combine("lock", combination.tolist(), actions, slip, wrong),
        answers_in=environment_range(inputs.spec),
    )
