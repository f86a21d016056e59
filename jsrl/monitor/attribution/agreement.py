"""How far what a network looks at agrees with what a person declares relevant.

Shared Interest (Boggust et al. 2022, arXiv 2107.09234, section 3) compares a set of salient inputs
with a set that a person marks. Here they are columns of an observation. Shapes: N rows, O columns,
G groups of columns.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError

SALIENT_MASS = 0.8
"""The salient columns of a row are the fewest that hold this share of its attribution."""

HIGH = 0.75
"""From here on a score counts as high."""

CATEGORIES = (
    "human aligned",
    "sufficient subset",
    "sufficient context",
    "context dependent",
    "confuser",
    "insufficient subset",
    "distractor",
    "context confusion",
)
"""Of steps that go well the first four, of others the last four. In this order: the salient columns
are about the declared ones; only some of these; these and others; mostly others."""

NO_ATTRIBUTION = "no attribution"
"""Of a row in which no column contributes anything, such as one whose action is clipped."""


def require_thresholds(mass: float, high: float) -> None:
    """Raise UserError unless both lie above 0 and at most at 1."""
    for name, value in (("mass", mass), ("high", high)):
        if not 0 < value <= 1:
            raise UserError(f"explain.{name}={value} must lie above 0 and at most at 1")


def share_inside(
    attributions: Float[Tensor, "N G"], declared: Bool[Tensor, " G"]
) -> Float[Tensor, " N"]:
    """The share of each row's absolute attribution in the declared columns; NaN where it has none.

    Args:
        attributions: with or without their sign.
        declared: whether a person declares the column relevant.
    """
    strength = attributions.abs()
    return (strength * declared).sum(1) / strength.sum(1)


def identical_columns(rows: Float[Tensor, "N O"]) -> list[list[int]]:
    """The columns in groups, those together that are equal in all rows, in order of their first.

    Between equal columns a network may divide its attention as it likes, without any difference in
    what it knows.
    """
    _, inverse = torch.unique(rows, dim=1, return_inverse=True)
    groups: dict[int, list[int]] = {}
    for column, group in enumerate(inverse.tolist()):
        groups.setdefault(group, []).append(column)
    return sorted(groups.values())


def grouped(
    attributions: Float[Tensor, "*N O"], groups: Sequence[Sequence[int]]
) -> Float[Tensor, "*N G"]:
    """The attribution of each group, the sum of those of its columns with their sign."""
    return torch.stack([attributions[..., list(group)].sum(-1) for group in groups], -1)


def declared_groups(groups: Sequence[Sequence[int]], relevant: Sequence[int]) -> Bool[Tensor, " G"]:
    """Whether any column of each group is declared relevant."""
    known = set(relevant)
    return torch.tensor([bool(known & set(group)) for group in groups])


def salient(attributions: Float[Tensor, "N G"], mass: float = SALIENT_MASS) -> Bool[Tensor, "N G"]:
    """The fewest columns of each row that together hold a share of its absolute attribution.

    Of equal columns the first ones are taken. A row without any attribution has none.

    Args:
        attributions: with or without their sign.
        mass: the share, in (0, 1].

    Raises:
        UserError: if it is not.
    """
    require_thresholds(mass, HIGH)
    strength = attributions.abs().double()
    total = strength.sum(1, keepdim=True)
    ordered, order = strength.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(1) - ordered
    # Rounding aside, so that halves of a whole are halves.
    taken = (before < mass * total * (1 - 1e-6)) & (ordered > 0)
    return torch.zeros_like(taken).scatter(1, order, taken)


def overlap(
    marked: Bool[Tensor, "N G"], declared: Bool[Tensor, " G"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"], Float[Tensor, " N"]]:
    """The three scores of Shared Interest for each row; NaN where they are 0/0.

    Returns:
        The size of the intersection over that of the union, over that of the declared columns
        (ground truth coverage), and over that of the salient ones (saliency coverage).
    """
    both = (marked & declared).sum(1).double()
    either = (marked | declared).sum(1).double()
    return both / either, both / declared.sum().double(), both / marked.sum(1).double()


def shared_interest(
    attributions: Float[Tensor, "N G"],
    declared: Bool[Tensor, " G"],
    good: Sequence[bool] | Bool[NDArray[np.bool_], " N"] | Bool[Tensor, " N"],
    mass: float = SALIENT_MASS,
    high: float = HIGH,
) -> list[str]:
    """The category of each row: one of ``CATEGORIES``, or ``NO_ATTRIBUTION``.

    The paper sorts by the three scores and by whether the answer is right. The first score that is
    high decides: the intersection over the union, then saliency coverage, then ground truth
    coverage.

    Args:
        attributions: with or without their sign.
        declared: whether a person declares the column relevant.
        good: whether the step goes well, in place of a right answer.
        mass: see ``salient``.
        high: from where on a score is high, in (0, 1].

    Raises:
        UserError: if ``mass`` or ``high`` is out of range.
    """
    require_thresholds(mass, high)
    marked = salient(attributions, mass)
    aligned, of_declared, of_salient = overlap(marked, declared)
    found = []
    for row, fine in enumerate(good):
        if not bool(marked[row].any()):
            found.append(NO_ATTRIBUTION)
            continue
        scores = (aligned[row], of_salient[row], of_declared[row])
        place = next((i for i, score in enumerate(scores) if float(score) >= high), 3)
        found.append(CATEGORIES[place if fine else 4 + place])
    return found


def category_shares(categories: Sequence[str]) -> dict[str, float]:
    """The share of rows in each category, 0 for those that have none."""
    return {
        name: sum(one == name for one in categories) / max(len(categories), 1)
        for name in (*CATEGORIES, NO_ATTRIBUTION)
    }
