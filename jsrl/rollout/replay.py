"""Storage of transitions and the mixing of offline and online minibatches.

A transition is one packed float32 row (see ``core.transitions.TransitionLayout``), so that storing
it is one copy and a minibatch one gather, on the CPU as on a GPU.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.core.transitions import Batch, TransitionData, TransitionLayout

OFFLINE_STAGE = -1


def pack(
    data: TransitionData, layout: TransitionLayout, action_clip: float | None = None
) -> Float[np.ndarray, "N width"]:
    """Offline transitions as rows. Nobody's guide acted in them: stage -1, ``by_guide`` 0.

    Args:
        data: N transitions.
        layout: of the rows.
        action_clip: clip actions to ± this, as some IQL presets do with offline data.
    """
    rows = np.zeros((len(data), layout.width), dtype=np.float32)
    rows[:, : layout.observation_size] = data.observations
    actions = data.actions
    if action_clip is not None:
        actions = actions.clip(-action_clip, action_clip)
    rows[:, layout.action] = actions
    rows[:, layout.next_observation] = data.next_observations
    rows[:, layout.reward] = data.rewards
    rows[:, layout.terminated] = data.terminals
    rows[:, layout.truncated] = data.timeouts
    rows[:, layout.stage] = OFFLINE_STAGE
    return rows


class OfflineBuffer:
    """A fixed set of N transitions, stored once and shared by all seeds."""

    def __init__(self, rows: Float[np.ndarray, "N width"], device: torch.device) -> None:
        self._rows = torch.from_numpy(rows).to(device)

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self, indices: Int[Tensor, "S B"]) -> Float[Tensor, "S B width"]:
        """The transitions at ``indices`` (on this buffer's device)."""
        return self._rows.index_select(0, indices.reshape(-1)).unflatten(0, indices.shape)


class OnlineBuffer:
    """The last ``capacity`` transitions of each seed, first in, first out.

    All seeds store equally many, so one position serves them all.
    """

    def __init__(
        self, num_seeds: int, capacity: int, layout: TransitionLayout, device: torch.device
    ) -> None:
        self.capacity = capacity
        self.added = 0
        self._rows = torch.zeros(num_seeds, capacity, layout.width, device=device)
        self._offsets = torch.arange(num_seeds, device=device).unsqueeze(1) * capacity
        # On the CPU NumPy writes into the tensor's memory: no copy through another tensor.
        self._view = self._rows.numpy() if device.type == "cpu" else None

    def __len__(self) -> int:
        """Number of transitions held for each seed."""
        return min(self.added, self.capacity)

    def add(self, rows: Float[np.ndarray, "S E width"]) -> None:
        """Store one transition of every environment; the oldest go when the buffer is full."""
        count = rows.shape[1]
        start = self.added % self.capacity
        first = min(count, self.capacity - start)
        self._write(start, rows[:, :first])
        if first < count:
            self._write(0, rows[:, first:])
        self.added += count

    def sample(self, indices: Int[Tensor, "S B"]) -> Float[Tensor, "S B width"]:
        """The transitions at ``indices``, each counted from 0 within its own seed's storage."""
        flat = (indices + self._offsets).reshape(-1)
        return self._rows.flatten(0, 1).index_select(0, flat).unflatten(0, indices.shape)

    def latest(self, count: int) -> Float[Tensor, "S N width"]:
        """The last ``count`` transitions of each seed, or fewer, the oldest first, on the CPU."""
        count = min(count, len(self))
        end = torch.arange(self.added - count, self.added) % self.capacity
        return self._rows[:, end.to(self._rows.device)].cpu()

    def state_dict(self) -> dict[str, Any]:
        return {"added": self.added, "rows": self._rows[:, : len(self)].cpu().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.added = state["added"]
        self._rows[:, : len(self)] = state["rows"].to(self._rows.device)

    def _write(self, start: int, rows: Float[np.ndarray, "S N width"]) -> None:
        if self._view is not None:
            self._view[:, start : start + rows.shape[1]] = rows
            return
        staged = torch.from_numpy(np.ascontiguousarray(rows)).pin_memory()
        self._rows[:, start : start + rows.shape[1]].copy_(staged, non_blocking=True)


class Replay:
    """Draws minibatches from an offline and an online buffer.

    Args:
        layout: of the rows.
        offline: the offline transitions, or None.
        online: the online buffer, or None before the online stage.
        batch_size: B.
        offline_fraction: share of each minibatch that is offline, or None for ``merged``: uniform
            over the union of both buffers, as IQL's own fine-tuning samples.
        device: where the buffers are.
    """

    def __init__(
        self,
        layout: TransitionLayout,
        offline: OfflineBuffer | None,
        online: OnlineBuffer | None,
        batch_size: int,
        offline_fraction: float | None,
        device: torch.device,
    ) -> None:
        if offline_fraction is not None and not 0 <= offline_fraction <= 1:
            raise UserError(
                f"online.offline_fraction={offline_fraction} must lie in [0, 1] or be 'merged'"
            )
        self.layout = layout
        self.offline = offline
        self.online = online
        self.batch_size = batch_size
        self.offline_fraction = offline_fraction
        self.device = device

    def sample(self, streams: Streams) -> Batch:
        """A minibatch of every seed, float32 ``[S, B, width]``."""
        return Batch(self._rows(streams), self.layout)

    def _rows(self, streams: Streams) -> Float[Tensor, "S B width"]:
        offline, online = self.offline, self.online
        if online is None:
            assert offline is not None
            return offline.sample(self._indices(streams, "offline", len(offline), self.batch_size))
        if offline is None:
            return online.sample(self._indices(streams, "online", len(online), self.batch_size))
        if self.offline_fraction is None:
            return self._merged(streams, offline, online)
        from_offline = round(self.offline_fraction * self.batch_size)
        parts = []
        if from_offline < self.batch_size:
            count = self.batch_size - from_offline
            parts.append(online.sample(self._indices(streams, "online", len(online), count)))
        if from_offline > 0:
            parts.append(
                offline.sample(self._indices(streams, "offline", len(offline), from_offline))
            )
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _merged(
        self, streams: Streams, offline: OfflineBuffer, online: OnlineBuffer
    ) -> Float[Tensor, "S B width"]:
        indices = self._indices(streams, "merged", len(offline) + len(online), self.batch_size)
        is_online = indices >= len(offline)
        rows_online = online.sample((indices - len(offline)).clamp(min=0))
        rows_offline = offline.sample(indices.clamp(max=len(offline) - 1))
        return torch.where(is_online.unsqueeze(-1), rows_online, rows_offline)

    def _indices(self, streams: Streams, name: str, high: int, count: int) -> Int[Tensor, "S B"]:
        draws = streams.integers(f"minibatch_{name}", high, (count,))
        return draws if self.device.type == "cpu" else draws.to(self.device, non_blocking=True)
