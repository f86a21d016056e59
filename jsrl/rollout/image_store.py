"""The images of the last transitions, each stored once.

The successor of a transition is the image of the next one in the same environment. Where the next
one shows something else, as after an episode's end, the true successor is kept apart.

Shapes: S seeds, E environments of a seed, N transitions of a seed, B of a minibatch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from jsrl.rollout.file_memory import byte_array

FOLLOWS = -1
"""Where the successor of a transition is the image of the next one."""


class ImageStore:
    """A ring of N transitions a seed, of which the k-th since the beginning stands at ``k % N``.

    Args:
        shapes: channels, height and width by name.
        num_seeds: S.
        num_envs: E.
        capacity: N, at least 2 * E.
        directory: for memory-mapped files; None for memory.

    Raises:
        UserError: if the folder cannot hold the images.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int, int]],
        num_seeds: int,
        num_envs: int,
        capacity: int,
        directory: Path | None = None,
    ) -> None:
        self.num_envs = num_envs
        self.capacity = capacity
        self.added = 0
        self._directory = directory
        self._frames = {
            name: byte_array((num_seeds, capacity, *shape), directory)
            for name, shape in shapes.items()
        }
        # The first S * E hold the successors of the newest transitions, whose next ones are not
        # known yet.
        self._newest = np.arange(num_seeds * num_envs).reshape(num_seeds, num_envs)
        self._apart = {
            name: byte_array((num_seeds * num_envs, *shape), directory)
            for name, shape in shapes.items()
        }
        self._free: list[int] = []
        self._successor = np.full((num_seeds, capacity), FOLLOWS, np.int64)

    def __len__(self) -> int:
        """Number of transitions held for each seed."""
        return min(self.added, self.capacity)

    def add(
        self,
        images: Mapping[str, UInt8[Tensor, "S E C H W"]],
        successors: Mapping[str, UInt8[Tensor, "S E C H W"]],
    ) -> Bool[np.ndarray, "S E"]:
        """Store one transition of every environment.

        Returns:
            Where each of its images is the successor of the transition before.

        Raises:
            UserError: if there is no room for successors kept apart. Nothing is stored then.
        """
        new = {name: image.cpu().numpy() for name, image in images.items()}
        follows = self._follow(new)
        if self.added:
            self._make_room(int((~follows).sum()))
            self._settle(follows)
        slots = np.arange(self.added, self.added + self.num_envs) % self.capacity
        kept = self._successor[:, slots]
        self._free.extend(kept[kept >= self._newest.size].tolist())
        self._successor[:, slots] = self._newest
        for name, image in new.items():
            self._frames[name][:, slots] = image
            after = successors[name].cpu().numpy()
            self._apart[name][: self._newest.size] = after.reshape(-1, *after.shape[2:])
        self.added += self.num_envs
        return follows

    def at(self, slots: Int[Tensor, "S B"]) -> dict[str, UInt8[Tensor, "S B C H W"]]:
        """The images of the transitions at ``slots``."""
        flat = self._flat(slots)
        return {
            # Much faster than indexing by a tensor in brackets, which goes number by number.
            name: torch.from_numpy(frames)
            .flatten(0, 1)
            .index_select(0, flat)
            .unflatten(0, slots.shape)
            for name, frames in self._frames.items()
        }

    def after(self, slots: Int[Tensor, "S B"]) -> dict[str, UInt8[Tensor, "S B C H W"]]:
        """The successors of the transitions at ``slots``."""
        found = self.at((slots + self.num_envs) % self.capacity)
        kept = torch.from_numpy(self._successor).flatten().index_select(0, self._flat(slots))
        apart = (kept != FOLLOWS).nonzero().flatten()
        if len(apart):
            for name, images in found.items():
                successors = torch.from_numpy(self._apart[name]).index_select(0, kept[apart])
                images.flatten(0, 1).index_copy_(0, apart, successors)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Every image that is held, memory-mapped or not: a mapped file moves on with the run."""
        held = len(self)
        return {
            "added": self.added,
            "frames": {n: torch.from_numpy(f[:, :held].copy()) for n, f in self._frames.items()},
            "apart": {n: torch.from_numpy(a.copy()) for n, a in self._apart.items()},
            "free": list(self._free),
            "successor": torch.from_numpy(self._successor[:, :held].copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken.

        Raises:
            UserError: if there is no room.
        """
        apart = {}
        for name, images in state["apart"].items():
            apart[name] = byte_array(tuple(images.shape), self._directory)
            apart[name][:] = images.numpy()
        self._apart = apart
        self.added = state["added"]
        held = len(self)
        for name, frames in state["frames"].items():
            self._frames[name][:, :held] = frames.numpy()
        self._free = list(state["free"])
        self._successor[:, :held] = state["successor"].numpy()

    def _follow(self, images: Mapping[str, np.ndarray[Any, Any]]) -> Bool[np.ndarray, "S E"]:
        """Where all images are the successors that the newest transitions were stored with."""
        follows = np.full(self._newest.shape, self.added > 0)
        for name, image in images.items():
            held = self._apart[name][: self._newest.size].reshape(image.shape)
            follows &= (held == image).all((2, 3, 4))
        return follows

    def _make_room(self, count: int) -> None:
        """Have at least ``count`` free places for successors kept apart."""
        if count <= len(self._free):
            return
        grown = {}
        for name, old in self._apart.items():
            more = max(16, count, len(old) // 2)
            grown[name] = byte_array((len(old) + more, *old.shape[1:]), self._directory)
            grown[name][: len(old)] = old
            places = range(len(old), len(old) + more)
        self._apart = grown
        self._free.extend(places)

    def _settle(self, follows: Bool[np.ndarray, "S E"]) -> None:
        """The newest transitions are about to have next ones: where their successors stand."""
        slots = np.arange(self.added - self.num_envs, self.added) % self.capacity
        self._successor[:, slots] = FOLLOWS
        for seed, env in np.argwhere(~follows):
            place = self._free.pop()
            for apart in self._apart.values():
                apart[place] = apart[self._newest[seed, env]]
            self._successor[seed, slots[env]] = place

    def _flat(self, slots: Int[Tensor, "S B"]) -> Int[Tensor, " SB"]:
        """Where the slots are if the seeds stand one after the other."""
        offsets = torch.arange(len(slots)).unsqueeze(1) * self.capacity
        return (slots.cpu() + offsets).reshape(-1)
