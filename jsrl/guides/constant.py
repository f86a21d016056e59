"""A guide that always does the same: a baseline, and all that some tasks need to begin with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from omegaconf import ListConfig

from jsrl.core.errors import UserError
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.random import count_of
from jsrl.guides.view import GuideView, environment_range


class ConstantPolicy:
    """One action, in the environment's own units.

    Args:
        action: of one environment, ``[A]``, or one choice.
    """

    stochastic = False

    def __init__(self, action: np.ndarray) -> None:
        self._action = action

    def __call__(
        self, observations: object, seed_index: int, generator: np.random.Generator | None
    ) -> np.ndarray:
        """The action in n rows of observations, whatever these are."""
        return np.repeat(self._action[None], count_of(observations), axis=0)


@dataclass
class ConstantOptions(GuideOptions):
    """Of ``guide=constant``."""

    # In the environment's units: a number for each part of the action, one for all, or a choice.
    action: Any = None


def constant_action(action: Any, spec: EnvSpec) -> np.ndarray:
    """The action as the environment takes it.

    Args:
        action: a number, or a list of them.
        spec: of the environment.

    Raises:
        UserError: if it is none of the environment's actions.
    """
    given = list(action) if isinstance(action, list | tuple | ListConfig) else action
    if isinstance(spec.actions, BoxActions):
        size = spec.actions.size
        wanted = f"a number, or a list of {size}, within the bounds of {spec.id}"
        low, high = (
            np.asarray(bound, np.float64) for bound in (spec.actions.low, spec.actions.high)
        )
    else:
        first, last = spec.actions.start, spec.actions.start + spec.actions.n - 1
        wanted = f"a whole number from {first} to {last}, one of the choices of {spec.id}"
        low, high = np.asarray(first), np.asarray(last)
    try:
        found = np.broadcast_to(np.asarray(given, np.float64), low.shape)
    except (TypeError, ValueError):
        found = np.full(low.shape, np.nan)
    whole = isinstance(spec.actions, BoxActions) or (found == np.round(found)).all()
    if not whole or not ((low <= found) & (found <= high)).all():
        raise UserError(f"guide.action={given} must be {wanted}")
    return (
        found.astype(np.float32) if isinstance(spec.actions, BoxActions) else found.astype(np.int64)
    )


@guides.register("constant", ConstantOptions)
def make_constant(options: ConstantOptions, inputs: GuideInputs) -> ForeignGuide:
    """The same action in every state."""
    action = constant_action(options.action, inputs.spec)
    return ForeignGuide(
        ConstantPolicy(action),
        GuideView(),
        inputs.spec,
        len(inputs.seeds),
        name="constant",
        fingerprint=combine("constant", action.tolist()),
        answers_in=environment_range(inputs.spec),
        takes_images=True,
    )
