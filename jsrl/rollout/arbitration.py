"""A rule of who acts at work in the environments of a stepper: its memory, and what it decided.

Shapes: S seeds, E environments of a seed, N = S·E.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.arbitration import (
    DATA,
    ArbiterInForce,
    ArbiterState,
    Beginning,
    Decision,
    TrustsData,
    checked_share,
)
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
        self.state = self.rule.begin(beginning, self.state, streams)

    def decide(self, moment: Decision, streams: Streams) -> Float[Tensor, "S E"]:
        """The explorer's share in every row, on the CPU; 1 where an environment does not count.

        Raises:
            UserError: if the rule answers anything but shares.
        """
        share, self.state = self.rule.decide(moment, self.state, streams)
        chooses = moment.explorer is not None and not moment.explorer.is_floating_point()
        shape = tuple(moment.times.shape)
        if isinstance(share, Tensor) and share.shape == shape:
            share = torch.where(moment.counts, share.float().cpu(), 1.0)
        return checked_share(share, shape, self.rule, "decide", chooses=chooses)

    def took_part(self, guided: Bool[NDArray[np.bool_], " N"]) -> None:
        """The guide took part in a step where ``guided``."""
        self.guided += guided

    def left_out(self) -> None:
        """The guide acts alone in a step, whatever the rule would say."""
        self.unasked += 1

    def state_dict(self) -> dict[str, Any]:
        """Memory and counts: tensors and plain values."""
        counts = {"step": self.step, "guided": torch.from_numpy(self.guided.copy())}
        counts["unasked"] = torch.from_numpy(self.unasked.copy())
        return self.state.state_dict() | counts

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, also in the middle of episodes."""
        self.state = ArbiterState.restored(state)
        self.step = state["step"]
        self.guided = state["guided"].numpy().copy()
        # Checkpoints of earlier versions do not say where the rule was not asked.
        unasked = state.get("unasked")
        self.unasked = np.zeros_like(self.guided) if unasked is None else unasked.numpy().copy()
