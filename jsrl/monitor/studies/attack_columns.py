"""Columns of an observation by name or number, as in ``attack.tied`` and ``attack.frozen``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.registry import nearest
from jsrl.core.specs import ObservationSpec
from jsrl.monitor.capture.columns import Layout, column_names


def named_columns(given: Sequence[Any], layout: Layout, key: str) -> list[int]:
    """The places of columns.

    Args:
        given: numbers, names such as ``observation[0]``, or names of whole parts.
        layout: the parts of the observation, each with its [start, stop) columns.
        key: the configuration key, for messages.

    Raises:
        UserError: if there is no such column.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UserError(f"{key}={given!r} must be a list of columns, by name or number")
    names = column_names(layout)
    parts = {name: list(range(start, stop)) for name, start, stop in layout}
    found: list[int] = []
    for column in given:
        if isinstance(column, int) and not isinstance(column, bool):
            if not 0 <= column < len(names):
                raise UserError(
                    f"{key} has the column {column}; the observation has columns 0 to "
                    f"{len(names) - 1}"
                )
            found.append(column)
        elif column in names:
            found.append(names.index(column))
        elif column in parts:
            found += parts[column]
        else:
            known = [*parts, *names]
            raise UserError(
                f"{key} has the column {column!r}, which is unknown{nearest(str(column), known)}; "
                f"the observation has {', '.join(names)}"
            )
    return found


def tied_columns(given: Sequence[Any], layout: Layout) -> list[list[int]]:
    """The groups of ``attack.tied``.

    Raises:
        UserError: if a group is no list, or there is no such column.
    """
    groups = []
    for group in given:
        if isinstance(group, str | int):
            raise UserError(
                f"attack.tied={list(given)!r} must be a list of groups, such as [[0,4],[1,5]]"
            )
        groups.append(named_columns(list(group), layout, "attack.tied"))
    return groups


def require_real_columns(spec: ObservationSpec, frozen: Sequence[int]) -> None:
    """Refuse to move what is a choice.

    Raises:
        UserError: if a part that is one-hot is not frozen.
    """
    start = 0
    for part, (name, *_) in zip(spec.vector, spec.layout, strict=True):
        stop = start + part.size
        if part.counts and not set(range(start, stop)) <= set(frozen):
            raise UserError(
                f"the observation's {name!r} is a choice, which cannot be changed by a little; "
                f"leave it as it is by attack.frozen=[{name}]"
            )
        start = stop


def untied_line(
    observations: Float[NDArray[np.float32], "N O"],
    tied: Sequence[Sequence[int]],
    frozen: Sequence[int],
    layout: Layout,
) -> str | None:
    """That columns are always equal and an attack moves them apart; None where there are none."""
    names = column_names(layout)
    together = {frozenset((a, b)) for group in tied for a in group for b in group if a != b}
    equal = [
        (a, b)
        for a in range(observations.shape[1])
        for b in range(a + 1, observations.shape[1])
        if frozenset((a, b)) not in together
        and not {a, b} <= set(frozen)
        and np.ptp(observations[:, a]) > 0
        and (observations[:, a] == observations[:, b]).all()
    ]
    if not equal:
        return None
    shown = ", ".join(f"{names[a]} and {names[b]}" for a, b in equal)
    pairs = ",".join(f"[{a},{b}]" for a, b in equal)
    return (
        f"always equal in trusted episodes, and moved apart by the attack: {shown}; a monitor "
        f"sees that easily: tie them by attack.tied=[{pairs}]"
    )
