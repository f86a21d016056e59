"""Transitions as rows of numbers: how the stores keep them, and named tensors made of them.

All numbers of a transition stand in one float32 row, so that storing it is one copy and a minibatch
one gather. A choice is one number of a row, exact up to 2²⁴ choices. Images stand apart.

Shapes: S seeds, B transitions of a minibatch, A numbers of an action.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.specs import ActionSpec, BoxActions, ObservationSpec
from jsrl.core.transitions import TransitionBatch

SCALARS = ("reward", "discount", "terminated", "truncated", "by_guide", "share", "stage")
"""The columns behind the vectors."""

RETURN_TO_GO = "return_to_go"
"""A further column, for learners that ask for it."""

MEMBER = "member"
"""A further column, where the guide is one of several."""

NO_MEMBER = -1
"""Where none of several guides acted."""

Images = Mapping[str, UInt8[Tensor, "S B C H W"]]


@dataclass(frozen=True)
class RowLayout:
    """Where each field of a transition stands in a row.

    The vector of the observation and the action stand side by side, so that a critic reads both
    without a copy.

    Args:
        vector_size: O.
        action_size: A; 1 for a choice.
        chooses: whether actions are choices.
        returns_to_go: whether there is a column for the return-to-go.
        members: whether there is a column for which of several guides acted.
        next_guide: whether there are columns for what the guide would do in the successor, the last
            ones.
    """

    vector_size: int
    action_size: int
    chooses: bool
    returns_to_go: bool = False
    members: bool = False
    next_guide: bool = False

    @classmethod
    def of(
        cls,
        observation: ObservationSpec,
        actions: ActionSpec,
        *,
        returns_to_go: bool = False,
        members: bool = False,
        next_guide: bool = False,
    ) -> "RowLayout":
        """The layout for an environment."""
        chooses = not isinstance(actions, BoxActions)
        size = 1 if chooses else actions.size
        return cls(observation.size, size, chooses, returns_to_go, members, next_guide)

    @property
    def vector(self) -> slice:
        return slice(0, self.vector_size)

    @property
    def action(self) -> slice:
        return slice(self.vector_size, self.vector_size + self.action_size)

    @property
    def next_vector(self) -> slice:
        start = self.vector_size + self.action_size
        return slice(start, start + self.vector_size)

    @property
    def scalars(self) -> int:
        """The first column behind the vectors."""
        return 2 * self.vector_size + self.action_size

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The columns behind the vectors, in their order."""
        asked_for = ((RETURN_TO_GO, self.returns_to_go), (MEMBER, self.members))
        return (*SCALARS, *(name for name, asked in asked_for if asked))

    @property
    def next_guide_action(self) -> slice:
        """What the guide would do in the successor; empty without ``next_guide``."""
        start = self.scalars + len(self.scalar_names)
        return slice(start, start + self.next_guide * self.action_size)

    @property
    def width(self) -> int:
        return self.next_guide_action.stop

    def column(self, name: str) -> int:
        """The column of one of ``scalar_names``."""
        return self.scalars + self.scalar_names.index(name)


@dataclass(frozen=True)
class PackedTransitions:
    """A minibatch as it was gathered: rows, and the images before and after."""

    rows: Float[Tensor, "S B width"]
    images: Images
    next_images: Images

    def unpack(self, layout: RowLayout) -> TransitionBatch:
        """The minibatch as named tensors, which are views of the rows."""
        rows = self.rows
        action, next_guide = rows[..., layout.action], rows[..., layout.next_guide_action]
        if layout.chooses:
            action = action[..., 0].long()
            next_guide = next_guide[..., 0].long() if layout.next_guide else next_guide
        columns = rows[..., layout.scalars : layout.next_guide_action.start]
        scalars = dict(zip(layout.scalar_names, columns.unbind(-1), strict=True))
        return TransitionBatch(
            observation=Observation(rows[..., layout.vector], self.images),
            action=action,
            next_observation=Observation(rows[..., layout.next_vector], self.next_images),
            **scalars,
            side_by_side=None if layout.chooses else rows[..., : layout.action.stop],
            next_guide=next_guide if layout.next_guide else None,
        )


def joined(packed: Sequence[PackedTransitions]) -> PackedTransitions:
    """Minibatches one behind the other, along B."""
    if len(packed) == 1:
        return packed[0]
    return PackedTransitions(
        torch.cat([each.rows for each in packed], 1),
        _joined_images([each.images for each in packed]),
        _joined_images([each.next_images for each in packed]),
    )


def chosen(
    mask: Bool[Tensor, "S B"], where: PackedTransitions, elsewhere: PackedTransitions
) -> PackedTransitions:
    """Each transition from the one or the other minibatch."""

    def pick(one: Images, other: Images) -> Images:
        wide = mask[..., None, None, None]
        return {name: torch.where(wide, image, other[name]) for name, image in one.items()}

    return PackedTransitions(
        torch.where(mask.unsqueeze(-1), where.rows, elsewhere.rows),
        pick(where.images, elsewhere.images),
        pick(where.next_images, elsewhere.next_images),
    )


def _joined_images(images: Sequence[Images]) -> Images:
    return {name: torch.cat([each[name] for each in images], 1) for name in images[0]}
