"""What all arbiters share: their options, their registry, and what a rule need not write itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from jaxtyping import Float, Shaped
from torch import Tensor

from jsrl.core.arbitration import (
    NEXT_GUIDE,
    Arbiter,
    ArbiterState,
    Beginning,
    Critics,
    Decision,
    Signals,
    Successors,
)
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.ranges import at_least
from jsrl.core.registry import KindOptions, Registry
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams

DRAWS = "arbiter"
"""The stream from which rules draw at every step."""

DRAWS_AT_BEGIN = "arbiter_begin"
"""The stream from which rules draw when episodes begin."""


@dataclass
class ArbiterOptions(KindOptions):
    """What every arbiter has.

    ``uses_guide_steps``: whether the h of a curriculum means anything to it. ``mixes``: whether it
    may ask for actions that are mixed of both, which choices cannot be. ``goes_by_success``:
    whether it has to know which episodes had success.
    """

    # Steps of an episode for which a decision stands before the rule is asked again.
    commitment: int = 1

    uses_guide_steps: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    @property
    def goes_by_success(self) -> bool:
        return False

    def signals(self) -> Signals:
        """By what a guide that may ask to act is to do so, for rules that need to know of it."""
        return Signals()

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""
        at_least("arbiter.commitment", self.commitment, 1)

    def check_environment(self, spec: EnvSpec) -> None:
        """Raise UserError if the rule cannot decide in such an environment."""
        if self.mixes and not isinstance(spec.actions, BoxActions):
            raise UserError(
                f"arbiter={self.kind} mixes actions of guide and explorer, but {spec.id} takes "
                "choices, which cannot be mixed; choose another arbiter"
            )


@dataclass
class TargetOptions(ArbiterOptions):
    """Of rules that have a target, see ``jsrl.core.arbitration.HasTarget``."""

    # Whether the rule says too with which action the learner's targets are made, if these take the
    # value of an action in the successor; else they stay the learner's own.
    bootstrap: bool = True

    neutral: ClassVar[tuple[tuple[str, Any], ...]] = (("bootstrap", False),)

    def with_target(self, *needs: str) -> frozenset[str]:
        """What a rule needs, and for its target too, if it is to have one."""
        return frozenset({*needs, NEXT_GUIDE} if self.bootstrap else needs)


class Rule(ABC):
    """A rule that remembers nothing; what it does remember is for its class to say.

    A class of its own needs ``decide`` alone, see ``jsrl.core.arbitration.Arbiter``, and for a
    target ``target`` too, see ``jsrl.core.arbitration.HasTarget``.
    """

    needs: frozenset[str] = frozenset()

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """Nothing is remembered."""
        return ArbiterState()

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """Nothing changes when episodes begin."""
        return state

    @abstractmethod
    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        """See ``jsrl.core.arbitration.Arbiter``."""


class MakeArbiter(Protocol):
    """Makes a rule of its options."""

    def __call__(self, options: Any) -> Arbiter: ...


arbiters: Registry[MakeArbiter] = Registry("arbiter", ArbiterOptions)
"""The kinds of ``arbiter=…``."""


def step_draws(moment: Decision, streams: Streams) -> Float[Tensor, "S E"]:
    """A uniform draw on [0, 1) for every row, whatever the rule needs it for in this step."""
    return streams.uniform(DRAWS, moment.times.shape[1:])


def critics_of(moment: Decision | Successors) -> Critics:
    """The critics, which are there where a rule has named them in its needs."""
    assert moment.critics is not None, "a rule that asks for values names them in its needs"
    return moment.critics


def linear(first: float, last: float, steps: int, step: int) -> float:
    """From the first value to the last over so many steps, and the last from there on."""
    return last if step >= steps else first + (last - first) * step / steps


def explorers_action(moment: Decision | Successors) -> Shaped[Tensor, "S E *A"]:
    """What the explorer would do, which is there where a rule has named it in its needs."""
    assert moment.explorer is not None, "a rule that asks for the explorer names it in its needs"
    return moment.explorer


def guides_action(moment: Decision | Successors) -> Shaped[Tensor, "S E *A"]:
    """What the guide would do, which is there where a rule has named it in its needs."""
    assert moment.guide is not None, "a rule that asks for the guide names it in its needs"
    return moment.guide


def advantage_of_explorer(
    moment: Decision | Successors, q: Callable[[Observation, Tensor], Tensor]
) -> Float[Tensor, "S E"]:
    """The least Q of the explorer's action less that of the guide's."""
    explorer, guide = (
        q(moment.observation, action).amin(1)
        for action in (explorers_action(moment), guides_action(moment))
    )
    return explorer - guide


def probability(key: str, value: float) -> None:
    """Raise UserError if ``value`` is no probability."""
    if not 0 <= value <= 1:
        raise UserError(f"{key}={value} must lie in [0, 1]")
