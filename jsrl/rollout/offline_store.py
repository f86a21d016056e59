"""Offline transitions, which are the same for all seeds: stored once, and gathered by index."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from jsrl.core.returns import ReturnsToGo
from jsrl.core.specs import ActionSpec, ObservationSpec
from jsrl.core.transitions import TransitionData
from jsrl.rollout.packing import MEMBER, NO_MEMBER, RETURN_TO_GO, PackedTransitions, RowLayout

OFFLINE_STAGE = -1


class OfflineStore:
    """N transitions of a dataset.

    N-step returns are worked out once, over the transitions that follow one another: to the end of
    an episode at most. Nobody's guide acted in them: the stage is -1, ``by_guide`` 0.

    Args:
        data: the transitions, in the order in which they were recorded.
        spec: of the observations.
        actions: of the actions.
        discount: γ.
        n_step: n, of the returns.
        device: where minibatches are wanted; images are stored on the CPU in any case.
        action_clip: clip actions to ± this, as some presets of IQL do with offline data.
        returns_to_go: how returns to the end of an episode are worked out; None leaves them out.
        members: whether the online transitions beside these say which of several guides acted.
    """

    def __init__(
        self,
        data: TransitionData,
        spec: ObservationSpec,
        actions: ActionSpec,
        *,
        discount: float,
        n_step: int = 1,
        device: torch.device,
        action_clip: float | None = None,
        returns_to_go: ReturnsToGo | None = None,
        members: bool = False,
    ) -> None:
        self.layout = RowLayout.of(
            spec, actions, returns_to_go=returns_to_go is not None, members=members
        )
        last, rewards, steps = n_step_returns(data, discount, n_step)
        rows = np.zeros((len(data), self.layout.width), np.float32)
        rows[:, self.layout.vector] = data.observations
        given = data.actions
        if action_clip is not None and not self.layout.chooses:
            given = given.clip(-action_clip, action_clip)
        rows[:, self.layout.action] = given.reshape(len(data), -1)
        rows[:, self.layout.next_vector] = data.next_observations[last]
        rows[:, self.layout.column("reward")] = rewards
        goes_on = ~data.terminals[last]
        rows[:, self.layout.column("discount")] = discount**steps * goes_on
        rows[:, self.layout.column("terminated")] = data.terminals[last]
        rows[:, self.layout.column("truncated")] = data.timeouts[last]
        rows[:, self.layout.column("stage")] = OFFLINE_STAGE
        if returns_to_go is not None:
            rows[:, self.layout.column(RETURN_TO_GO)] = _to_the_end(data, returns_to_go)
        if members:
            rows[:, self.layout.column(MEMBER)] = NO_MEMBER
        self._last = torch.from_numpy(last)
        self._next_guide: Float[Tensor, "S N A"] | None = None
        self._device = device
        self._rows = torch.from_numpy(rows).to(device)
        self._frames: dict[str, Tensor] = {}
        if data.frames is not None:
            self._frames = {n: torch.from_numpy(i) for n, i in data.frames.images.items()}
            self._at = torch.from_numpy(data.frames.at)
            self._after = torch.from_numpy(data.frames.after[last])

    def __len__(self) -> int:
        return len(self._rows)

    def keep_guide_actions(self, actions: Shaped[Tensor, "S N *A"]) -> None:
        """Hold what the guide of each seed would do in the successor of each transition."""
        found = actions[:, self._last].float()
        self._next_guide = found.reshape(*found.shape[:2], self.layout.action_size).to(self._device)
        self.layout = replace(self.layout, next_guide=True)

    def packed(self, indices: Int[Tensor, "S B"]) -> PackedTransitions:
        """The transitions at ``indices`` (on this store's device)."""
        rows = self._rows.index_select(0, indices.reshape(-1)).unflatten(0, indices.shape)
        if self._next_guide is not None:
            wide = indices.unsqueeze(-1).expand(-1, -1, self.layout.action_size)
            rows = torch.cat([rows, self._next_guide.gather(1, wide)], -1)
        if not self._frames:
            return PackedTransitions(rows, {}, {})
        flat = indices.cpu().reshape(-1)
        before, after = self._at[flat], self._after[flat]
        return PackedTransitions(
            rows, self._images(before, indices.shape), self._images(after, indices.shape)
        )

    def _images(self, frames: Int[Tensor, " SB"], shape: torch.Size) -> dict[str, Tensor]:
        return {
            name: images.index_select(0, frames).unflatten(0, shape).to(self._device)
            for name, images in self._frames.items()
        }


def n_step_returns(
    data: TransitionData, discount: float, n_step: int
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Of the stretch of at most n transitions that begins at each one.

    Returns:
        The index of the stretch's last transition, Σ γ^k r_k over it, and its length.
    """
    count = len(data)
    ends, places = _episode_ends(data), np.arange(count)
    last = np.minimum(places + n_step - 1, ends[np.searchsorted(ends, places)])
    total = np.zeros(count, np.float64)
    for k in range(min(n_step, count)):
        within = places + k <= last
        total[within] += discount**k * data.rewards[places[within] + k]
    return last, total.astype(np.float32), last - places + 1


def _episode_ends(data: TransitionData) -> Int[np.ndarray, " K"]:
    """The last transition of each episode; that of the data may be cut off without a flag."""
    return np.union1d(np.flatnonzero(data.terminals | data.timeouts), [len(data) - 1])


def _to_the_end(data: TransitionData, rule: ReturnsToGo) -> Float[np.ndarray, " N"]:
    """The return-to-go of every transition."""
    found, start = np.empty(len(data), np.float32), 0
    for end in _episode_ends(data) + 1:
        rewards, terminated = data.rewards[start:end], bool(data.terminals[end - 1])
        found[start:end] = rule.of_episode(rewards, terminated=terminated)
        start = end
    return found
