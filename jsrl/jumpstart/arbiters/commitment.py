"""Commitment to a decision for several steps, which every rule may have."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jsrl.core.arbitration import (
    DATA,
    GUIDE_V,
    LOG_PROB,
    NEXT_GUIDE,
    OBSERVED_SHARE,
    Arbiter,
    ArbiterState,
    Beginning,
    Decision,
    HasTarget,
    SaysShareBefore,
    Successors,
    TrustsData,
    Watches,
)
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import arbiters

SHARE = "committed share"


class Committed:
    """A rule whose decision stands for k steps: it is taken anew where t is a multiple of k.

    The rule is asked at every step, since the episodes of other environments stand elsewhere, but
    what it says and remembers counts only in rows where a decision is due. So its draws do not
    depend on where the episodes stand. What a rule takes note of at every step, as a person's key,
    counts in any case.

    Args:
        rule: which decides.
        steps: k, at least 1.
    """

    def __init__(self, rule: Arbiter, steps: int) -> None:
        self.rule = rule
        self.steps = steps
        self.needs = rule.needs
        self._watched = rule.watched if isinstance(rule, Watches) else frozenset[str]()

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """The rule's own memory, and the share that stands in each row."""
        return _with_share(self.rule.fresh(num_seeds, num_envs), torch.ones(num_seeds, num_envs))

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """An episode begins with a decision of its own: nothing of the one before stands."""
        return _with_share(
            self.rule.begin(beginning, _without_share(state), streams), state.episodes[SHARE]
        )

    def trust(self, episodes: Sequence[Float[Tensor, "_ O"]], state: ArbiterState) -> ArbiterState:
        """What the rule itself remembers of the dataset, if its needs name that."""
        assert isinstance(self.rule, TrustsData), "its needs name no data otherwise"
        return _with_share(self.rule.trust(episodes, _without_share(state)), state.episodes[SHARE])

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        own = _without_share(state)
        share, after = self.rule.decide(moment, own, streams)
        due = moment.times % self.steps == 0
        share = torch.where(due, share.cpu(), state.episodes[SHARE])
        kept = {
            name: new if name in self._watched else _where(due, new, own.episodes[name])
            for name, new in after.episodes.items()
        }
        return share, _with_share(ArbiterState(after.seeds, kept), share)

    def share_to_come(
        self, times: Int[Tensor, "S E"], step: int, state: ArbiterState
    ) -> Float[Tensor, "S E"]:
        """The share that stands, or what the rule itself says where a decision is due."""
        assert isinstance(self.rule, SaysShareBefore), "its needs name no such share otherwise"
        share = self.rule.share_to_come(times, step, _without_share(state))
        return torch.where(times % self.steps == 0, share.cpu(), state.episodes[SHARE])

    def target(self, moment: Successors) -> Float[Tensor, "S B"]:
        """What the rule itself says: a minibatch does not hold which decision stands."""
        assert isinstance(self.rule, HasTarget), "its needs name no target otherwise"
        return self.rule.target(moment)


def _where(due: Bool[Tensor, "S E"], new: Tensor, old: Tensor) -> Tensor:
    return torch.where(due.view(*due.shape, *[1] * (new.dim() - 2)), new, old)


def build_arbiter(options: Any) -> Arbiter:
    """The rule of its options, committed for as many steps as they say.

    Raises:
        UserError: if one of the user's own is none, or has no target where it names one.
    """
    rule: Arbiter = arbiters.build(options)
    if NEXT_GUIDE in rule.needs and not isinstance(rule, HasTarget):
        raise UserError(
            f"arbiter={options.kind}: {type(rule).__name__} has {NEXT_GUIDE!r} in its needs, and "
            "no method target(self, moment), which says with which action targets are made; write "
            "one, or leave it out of the needs"
        )
    if DATA in rule.needs and not isinstance(rule, TrustsData):
        raise UserError(
            f"arbiter={options.kind}: {type(rule).__name__} has {DATA!r} in its needs, and no "
            "method trust(self, episodes, state), which is shown the dataset's episodes; write "
            "one, or leave it out of the needs"
        )
    if OBSERVED_SHARE in rule.needs and not isinstance(rule, SaysShareBefore):
        raise UserError(
            f"arbiter={options.kind}: {type(rule).__name__} has {OBSERVED_SHARE!r} in its needs, "
            "and no method share_to_come(self, times, step, state), which says the share that is "
            "observed; write one, or leave it out of the needs"
        )
    if OBSERVED_SHARE in rule.needs and rule.needs & {LOG_PROB, GUIDE_V}:
        raise UserError(
            f"arbiter={options.kind}: {type(rule).__name__} has {OBSERVED_SHARE!r} in its needs "
            f"beside {LOG_PROB!r} or {GUIDE_V!r}, of a guide that does not observe the share; "
            "leave one of them out"
        )
    return rule if options.commitment == 1 else Committed(rule, options.commitment)


def _with_share(state: ArbiterState, share: Tensor) -> ArbiterState:
    return ArbiterState(state.seeds, {**state.episodes, SHARE: share})


def _without_share(state: ArbiterState) -> ArbiterState:
    own = {name: tensor for name, tensor in state.episodes.items() if name != SHARE}
    return ArbiterState(state.seeds, own)
