"""A rule of who acts at work in the environments of a stepper: its memory, and what it decided.

Shapes: S seeds, E environments of a seed, N = S·E.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.arbitration import (
    DATA,
    TAKEOVER,
    ArbiterInForce,
    ArbiterState,
    Beginning,
    Decision,
    SaysShareBefore,
    TrustsData,
    checked_share,
    observes_share,
)
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams


class Arbitration:
    """What a rule remembers of the episodes under way, and who took part in them.

    Args:
        arbiter: the rule, its critics, and what it has learnt so far.
        shape: S and E.
        learns: whether the rule hears how episodes ended, and its step moves on.
    """

    def __init__(self, arbiter: ArbiterInForce, shape: tuple[int, int], *, learns: bool) -> None:
        self.rule = arbiter.rule
        self.critics = arbiter.critics
        self.guide_values = arbiter.guide_values
        self.step = arbiter.step
        self.learns = learns
        fresh = self.rule.fresh(*shape)
        seeds = fresh.seeds if arbiter.seeds is None else arbiter.seeds
        self.state = ArbiterState(seeds, fresh.episodes)
        self.guided = np.zeros(shape[0] * shape[1], np.int64)
        """In how many steps of each episode under way the guide took part."""
        self.unasked = np.zeros(shape[0] * shape[1], np.int64)
        """In how many of them the rule was not asked, since the guide acted alone."""
        self.acting = np.zeros(shape[0] * shape[1], bool)
        """Where the guide took part in the step before, of the episodes under way."""
        self._is_observed = observes_share(self.rule)

    def in_force(self) -> ArbiterInForce:
        """The rule with what it has learnt so far, for an evaluation."""
        return ArbiterInForce(
            self.rule, self.critics, self.state.seeds, self.step, self.guide_values
        )

    def trust(self, episodes: Sequence[Float[Tensor, "_ O"]]) -> None:
        """Show the rule the dataset's episodes, if it begins with them."""
        if DATA in self.rule.needs:
            assert isinstance(self.rule, TrustsData), "a rule that needs data has a method for it"
            self.state = self.rule.trust(episodes, self.state)

    def begin(self, beginning: Beginning, streams: Streams) -> None:
        """Episodes begin."""
        for count in (self.guided, self.unasked):
            count[beginning.mask.numpy().reshape(-1)] = 0
        self.acting = self.acting & ~beginning.mask.numpy().reshape(-1)
        self.state = self.rule.begin(beginning, self.state, streams)

    def decide(self, moment: Decision, streams: Streams) -> Float[Tensor, "S E"]:
        """The explorer's share in every row, on the CPU; 1 where an environment does not count.

        Raises:
            UserError: if the rule answers anything but shares, or another one than was observed.
        """
        observed = self.share_to_come(moment.times, moment.counts) if self._is_observed else None
        answer, self.state = self.rule.decide(moment, self.state, streams)
        chooses = moment.explorer is not None and not moment.explorer.is_floating_point()
        share = self._checked(answer, moment.counts, "decide", chooses=chooses)
        if observed is not None and not torch.equal(share, observed):
            raise UserError(
                f"the arbiter {type(self.rule).__name__} decided another share than its "
                "share_to_come had said, which the explorer has observed; let decide answer with "
                "that one, and remember the next"
            )
        return share

    def share_to_come(
        self, times: Int[Tensor, "S E"], counts: Bool[Tensor, "S E"]
    ) -> Float[Tensor, "S E"]:
        """The share in the step to come, of a rule that says it before.

        Args:
            times: steps since each episode began.
            counts: False where an environment only keeps others company.

        Raises:
            UserError: if the rule answers anything but shares.
        """
        assert isinstance(self.rule, SaysShareBefore), "a rule without has been refused"
        share = self.rule.share_to_come(times, self.step, self.state)
        return self._checked(share, counts, "share_to_come", chooses=False)

    def _checked(
        self, share: Any, counts: Bool[Tensor, "S E"], method: str, *, chooses: bool
    ) -> Float[Tensor, "S E"]:
        """What a rule answered, if it is shares; 1 where an environment does not count."""
        shape = tuple(counts.shape)
        if isinstance(share, Tensor) and share.shape == shape:
            share = torch.where(counts, share.float().cpu(), 1.0)
        return checked_share(share, shape, self.rule, method, chooses=chooses)

    def took_part(self, guided: Bool[NDArray[np.bool_], " N"]) -> None:
        """The guide took part in a step where ``guided``."""
        self.guided += guided
        self.acting = guided

    def left_out(self) -> None:
        """The guide acts alone in a step, whatever the rule would say."""
        self.unasked += 1

    def state_dict(self) -> dict[str, Any]:
        """Memory and counts: tensors and plain values."""
        counts = {"step": self.step, "guided": torch.from_numpy(self.guided.copy())}
        counts["unasked"] = torch.from_numpy(self.unasked.copy())
        if TAKEOVER in self.rule.needs:
            counts["acting"] = torch.from_numpy(self.acting.copy())
        return self.state.state_dict() | counts

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, also in the middle of episodes."""
        self.state = ArbiterState.restored(state)
        self.step = state["step"]
        self.guided = state["guided"].numpy().copy()
        # Checkpoints of earlier versions do not say where the rule was not asked.
        unasked = state.get("unasked")
        self.unasked = np.zeros_like(self.guided) if unasked is None else unasked.numpy().copy()
        if "acting" in state:
            self.acting = state["acting"].numpy().copy()
