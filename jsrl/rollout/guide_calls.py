"""Every call that a guide gets from the environments in which it acts.

Shapes: S seeds, E environments of a seed, N = S·E, those of seed 0 first, A action size.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.protocols import (
    BeginsEpisodes,
    Guide,
    HasMembers,
    HearsOfEnds,
    TakesOver,
    WatchesFrames,
)
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments
from jsrl.rollout.foresight import Foresight


class GuideCalls:
    """What a guide is told and asked in N environments.

    Args:
        environments: N of them, which are rendered for a guide that looks at pictures.
        shape: S and E.
    """

    def __init__(self, environments: Environments, shape: tuple[int, int]) -> None:
        self.members: NDArray[np.int64] | None = None
        """Which of several guides acts in each environment; None where there is one."""
        self.foresight: Foresight | None = None
        """What the guide would do in what is observed now; None where it is not asked before."""
        self._environments = environments
        self._shape = shape
        self._watcher: WatchesFrames | None = None

    def begin(
        self,
        guide: Guide,
        mask: Bool[NDArray[np.bool_], " N"],
        episodes: Int[NDArray[np.int64], " N"],
        seeds: list[int],
    ) -> None:
        """Tell it that episodes begin where ``mask``, with these seeds of their resets."""
        where = torch.from_numpy(mask).view(*self._shape)
        if isinstance(guide, BeginsEpisodes):
            numbers, own = episodes.reshape(self._shape), np.array(seeds, np.int64)
            guide.begin(where, numbers, own.reshape(self._shape))
        else:
            guide.reset(where)

    def meet(self, guide: Guide | None) -> None:
        """Note what it needs and says in the episodes under way.

        It is asked here, since most guides neither are several nor look at pictures: then the steps
        themselves cost nothing.
        """
        self.members = guide.acting().reshape(-1) if isinstance(guide, HasMembers) else None
        watches = isinstance(guide, WatchesFrames) and guide.needs_frames
        self._watcher = guide if watches and isinstance(guide, WatchesFrames) else None

    def ended(
        self,
        guide: HearsOfEnds,
        mask: Bool[NDArray[np.bool_], " N"],
        returns: Float[NDArray[np.float64], " N"],
        successes: Float[NDArray[Any], " N"],
    ) -> None:
        """Tell it how the episodes have ended that it acted in."""
        ended = torch.from_numpy(mask).view(*self._shape)
        guide.ended(ended, returns.reshape(self._shape), successes.reshape(self._shape))

    def act(
        self,
        guide: Guide,
        seen: Observation,
        streams: Streams,
        mask: Bool[Tensor, "S E"],
        *,
        shown: bool = False,
    ) -> Shaped[Tensor, "S E *A"]:
        """What it does where ``mask``; it is not asked again where its answer was foreseen.

        Args:
            guide: is asked, once it has been shown where things stand, if it looks.
            seen: what the environments observe.
            streams: its draws come from them.
            mask: where it is asked.
            shown: whether it has been shown already.
        """
        if self.foresight is None:
            return self._ask(guide, seen, streams, mask, shown=shown)
        return self.foresight.complete(mask, lambda rows: self._ask(guide, seen, streams, rows))

    def look_ahead(
        self,
        foresight: Foresight,
        guide: Guide,
        seen: Observation,
        streams: Streams,
        mask: Bool[Tensor, "S E"],
        goes_on: Bool[Tensor, "S E"],
    ) -> Shaped[NDArray[Any], "N *A"]:
        """What it would do in what the step has led to, where ``mask``.

        With ``goes_on`` the episode does, so that the next step goes by the same answer.
        """
        found = foresight.look(mask, goes_on, lambda rows: self._ask(guide, seen, streams, rows))
        actions: NDArray[Any] = found.cpu().numpy().reshape(mask.numel(), *found.shape[2:])
        return actions

    def takeover(self, guide: Guide, acting: Bool[Tensor, "S E"]) -> Int[Tensor, "S E"]:
        """Whether it asks to act or gives back, once it has seen where things stand."""
        assert isinstance(guide, TakesOver), "a run with another guide has been refused"
        self._show()
        return guide.takeover(acting)

    def _ask(
        self,
        guide: Guide,
        seen: Observation,
        streams: Streams,
        mask: Bool[Tensor, "S E"],
        *,
        shown: bool = False,
    ) -> Shaped[Tensor, "S E *A"]:
        if not shown:
            self._show()
        return guide.act(seen, streams, mask)

    def _show(self) -> None:
        if self._watcher is not None:
            self._watcher.show(self._environments.render())
