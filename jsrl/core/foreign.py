"""What objects of users and of other libraries may have: policies, guides and environments.

Each ability is a Protocol, and whoever needs it asks by ``isinstance``.

Shapes: n rows or steps, O' numbers of an observation, A action size, G numbers of a goal.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@runtime_checkable
class ComputesReward(Protocol):
    """A goal environment that says what a step's reward would be under another goal."""

    def compute_reward(
        self,
        achieved_goal: Float[np.ndarray, "n G"],
        desired_goal: Float[np.ndarray, "n G"],
        info: Any,
    ) -> Any:
        """The rewards ``[n]``; ``info`` is a list of n dictionaries, which are empty."""
        ...


@runtime_checkable
class ComputesTermination(Protocol):
    """A goal environment that says whether a step would end its episode under another goal."""

    def compute_terminated(
        self,
        achieved_goal: Float[np.ndarray, "n G"],
        desired_goal: Float[np.ndarray, "n G"],
        info: Any,
    ) -> Any:
        """Whether the task is done, ``[n]``; many environments answer for one step only."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A guide, or a user's policy, that may have a memory: whether it has is what it says."""

    stateful: bool


@runtime_checkable
class Stochastic(Protocol):
    """A user's policy that draws random numbers, if it says so."""

    stochastic: bool


@runtime_checkable
class ResetsRows(Protocol):
    """A user's policy with a memory, which forgets single episodes."""

    def reset(self, *, rows: Int[np.ndarray, " n"]) -> None:
        """New episodes begin in these rows."""
        ...


@runtime_checkable
class ActsOnRows(Protocol):
    """A user's object that acts by its method ``act``."""

    def act(self, observations: Float[np.ndarray, "n O"]) -> Any:
        """Actions ``[n, A]``."""
        ...


@runtime_checkable
class PredictsActions(Protocol):
    """A user's object that acts by its method ``predict``, as those of other libraries do."""

    def predict(self, observations: Float[np.ndarray, "n O"]) -> Any:
        """Actions ``[n, A]``."""
        ...


@runtime_checkable
class KnowsItsRange(Protocol):
    """A user's object that knows in which range it answers, such as one with an action space.

    Both are one number or ``[A]``, or None where it does not know after all. Without them it is
    taken to answer in the environment's own bounds.
    """

    action_low: Any
    action_high: Any


@runtime_checkable
class InAMaze(Protocol):
    """An environment in a maze, of gymnasium-robotics or of this package."""

    maze: Any


@runtime_checkable
class Simulated(Protocol):
    """An environment of MuJoCo."""

    model: Any
    """What ``mujoco.MjModel`` is."""


@runtime_checkable
class HoldsPoint(Protocol):
    """A maze of gymnasium-robotics with a point in it, which is an environment of its own."""

    point_env: Any


@runtime_checkable
class HoldsAnt(Protocol):
    """A maze of gymnasium-robotics with an ant in it, which is an environment of its own."""

    ant_env: Any


def has_memory(actor: object) -> bool:
    """Whether a guide or a user's policy says that it remembers earlier steps of an episode."""
    return isinstance(actor, Stateful) and bool(actor.stateful)
