"""A rule of who acts at work in the environments of a stepper: its memory, its checks, the mixing.

Shapes: S seeds, E environments of a seed, N = S·E, A action size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.arbitration import (
    DATA,
    ArbiterInForce,
    ArbiterState,
    Beginning,
    Decision,
    TrustsData,
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
        self.guided[beginning.mask.numpy().reshape(-1)] = 0
        self.state = self.rule.begin(beginning, self.state, streams)

    def decide(self, moment: Decision, streams: Streams) -> Float[Tensor, "S E"]:
        """The explorer's share in every row, on the CPU; 1 where an environment does not count.

        Raises:
            UserError: if the rule answers anything but shares.
        """
        share, self.state = self.rule.decide(moment, self.state, streams)
        name = f"the arbiter {type(self.rule).__name__}"
        if not isinstance(share, Tensor) or share.shape != moment.times.shape:
            found = tuple(share.shape) if isinstance(share, Tensor) else type(share).__name__
            raise UserError(
                f"{name} decided {found}; decide must return a tensor of shape "
                f"{tuple(moment.times.shape)}, the explorer's share in every environment, and the "
                "state"
            )
        share = torch.where(moment.counts, share.float().cpu().nan_to_num(nan=1.0), 1.0)
        if share.min() < 0 or share.max() > 1:
            raise UserError(
                f"{name} decided shares from {float(share.min()):.4g} to {float(share.max()):.4g}; "
                "the explorer's share must lie in [0, 1]"
            )
        if moment.explorer is not None and not moment.explorer.is_floating_point():
            self._refuse_mixed_choices(share, name)
        return share

    def took_part(self, guided: Bool[NDArray[np.bool_], " N"]) -> None:
        """The guide took part in a step where ``guided``."""
        self.guided += guided

    def state_dict(self) -> dict[str, Any]:
        """Memory and counts: tensors and plain values."""
        counts = {"step": self.step, "guided": torch.from_numpy(self.guided.copy())}
        return self.state.state_dict() | counts

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, also in the middle of episodes."""
        self.state = ArbiterState.restored(state)
        self.step = state["step"]
        self.guided = state["guided"].numpy().copy()

    def _refuse_mixed_choices(self, share: Float[Tensor, "S E"], name: str) -> None:
        between = (share > 0) & (share < 1)
        if between.any():
            raise UserError(
                f"{name} decided a share of {float(share[between][0]):.4g}, but choices cannot be "
                "mixed: let it decide 0 or 1, or use an environment with a Box of actions"
            )


def mixed(
    explorer: Shaped[Tensor, "S E *A"],
    guide: Shaped[Tensor, "S E *A"] | None,
    share: Float[Tensor, "S E"],
) -> Shaped[Tensor, "S E *A"]:
    """share·explorer + (1 - share)·guide; whoever acts alone, bit by bit as it said."""
    if guide is None:
        return explorer
    weight = share.to(explorer.device)
    if explorer.dim() > weight.dim():
        weight = weight.unsqueeze(-1)
    alone = torch.where(weight == 0, guide.to(explorer.device), explorer)
    if not explorer.is_floating_point() or not ((share > 0) & (share < 1)).any():
        return alone
    between = (weight * explorer + (1 - weight) * guide).clamp(-1, 1)
    return torch.where((weight > 0) & (weight < 1), between, alone)
