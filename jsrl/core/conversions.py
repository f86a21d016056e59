"""One line for each conversion of actions or rewards in force, which a run prints at its start.

Nothing is rescaled without such a line. The identity needs none.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsrl.core.specs import DiscreteActions, EnvSpec

Numbers = float | Sequence[float] | NDArray[np.floating[Any]]

SHOWN_DIMENSIONS = 4
"""Of actions with different ranges, so many are written out."""


def show_range(low: Numbers, high: Numbers) -> str:
    """Lower and upper bounds as text: ``[-2, 2]``, or ``[-2, 2] x [0, 3]`` where they differ."""
    lows, highs = np.broadcast_arrays(np.ravel(low), np.ravel(high))
    pairs = [f"[{a:.6g}, {b:.6g}]" for a, b in zip(lows, highs, strict=True)]
    if len(set(pairs)) == 1:
        return pairs[0]
    rest = len(pairs) - SHOWN_DIMENSIONS
    shown = " x ".join(pairs[:SHOWN_DIMENSIONS])
    return shown if rest <= 0 else f"{shown} and {rest} more"


def is_unit_range(low: Numbers, high: Numbers) -> bool:
    """Whether the range is [-1, 1] in every dimension, the one in which the package acts."""
    return bool(np.all(np.ravel(low) == -1) and np.all(np.ravel(high) == 1))


def env_action_line(spec: EnvSpec) -> str | None:
    """How the environment takes the policies' actions, or None if it takes them as they are."""
    if isinstance(spec.actions, DiscreteActions):
        start, last = spec.actions.start, spec.actions.start + spec.actions.n - 1
        if start == 0:
            return None
        return (
            f"actions: policies choose from 0 to {spec.actions.n - 1}, which {spec.id} takes as "
            f"{start} to {last}"
        )
    if is_unit_range(spec.box.low, spec.box.high):
        return None
    taken = show_range(spec.box.low, spec.box.high)
    return f"actions: policies act in [-1, 1], which {spec.id} takes as {taken}"


def action_line(
    who: str, low: Numbers, high: Numbers, source: str, spec: EnvSpec, applied: str = "applied"
) -> str | None:
    """How actions from elsewhere become those of the environment.

    Args:
        who: whose actions they are: ``guide my_guide.py:act``.
        low: the lower bound of their range, one number or one for each dimension.
        high: the upper bound.
        source: where the range is from: ``the bounds of Pendulum-v1``.
        spec: of the environment.
        applied: what is done with them.

    Returns:
        The line; None if both ranges are [-1, 1], so that nothing is converted at all.
    """
    taken = (spec.box.low, spec.box.high)
    if is_unit_range(low, high) and is_unit_range(*taken):
        return None
    own, target = show_range(low, high), show_range(*taken)
    what = "as they are" if own == target else f"as {target}"
    return f"actions of {who}: in {own} ({source}), {applied} {what} in {spec.id}"


def reward_line(scale: float, shift: float) -> str | None:
    """How the learner sees rewards, or None if it sees them as they are."""
    if scale == 1 and shift == 0:
        return None
    scaled = "reward" if scale == 1 else f"{scale:g} * reward"
    sign = "-" if shift < 0 else "+"
    shifted = "" if shift == 0 else f" {sign} {abs(shift):g}"
    return (
        f"rewards: the learner learns from {scaled}{shifted} (learner.reward_scale={scale:g}, "
        f"learner.reward_shift={shift:g}); returns are reported as the environment gives them"
    )
