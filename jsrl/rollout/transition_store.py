"""Storage of the last transitions of any observation and any action, read as named tensors.

How they are packed is this file's own business: all numbers of a transition stand in one float32
row, so that storing it is one copy and a minibatch one gather; images stand apart, each once.

Shapes: S seeds, E environments of a seed, N transitions of a seed, B of a minibatch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from jsrl.core.batches import TransitionBatch
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import ActionSpec, BoxActions, ObservationSpec
from jsrl.rollout.image_store import ImageStore
from jsrl.rollout.segments import Segments

SCALARS = ("reward", "discount", "terminated", "truncated", "by_guide", "share", "stage")
"""The last columns of a row; ``discount`` is that of a single step."""


class TransitionStore:
    """The last N transitions of each seed, first in, first out.

    All seeds store equally many. What is sampled follows from the indices alone.

    Args:
        spec: of the observations.
        actions: of the actions.
        num_seeds: S.
        num_envs: E, which stay the same.
        capacity: N.
        discount: γ.
        n_step: n, of the returns; fewer steps where an episode ends or has not gone on yet.
        device: where minibatches are wanted; images are stored on the CPU in any case.
        directory: for memory-mapped images; None keeps them in memory.

    Raises:
        UserError: for values out of range, or a folder that cannot hold the images.
    """

    def __init__(
        self,
        spec: ObservationSpec,
        actions: ActionSpec,
        *,
        num_seeds: int,
        num_envs: int,
        capacity: int,
        discount: float,
        n_step: int = 1,
        device: torch.device,
        directory: Path | None = None,
    ) -> None:
        if n_step < 1:
            raise UserError(f"n_step={n_step} must be at least 1, the number of steps of a return")
        if capacity < 2 * num_envs:
            raise UserError(
                f"replay.capacity={capacity} is less than two transitions of each of the "
                f"{num_envs} environments; give at least {2 * num_envs}"
            )
        self.capacity = capacity
        self.n_step = n_step
        self.discount = discount
        self.device = device
        self._actions = actions
        size = actions.size if isinstance(actions, BoxActions) else 1
        self._next = spec.size + size
        self._scalars = self._next + spec.size
        width = self._scalars + len(SCALARS)
        self._rows = torch.zeros(num_seeds, capacity, width, device=device)
        # On the CPU NumPy writes into the tensor's memory: no copy through another tensor.
        self._view = self._rows.numpy() if device.type == "cpu" else None
        self._offsets = torch.arange(num_seeds, device=device).unsqueeze(1) * capacity
        self._vector_size = spec.size
        self._newest = np.zeros((num_seeds, num_envs, spec.size), np.float32)
        self._segments = Segments(num_seeds, num_envs, capacity)
        self._images = (
            ImageStore(spec.image_shapes, num_seeds, num_envs, capacity, directory)
            if spec.images
            else None
        )
        self._powers = torch.tensor([discount**k for k in range(n_step + 1)], device=device)

    def __len__(self) -> int:
        """Number of transitions held for each seed."""
        return min(self._segments.added, self.capacity)

    def add(
        self,
        *,
        observation: Observation,
        action: Shaped[Tensor, "S E *A"],
        reward: Shaped[np.ndarray, "S E"],
        next_observation: Observation,
        terminated: Bool[np.ndarray, "S E"],
        truncated: Bool[np.ndarray, "S E"],
        by_guide: Bool[np.ndarray, "S E"],
        share: Shaped[np.ndarray, "S E"],
        stage: Shaped[np.ndarray, "S E"],
    ) -> None:
        """Store one transition of every environment; the oldest go when the store is full.

        ``next_observation`` is the true successor, also where the episode ended.

        Raises:
            UserError: if a memory-mapped store runs out of room. Nothing is stored then.
        """
        vector = np.ascontiguousarray(observation.vector.cpu().numpy())
        follows = self._follow(vector)
        if self._images is not None:
            follows &= self._images.add(observation.images, next_observation.images)
        self._newest[:] = next_observation.vector.cpu().numpy()
        rows = np.empty((*reward.shape, self._rows.shape[-1]), np.float32)
        rows[..., : self._vector_size] = vector
        rows[..., self._vector_size : self._next] = action.cpu().numpy().reshape(*reward.shape, -1)
        rows[..., self._next : self._scalars] = self._newest
        discount = self.discount * ~terminated
        values = (reward, discount, terminated, truncated, by_guide, share, stage)
        for column, value in enumerate(values, self._scalars):
            rows[..., column] = value
        self._write(rows)
        self._segments.add(follows, terminated | truncated)

    def sample(self, indices: Int[Tensor, "S B"]) -> TransitionBatch:
        """The transitions at ``indices``, each counted from 0 within its own seed's storage."""
        rows = self._at(indices)
        if self.n_step == 1:
            last, ends = rows, indices
            reward, discount = self._scalar(rows, "reward"), self._scalar(rows, "discount")
        else:
            steps = self.left(indices).clamp(max=self.n_step - 1)
            ends = self.later(indices, steps)
            last = self._at(ends)
            reward = self._return(indices, steps)
            discount = self._powers[steps + 1] * (1 - self._scalar(last, "terminated"))
        images, successors = self._images_of(indices, ends)
        action = rows[..., self._vector_size : self._next]
        return TransitionBatch(
            observation=Observation(rows[..., : self._vector_size], images),
            action=action if isinstance(self._actions, BoxActions) else action[..., 0].long(),
            reward=reward,
            discount=discount,
            next_observation=Observation(last[..., self._next : self._scalars], successors),
            terminated=self._scalar(last, "terminated"),
            truncated=self._scalar(last, "truncated"),
            by_guide=self._scalar(rows, "by_guide"),
            share=self._scalar(rows, "share"),
            stage=self._scalar(rows, "stage"),
        )

    def left(self, indices: Int[Tensor, "S B"]) -> Int[Tensor, "S B"]:
        """How many more transitions of the same episode are held after those at ``indices``."""
        return self._segments.left(indices.cpu()).to(self.device)

    def later(self, indices: Int[Tensor, "S B"], steps: Int[Tensor, "S B"]) -> Int[Tensor, "S B"]:
        """The indices so many steps later in the same environments, at most ``left`` of them."""
        return self._segments.later(indices, steps)

    def successor_vectors(self, indices: Int[Tensor, "S B"]) -> Float[Tensor, "S B O"]:
        """The vectors of the true successors of single steps."""
        return self._at(indices)[..., self._next : self._scalars]

    def state_dict(self) -> dict[str, Any]:
        """All that is held, images too, in copies; a run goes on from it in mid-episode."""
        return {
            "rows": self._rows[:, : len(self)].cpu().clone(),
            "newest": torch.from_numpy(self._newest.copy()),
            "segments": self._segments.state_dict(),
            "images": None if self._images is None else self._images.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, from a store of the same sizes."""
        self._segments.load_state_dict(state["segments"])
        self._rows[:, : len(self)] = state["rows"].to(self.device)
        self._newest = state["newest"].numpy().copy()
        if self._images is not None:
            self._images.load_state_dict(state["images"])

    def _follow(self, vector: Float[np.ndarray, "S E O"]) -> Bool[np.ndarray, "S E"]:
        """Where a vector is the successor that the newest transition was stored with."""
        # Bits are compared, so that a number that is NaN equals itself; mostly all are the same.
        if vector.tobytes() == self._newest.tobytes():
            return np.full(vector.shape[:2], True)
        return (vector.view(np.int32) == self._newest.view(np.int32)).all(-1)

    def _write(self, rows: Float[np.ndarray, "S E width"]) -> None:
        start = self._segments.added % self.capacity
        first = min(rows.shape[1], self.capacity - start)
        for place, part in ((start, rows[:, :first]), (0, rows[:, first:])):
            if part.size == 0:
                continue
            if self._view is not None:
                self._view[:, place : place + part.shape[1]] = part
            else:
                staged = torch.from_numpy(np.ascontiguousarray(part)).pin_memory()
                self._rows[:, place : place + part.shape[1]].copy_(staged, non_blocking=True)

    def _at(self, indices: Int[Tensor, "S B"]) -> Float[Tensor, "S B width"]:
        flat = (indices + self._offsets).reshape(-1)
        return self._rows.flatten(0, 1).index_select(0, flat).unflatten(0, indices.shape)

    def _scalar(self, rows: Float[Tensor, "S B width"], name: str) -> Float[Tensor, "S B"]:
        return rows[..., self._scalars + SCALARS.index(name)]

    def _return(
        self, indices: Int[Tensor, "S B"], steps: Int[Tensor, "S B"]
    ) -> Float[Tensor, "S B"]:
        """Σ γ^k r_k from k = 0 to ``steps``, one term after the other."""
        rewards = self._rows.flatten(0, 1)[:, self._scalars + SCALARS.index("reward")]
        total = torch.zeros(indices.shape, device=self.device)
        for k in range(self.n_step):
            later = self.later(indices, steps.clamp(max=k)) + self._offsets
            total = torch.where(steps >= k, total + self._powers[k] * rewards[later], total)
        return total

    def _images_of(
        self, indices: Int[Tensor, "S B"], ends: Int[Tensor, "S B"]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if self._images is None:
            return {}, {}
        images, successors = self._images.at(indices), self._images.after(ends)
        return (
            {name: image.to(self.device) for name, image in images.items()},
            {name: image.to(self.device) for name, image in successors.items()},
        )
