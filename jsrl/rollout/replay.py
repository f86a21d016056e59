"""Minibatches, mixed from what was recorded and from what is being collected."""

import torch
from jaxtyping import Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.rollout.hindsight import Hindsight
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.packing import PackedTransitions, RowLayout, chosen, joined
from jsrl.rollout.transition_store import TransitionStore


class Replay:
    """Draws minibatches from an offline and an online store.

    Args:
        offline: the offline transitions, or None.
        online: those that are collected, or None before the online stage.
        batch_size: B.
        offline_fraction: share of each minibatch that is offline, or None for ``merged``: uniform
            over the union of both stores, as IQL's own fine-tuning samples.
        device: where the stores are.
        hindsight: gives transitions of the online store other goals; None leaves them as they are.
    """

    def __init__(
        self,
        offline: OfflineStore | None,
        online: TransitionStore | None,
        batch_size: int,
        offline_fraction: float | None,
        device: torch.device,
        hindsight: Hindsight | None = None,
    ) -> None:
        if offline_fraction is not None and not 0 <= offline_fraction <= 1:
            raise UserError(
                f"online.offline_fraction={offline_fraction} must lie in [0, 1] or be 'merged'"
            )
        self.offline = offline
        self.online = online
        self.batch_size = batch_size
        self.offline_fraction = offline_fraction
        self.device = device
        self._hindsight = hindsight

    def sample(self, streams: Streams) -> TransitionBatch:
        """A minibatch of every seed, ``[S, B]``."""
        return self._packed(streams).unpack(self._layout())

    def _layout(self) -> RowLayout:
        """Of the rows, which is the same in both stores once the guide has been asked."""
        if self.online is not None:
            return self.online.layout
        assert self.offline is not None
        return self.offline.layout

    def _packed(self, streams: Streams) -> PackedTransitions:
        offline, online = self.offline, self.online
        if online is None:
            assert offline is not None
            return offline.packed(self._indices(streams, "offline", len(offline), self.batch_size))
        if offline is None:
            return self._collected(
                streams, online, self._indices(streams, "online", len(online), self.batch_size)
            )
        if self.offline_fraction is None:
            return self._merged(streams, offline, online)
        from_offline = round(self.offline_fraction * self.batch_size)
        mixed = []
        if from_offline < self.batch_size:
            count = self.batch_size - from_offline
            indices = self._indices(streams, "online", len(online), count)
            mixed.append(self._collected(streams, online, indices))
        if from_offline > 0:
            mixed.append(
                offline.packed(self._indices(streams, "offline", len(offline), from_offline))
            )
        return joined(mixed)

    def _merged(
        self, streams: Streams, offline: OfflineStore, online: TransitionStore
    ) -> PackedTransitions:
        indices = self._indices(streams, "merged", len(offline) + len(online), self.batch_size)
        is_online = indices >= len(offline)
        return chosen(
            is_online,
            self._collected(streams, online, (indices - len(offline)).clamp(min=0)),
            offline.packed(indices.clamp(max=len(offline) - 1)),
        )

    def _collected(
        self, streams: Streams, online: TransitionStore, indices: Int[Tensor, "S B"]
    ) -> PackedTransitions:
        """Transitions that were collected, some of them under other goals."""
        if self._hindsight is None:
            return online.packed(indices)
        draws = self._hindsight.draws(streams, indices.shape[1])
        return self._hindsight.packed(indices, draws)

    def _indices(self, streams: Streams, name: str, high: int, count: int) -> Int[Tensor, "S B"]:
        draws = streams.integers(f"minibatch_{name}", high, (count,))
        return draws if self.device.type == "cpu" else draws.to(self.device, non_blocking=True)
