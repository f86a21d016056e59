"""Who acts: what a rule is asked, what it may remember, and what it has to offer.

A rule looks at the episodes of S seeds with E environments each, and says at every step for which
share the exploration-policy acts: 0, the guide alone; 1, the explorer alone; between, an action
that is mixed of both. The learners' bootstrap stays their own: no rule chooses the action of a
target, since minibatches do not hold what a guide would do in their successors.

Shapes: S seeds, E environments of a seed, K critics, A action size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams

GUIDE, EXPLORER = "guide", "explorer"
Q, ENSEMBLE, V = "q", "ensemble", "v"
LOG_PROB, GUIDE_V, TAKEOVER, DATA = "log_prob", "guide_v", "takeover", "data"
NEEDS = (GUIDE, EXPLORER, Q, ENSEMBLE, V, LOG_PROB, GUIDE_V, TAKEOVER, DATA)
"""What a rule may need: the action of guide or explorer in every row, values of actions, those of
several critics, values of states; how probable the guide finds its own actions, and how good the
states; whether the guide asks to act; the episodes of the dataset."""


@dataclass(frozen=True)
class ArbiterState:
    """What a rule remembers: tensors by name, which a checkpoint keeps as they are.

    Args:
        seeds: over all episodes of a seed, ``[S, …]``; evaluations begin with them.
        episodes: of the episode under way in each environment, ``[S, E, …]``.
    """

    seeds: Mapping[str, Tensor] = field(default_factory=dict)
    episodes: Mapping[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Copies, since a rule may go on in the same memory."""
        parts = (("seeds", self.seeds), ("episodes", self.episodes))
        return {name: {n: t.clone() for n, t in part.items()} for name, part in parts}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "ArbiterState":
        """From ``state_dict``."""
        return cls(dict(state["seeds"]), dict(state["episodes"]))


@dataclass(frozen=True)
class Beginning:
    """Episodes that begin, and how those before them ended.

    Args:
        mask: where episodes begin.
        guide_steps: h of the curriculum for them.
        finished: where a training episode has ended of which a rule may learn; nowhere in
            evaluations.
        returns: of these.
        successes: of these; NaN where success is not known.
        lengths: of these, in steps.
    """

    mask: Bool[Tensor, "S E"]
    guide_steps: Int[Tensor, "S E"]
    finished: Bool[Tensor, "S E"]
    returns: Float[Tensor, "S E"]
    successes: Float[Tensor, "S E"]
    lengths: Int[Tensor, "S E"]


class Critics(Protocol):
    """What a learner's critics say, as far as the rule needs it."""

    def q(
        self, observation: Observation, action: Shaped[Tensor, "S E *A"]
    ) -> Float[Tensor, "S K E"]:
        """Q(s, a) of each critic; K is 1 where the learner has one."""
        ...

    def target_q(
        self, observation: Observation, action: Shaped[Tensor, "S E *A"]
    ) -> Float[Tensor, "S K E"]:
        """Q(s, a) of each target critic; of the critics where there are no targets."""
        ...

    def v(self, observation: Observation) -> Float[Tensor, "S E"]:
        """V(s); the least Q of what the policy would do where the learner has no V."""
        ...


class GuideValues(Protocol):
    """What a guide that learns no more says of itself, as far as the rule needs it."""

    def log_prob_and_entropy(
        self, observation: Observation, action: Shaped[Tensor, "S E *A"]
    ) -> tuple[Float[Tensor, "S E"], Float[Tensor, "S E"]]:
        """log π(a|s) of actions as the guide gives them, and the entropy of π(·|s), in nats."""
        ...

    def v(self, observation: Observation) -> Float[Tensor, "S E"]:
        """V(s) of the learner that the guide comes from, in the units of its own rewards."""
        ...


@dataclass(frozen=True)
class Signals:
    """By what a guide that asks to act is to do so: names of keys, or of a gamepad's buttons.

    Args:
        take_over: with which it asks to act; None for none beside ``by_action``.
        give_back: with which it asks the explorer to act again.
        by_action: whether it also asks to act by whatever stands for an action.
    """

    take_over: str | None = "space"
    give_back: str = "return"
    by_action: bool = True


@dataclass(frozen=True)
class Decision:
    """One step in which it is to be decided who acts.

    Args:
        observation: what is seen, ``[S, E]``, where the policies are.
        times: steps since each episode began.
        guide_steps: h of each episode, as the curriculum has it.
        counts: False where an environment only keeps others company.
        step: training steps of each seed before this one.
        explores: whether the explorer samples; False in evaluations.
        guide: what the guide would do, if the rule needs it.
        explorer: what the explorer would do, if the rule needs it.
        critics: of the learner, if the rule needs values.
        guide_values: what the guide says of itself, if the rule needs that.
        takeover: 1 where the guide asks to act from now on, -1 where it gives back, and else 0, if
            the rule needs to know; None in evaluations, where it is not asked.
    """

    observation: Observation
    times: Int[Tensor, "S E"]
    guide_steps: Int[Tensor, "S E"]
    counts: Bool[Tensor, "S E"]
    step: int
    explores: bool
    guide: Shaped[Tensor, "S E *A"] | None = None
    explorer: Shaped[Tensor, "S E *A"] | None = None
    critics: Critics | None = None
    guide_values: GuideValues | None = None
    takeover: Int[Tensor, "S E"] | None = None


@runtime_checkable
class Arbiter(Protocol):
    """A rule that settles who acts. It keeps nothing itself: what it remembers is its state."""

    needs: frozenset[str]
    """Of ``NEEDS``. A rule that needs an action has it asked for in every row, a guide with memory
    too; without, who does not act is not asked."""

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """What it remembers before the first episode."""
        ...

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """What it remembers once episodes have begun; ``streams`` of S seeds, to draw from."""
        ...

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        """The explorer's share in every row, from 0 to 1, and what it remembers from then on.

        What it says of a row must depend on its seed's rows alone. Where it says NaN, as critics of
        a seed that failed make it, the explorer acts.
        """
        ...


@runtime_checkable
class DecidesByClock(Protocol):
    """A rule that looks at the clock and at h alone: it costs nothing but the comparison."""

    def guide_acts(
        self, times: Int[NDArray[np.int64], " N"], guide_steps: Int[NDArray[np.int64], " N"]
    ) -> Bool[NDArray[np.bool_], " N"]:
        """Where the guide acts."""
        ...


@runtime_checkable
class Watches(Protocol):
    """A rule that takes note of every step, also while a decision stands for several."""

    watched: frozenset[str]
    """Which part of its memory of episodes moves on at every step."""


@runtime_checkable
class TrustsData(Protocol):
    """A rule that begins with what the dataset shows, if it names ``DATA`` in its needs."""

    def trust(self, episodes: Sequence[Float[Tensor, "_ O"]], state: ArbiterState) -> ArbiterState:
        """What it remembers of every seed, once it has seen the vectors of these episodes.

        Raises:
            UserError: if they are too few.
        """
        ...


@dataclass(frozen=True)
class ArbiterInForce:
    """A rule with what it has learnt so far, to go by in an evaluation or in training.

    Args:
        rule: the rule.
        critics: of the learner, where the rule needs values.
        seeds: what the rule remembers of each seed; None where it has not begun.
        step: training steps of each seed so far.
        guide_values: what the guide says of itself, where the rule needs that.
    """

    rule: Arbiter
    critics: Critics | None = None
    seeds: Mapping[str, Tensor] | None = None
    step: int = 0
    guide_values: GuideValues | None = None

    @property
    def is_clock(self) -> bool:
        """Whether the guide acts in the first h steps at most."""
        return isinstance(self.rule, DecidesByClock)
