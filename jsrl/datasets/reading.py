"""What a reader of data is told beside the file's name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jsrl.core.specs import EnvSpec

ActionBound = int | float | Sequence[int | float] | np.ndarray
"""A bound of all action dimensions, or one of each."""

NORMALISED = "normalised"
"""Actions in [-1, 1], as the package acts: files that it wrote itself."""

ENVIRONMENT = "environment"
"""Actions as ``env.step`` took them: D4RL's layout, Minari, robomimic."""

UNCHECKED = "unchecked"
"""Actions as they stand, for whoever does not look at their scale."""

UNITS_ATTRIBUTE = "action_units"
"""The attribute of an HDF5 file that says which of the first two its actions are in."""


@dataclass(frozen=True)
class Reading:
    """How data are to be read. Every loader takes these as keyword arguments.

    Args:
        spec: of the environment that is trained in. Its bounds say what the actions mean, its time
            limit where an episode ends in a file without ``timeouts``. None where it is not known:
            actions then have to be in [-1, 1], and ``Dataset.validate`` sees that this was right.
        action_low: the lower end of the range in which the file keeps its actions, a number or
            [A], if it is neither the environment's nor [-1, 1]. It stands for the environment's
            own lower bound.
        action_high: the upper end.
        clip_actions: clip what lies outside of the range, where the environment did so when the
            data were collected.
        action_units: ``normalised``, ``environment`` or ``unchecked``; None is ``environment``.
        recorded_bounds: those of the environment in which the data were collected, lower and
            upper, if they are known: of a Minari data set.
        split_at_jumps: end an episode where its states jump implausibly, instead of a warning.
        observation: which observations of a file that has several to put side by side, by name;
            None for those of the environment. Robomimic's layout alone has several.
        mask: the filter key of a robomimic file that names the demonstrations to read; None for
            all.
    """

    spec: EnvSpec | None = None
    action_low: ActionBound | None = None
    action_high: ActionBound | None = None
    clip_actions: bool = False
    action_units: str | None = None
    recorded_bounds: tuple[np.ndarray, np.ndarray] | None = None
    split_at_jumps: bool = False
    observation: tuple[str, ...] | None = None
    mask: str | None = None


PLAIN = Reading()
"""Without an environment, and without anything else said."""
