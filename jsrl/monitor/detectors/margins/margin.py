"""What all kinds of margins share: what they are computed from, and their registry.

A kind is a function in a file of this folder, registered there::

    @register_margin("largest")
    def largest(columns: Columns) -> Float[Tensor, "B D"]: ...

``monitor.margins`` names those that are compared.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.registry import nearest

STANDARD = ("mean", "spread", "change", "relation")
"""The kinds that are compared where nothing else is said; see ``standard``."""


@dataclass(frozen=True)
class Columns:
    """N steps of B episodes, those of an episode in their order.

    Args:
        z: every column less its mean, in units of its standard deviation, float64.
        blocks: the episode of each step.
        count: B.
    """

    z: Float[Tensor, "N D"]
    blocks: Int[Tensor, " N"]
    count: int

    def steps_of_episodes(self) -> Float[Tensor, " B"]:
        """How many steps each episode has."""
        return torch.bincount(self.blocks, minlength=self.count).double()

    def mean(self, values: Float[Tensor, "N D"]) -> Float[Tensor, "B D"]:
        """The mean over the steps of each episode; see ``filled``."""
        counts = self.steps_of_episodes()
        sums = torch.zeros(self.count, values.shape[1], dtype=values.dtype)
        sums = sums.index_add_(0, self.blocks, values)
        return filled(sums / counts.clamp_min(1)[:, None], counts)


MarginKind = Callable[[Columns], Float[Tensor, "B D"]]
"""Gives a number for every column in every episode; see ``filled`` for those without steps."""

_KINDS: dict[str, MarginKind] = {}


def register_margin(name: str) -> Callable[[MarginKind], MarginKind]:
    """Decorate a function as the kind ``name``, which must not be taken."""
    if name in _KINDS:
        raise ValueError(f"monitor.margins has {name} twice")

    def decorate(kind: MarginKind) -> MarginKind:
        _KINDS[name] = kind
        return kind

    return decorate


def margin_names() -> tuple[str, ...]:
    """All kinds that there are."""
    return tuple(_KINDS)


def require_margins(names: Collection[str]) -> None:
    """Raise UserError for the first name that is no kind, or that comes twice."""
    for name in names:
        if name not in _KINDS:
            raise UserError(
                f"monitor.margins={list(names)} has {name!r}, which is unknown"
                f"{nearest(name, _KINDS)}; choose among {', '.join(_KINDS)}"
            )
    if len(set(names)) < len(names):
        raise UserError(f"monitor.margins={list(names)} names a kind twice; name each once")


def margins_of_episodes(
    observations: Float[Tensor, "N D"],
    blocks: Int[Tensor, " N"],
    count: int,
    kinds: Sequence[str] = STANDARD,
) -> dict[str, Float[Tensor, "D B"]]:
    """The margins of every column in each of B episodes.

    Args:
        observations: N steps, those of an episode in their order.
        blocks: the episode of each step.
        count: the number of episodes, B.
        kinds: the names of the margins.

    Returns:
        For each kind its values. An episode without a step, or for ``change`` without two steps,
        gets the mean of the others.
    """
    values = observations.double()
    several = len(values) > 1 and values.numel() > 0
    spread = values.std(0) if several else torch.zeros_like(values[0])
    z = (values - values.mean(0)) / torch.where(spread > 0, spread, 1.0)
    columns = Columns(z, blocks, count)
    return {name: _KINDS[name](columns).T for name in kinds}


def filled(values: Float[Tensor, "B D"], counts: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
    """The values, with the mean of the others where an episode has no step."""
    there = counts[:, None] > 0
    average = (values * there).sum(0) / there.sum().clamp_min(1)
    return torch.where(there, values, average)
