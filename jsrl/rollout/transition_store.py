"""Storage of the last transitions of any observation and any action.

Numbers are kept as ``packing`` has them, images apart, each once.

Shapes: S seeds, E environments of a seed, N transitions of a seed, B of a minibatch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.returns import UNKNOWN, ReturnsToGo
from jsrl.core.specs import ActionSpec, ObservationSpec
from jsrl.core.transitions import Moment, TransitionBatch
from jsrl.envs.make import Step
from jsrl.rollout.image_store import ImageStore
from jsrl.rollout.packing import NO_MEMBER, RETURN_TO_GO, PackedTransitions, RowLayout
from jsrl.rollout.segments import Segments


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
        returns_to_go: how returns to the end of an episode are worked out, once it has ended; None
            leaves them out.
        members: whether to keep which of several guides acted.
        next_guide: whether to keep what the guide would do in the successors.

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
        returns_to_go: ReturnsToGo | None = None,
        members: bool = False,
        next_guide: bool = False,
    ) -> None:
        if n_step < 1:
            raise UserError(f"n_step={n_step} must be at least 1, the number of steps of a return")
        if capacity < 2 * num_envs:
            raise UserError(
                f"online.buffer_size={capacity} is less than two transitions of each of the "
                f"{num_envs} environments; give at least {2 * num_envs}"
            )
        self.capacity = capacity
        self.n_step = n_step
        self.discount = discount
        self.device = device
        self.layout = RowLayout.of(
            spec,
            actions,
            returns_to_go=returns_to_go is not None,
            members=members,
            next_guide=next_guide,
        )
        self._returns_to_go = returns_to_go
        self._rows = torch.zeros(num_seeds, capacity, self.layout.width, device=device)
        # On the CPU NumPy writes into the tensor's memory: no copy through another tensor.
        self._view = self._rows.numpy() if device.type == "cpu" else None
        self._offsets = torch.arange(num_seeds, device=device).unsqueeze(1) * capacity
        # The rows of one step, all of which are written before they are stored, and where.
        self._step = np.zeros((num_seeds, num_envs, self.layout.width), np.float32)
        flat = self._step.reshape(num_seeds * num_envs, -1)
        layout = self.layout
        self._vector, self._action, self._next_vector, self._next_guide = (
            flat[:, columns]
            for columns in (
                *(layout.vector, layout.action, layout.next_vector),
                layout.next_guide_action,
            )
        )
        self._scalars = [flat[:, layout.column(name)] for name in layout.scalar_names]
        # The successors with which the newest transitions were stored.
        self._newest = Observation(torch.zeros(num_seeds * num_envs, spec.size))
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

    def add(self, moment: Moment, step: Step) -> None:
        """Store one transition of every environment; the oldest go when the store is full.

        Args:
            moment: what was seen and done in S·E environments, those of seed 0 first.
            step: what came of it; its observation is the true successor, also where an episode
                ended.

        Raises:
            UserError: if a memory-mapped store runs out of room. Nothing is stored then.
        """
        shape, layout = self._step.shape[:2], self.layout
        follows = self._follow(moment.observation)
        if self._images is not None:
            before, after = moment.observation.arranged(*shape), step.observation.arranged(*shape)
            seen = self._images.add(before.images, after.images)
            follows = seen if follows is None else follows & seen
        self._newest = step.observation
        self._vector[...] = moment.observation.vector.numpy()
        self._action[...] = moment.actions.reshape(self._action.shape)
        self._next_vector[...] = step.observation.vector.numpy()
        ended = step.terminated | step.truncated
        some_ended = bool(ended.any())
        discount = self.discount * ~step.terminated if some_ended else self.discount
        values = (
            *(step.rewards, discount, step.terminated, step.truncated),
            moment.by_guide,
            ~moment.by_guide if moment.share is None else moment.share,
            moment.stages,
            *(() if self._returns_to_go is None else (UNKNOWN,)),
            *self._members(moment),
        )
        for column, value in zip(self._scalars, values, strict=True):
            column[...] = value
        if layout.next_guide:
            assert moment.next_guide is not None, "a store of the guide's actions is given them"
            self._next_guide[...] = moment.next_guide.reshape(self._next_guide.shape)
        self._write(self._step)
        over = self._segments.add(follows, ended.reshape(shape) if some_ended else None)
        if self._returns_to_go is not None:
            for seed, slots in over:
                self._write_returns(self._returns_to_go, seed, torch.from_numpy(slots))

    def sample(self, indices: Int[Tensor, "S B"]) -> TransitionBatch:
        """The transitions at ``indices``, each counted from 0 within its own seed's storage."""
        return self.packed(indices).unpack(self.layout)

    def packed(self, indices: Int[Tensor, "S B"]) -> PackedTransitions:
        """The same as rows, n-step returns worked out."""
        rows, ends = self._at(indices), indices
        if self.n_step > 1:
            steps = self.left(indices).clamp(max=self.n_step - 1)
            ends = self.later(indices, steps)
            rows = self._over_steps(indices, rows, self._at(ends), steps)
        if self._images is None:
            return PackedTransitions(rows, {}, {})
        images, after = self._images.at(indices), self._images.after(ends)
        return PackedTransitions(
            rows,
            {name: image.to(self.device) for name, image in images.items()},
            {name: image.to(self.device) for name, image in after.items()},
        )

    def latest_actions(self, count: int) -> Float[np.ndarray, "S N A"]:
        """The actions of the last ``count`` transitions of each seed, or fewer, the oldest first.

        A choice is one number.
        """
        count = min(count, len(self))
        added = self._segments.added
        slots = torch.arange(added - count, added, device=self.device) % self.capacity
        return self._rows[:, slots, self.layout.action].cpu().numpy()

    def left(self, indices: Int[Tensor, "S B"]) -> Int[Tensor, "S B"]:
        """How many more transitions of the same episode are held after those at ``indices``."""
        return self._segments.left(indices.cpu()).to(self.device)

    def later(self, indices: Int[Tensor, "S B"], steps: Int[Tensor, "S B"]) -> Int[Tensor, "S B"]:
        """The indices so many steps later in the same environments, at most ``left`` of them."""
        return self._segments.later(indices, steps)

    def successor_vectors(self, indices: Int[Tensor, "S B"]) -> Float[Tensor, "S B O"]:
        """The vectors of the true successors of single steps."""
        return self._at(indices)[..., self.layout.next_vector]

    def state_dict(self) -> dict[str, Any]:
        """All that is held, images too, in copies; a run goes on from it in mid-episode."""
        return {
            "rows": self._rows[:, : len(self)].cpu().clone(),
            "newest": self._newest.vector.reshape(*self._step.shape[:2], -1).clone(),
            "segments": self._segments.state_dict(),
            "images": None if self._images is None else self._images.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, from a store of the same sizes.

        Raises:
            UserError: for the state of an earlier version, or if there is no room for images.
        """
        if "segments" not in state:
            if state.get("added") == 0:
                return
            raise UserError(
                "the checkpoint keeps its transitions as a version of jsrl before this one did, "
                "so that the run cannot go on; it can be evaluated, exported and used as a guide, "
                "and training it anew needs another run_dir"
            )
        self._segments.load_state_dict(state["segments"])
        self._rows[:, : len(self)] = state["rows"].to(self.device)
        self._newest = Observation(state["newest"].flatten(0, 1).clone())
        if self._images is not None:
            self._images.load_state_dict(state["images"])

    def _members(self, moment: Moment) -> tuple[Any, ...]:
        """Which of several guides acted, for the last column, if there is one."""
        if not self.layout.members:
            return ()
        return (NO_MEMBER if moment.members is None else moment.members,)

    def _follow(self, observation: Observation) -> Bool[np.ndarray, "S E"] | None:
        """Where a vector is the successor that the newest transition was stored with.

        None stands for everywhere.
        """
        # Mostly it is the very same.
        if observation is self._newest:
            return None
        # Bits are compared, so that a number that is NaN equals itself.
        own, newest = (o.vector.numpy().view(np.int32) for o in (observation, self._newest))
        same: Bool[np.ndarray, " N"] = (own == newest).all(-1)
        return same.reshape(self._step.shape[:2])

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

    def _write_returns(self, rule: ReturnsToGo, seed: int, slots: Int[Tensor, " n"]) -> None:
        """Work out the returns-to-go of an episode that has just ended."""
        places = slots.to(self.device)
        rewards, terminated = (
            self._rows[seed, places, self.layout.column(name)].cpu().numpy()
            for name in ("reward", "terminated")
        )
        found = torch.from_numpy(rule.of_episode(rewards, terminated=bool(terminated[-1])))
        self._rows[seed, places, self.layout.column(RETURN_TO_GO)] = found.to(self.device)

    def _at(self, indices: Int[Tensor, "S B"]) -> Float[Tensor, "S B width"]:
        flat = (indices + self._offsets).reshape(-1)
        return self._rows.flatten(0, 1).index_select(0, flat).unflatten(0, indices.shape)

    def _over_steps(
        self,
        indices: Int[Tensor, "S B"],
        first: Float[Tensor, "S B width"],
        last: Float[Tensor, "S B width"],
        steps: Int[Tensor, "S B"],
    ) -> Float[Tensor, "S B width"]:
        """One row for each stretch of ``steps`` + 1 transitions, from its first and its last."""
        layout, rows = self.layout, first.clone()
        for columns in (layout.next_vector, layout.next_guide_action):
            rows[..., columns] = last[..., columns]
        for name in ("terminated", "truncated"):
            rows[..., layout.column(name)] = last[..., layout.column(name)]
        rows[..., layout.column("reward")] = self._return(indices, steps)
        goes_on = 1 - last[..., layout.column("terminated")]
        rows[..., layout.column("discount")] = self._powers[steps + 1] * goes_on
        return rows

    def _return(
        self, indices: Int[Tensor, "S B"], steps: Int[Tensor, "S B"]
    ) -> Float[Tensor, "S B"]:
        """Σ γ^k r_k from k = 0 to ``steps``, one term after the other."""
        rewards = self._rows.flatten(0, 1)[:, self.layout.column("reward")]
        total = torch.zeros(indices.shape, device=self.device)
        for k in range(self.n_step):
            later = self.later(indices, steps.clamp(max=k)) + self._offsets
            total = torch.where(steps >= k, total + self._powers[k] * rewards[later], total)
        return total
