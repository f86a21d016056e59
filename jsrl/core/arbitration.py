"""Who acts: what a rule is asked, what it may remember, and what it has to offer.

A rule looks at the episodes of S seeds with E environments each, and says at every step for which
share the exploration-policy acts: 0, the guide alone; 1, the explorer alone; between, an action
that is mixed of both. A rule may have a target too: then it says the same of the successors of a
minibatch, and learners bootstrap with that action. Without one their bootstrap stays their own.

Shapes: S seeds, E environments of a seed, B transitions of a minibatch, K critics, A action size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams

GUIDE, EXPLORER = "guide", "explorer"
Q, ENSEMBLE, V = "q", "ensemble", "v"
LOG_PROB, GUIDE_V, TAKEOVER, DATA = "log_prob", "guide_v", "takeover", "data"
NEXT_GUIDE, OBSERVED_SHARE = "next_guide", "observed_share"
NEEDS = (
    *(GUIDE, EXPLORER, Q, ENSEMBLE, V, LOG_PROB, GUIDE_V, TAKEOVER, DATA, NEXT_GUIDE),
    OBSERVED_SHARE,
)
"""What a rule may need: the action of guide or explorer in every row, values of actions, those of
several critics, values of states; how probable the guide finds its own actions, and how good the
states; whether the guide asks to act; the episodes of the dataset; for its target, what the guide
would do in the successor of every transition, which is asked for and stored then; and that explorer
and critics observe the explorer's share, which it says before they are asked."""


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
        observation: what the explorer sees, ``[S, E]``, where the policies are.
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

        What it says of a row must depend on its seed's rows alone. Where it says NaN the explorer
        acts.
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
class Successors:
    """The successors of a minibatch, of which it is to be decided with what targets are made.

    Args:
        observation: what the explorer sees in them, ``[S, B]``.
        guide: what the guide would do there; 0 where the task has ended, which counts nothing.
        explorer: the action that the learner's own target would take.
        critics: of the learner.
        draws: uniform on [0, 1), whatever the rule needs them for.
    """

    observation: Observation
    guide: Shaped[Tensor, "S B *A"]
    explorer: Shaped[Tensor, "S B *A"]
    critics: Critics
    draws: Float[Tensor, "S B"]


@runtime_checkable
class HasTarget(Protocol):
    """A rule that has a target, if it names ``NEXT_GUIDE`` in its needs too."""

    needs: frozenset[str]

    def target(self, moment: Successors) -> Float[Tensor, "S B"]:
        """The explorer's share, from 0 to 1, in the action whose value a target takes.

        It is a part of the learner's update: it remembers nothing, draws nothing, stays on the
        device, and what it says of a seed depends on that seed alone. With NaN the learner takes
        the explorer's action.
        """
        ...


@runtime_checkable
class SaysShareBefore(Protocol):
    """A rule whose share is observed, if it names ``OBSERVED_SHARE`` in its needs.

    What explorer and critics observe has the share in its last column then, see
    ``jsrl.core.observed_share``, and so has what the rule is asked.
    """

    def share_to_come(
        self, times: Int[Tensor, "S E"], step: int, state: ArbiterState
    ) -> Float[Tensor, "S E"]:
        """The share in the step to come, which ``decide`` is to answer there.

        Args:
            times: steps since each episode began; it may have just ended, and then the answer is
                what the share would have been.
            step: training steps of each seed before this one.
            state: what the rule remembers.
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


def observes_share(rule: Arbiter) -> bool:
    """Whether the explorer observes its share under this rule."""
    return OBSERVED_SHARE in rule.needs


def checked_share(
    share: Any, shape: tuple[int, ...], rule: Arbiter | HasTarget, method: str, *, chooses: bool
) -> Float[Tensor, "S E"]:
    """What a rule answered, where that is shares; 1 in place of NaN.

    Args:
        share: the answer.
        shape: what its shape must be.
        rule: which has answered.
        method: its name, for messages.
        chooses: whether actions are choices, which cannot be mixed.

    Raises:
        UserError: if it is anything else. On a GPU the numbers are not looked at, since that would
            wait for the device, and neither are they while an update is compiled.
    """
    name = f"the arbiter {type(rule).__name__}"
    if not isinstance(share, Tensor) or share.shape != shape:
        found = tuple(share.shape) if isinstance(share, Tensor) else type(share).__name__
        raise UserError(
            f"{name} decided {found}; {method} must return a tensor of shape {shape}, the "
            "explorer's share in every row"
        )
    share = share.float().nan_to_num(nan=1.0)
    if share.device.type != "cpu" or torch.compiler.is_compiling():
        return share
    if share.min() < 0 or share.max() > 1:
        raise UserError(
            f"{name} decided shares from {float(share.min()):.4g} to {float(share.max()):.4g} in "
            f"{method}; the explorer's share must lie in [0, 1]"
        )
    between = (share > 0) & (share < 1)
    if chooses and between.any():
        raise UserError(
            f"{name} decided a share of {float(share[between][0]):.4g} in {method}, but choices "
            "cannot be mixed: let it decide 0 or 1, or use an environment with a Box of actions"
        )
    return share


def mixed(
    explorer: Shaped[Tensor, "S E *A"],
    guide: Shaped[Tensor, "S E *A"],
    share: Float[Tensor, "S E"],
) -> Shaped[Tensor, "S E *A"]:
    """share·explorer + (1 - share)·guide; whoever acts alone, bit by bit as it said."""
    weight, guide = share.to(explorer.device), guide.to(explorer.device)
    if explorer.dim() > weight.dim():
        weight = weight.unsqueeze(-1)
    alone = torch.where(weight == 0, guide, explorer)
    if not explorer.is_floating_point():
        return alone
    between = (weight * explorer + (1 - weight) * guide).clamp(-1, 1)
    return torch.where((weight > 0) & (weight < 1), between, alone)
