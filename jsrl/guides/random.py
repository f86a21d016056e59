"""A guide that knows nothing: it acts evenly at random. What any other guide has to beat."""

from dataclasses import dataclass

import numpy as np

from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.guides.base import ForeignGuide, combine
from jsrl.guides.options import GuideInputs, GuideOptions, guides
from jsrl.guides.view import POLICY_RANGE, GuideView


class RandomPolicy:
    """Uniform in [-1, 1], or among the choices; 0 without a generator.

    Args:
        spec: of the environment.
    """

    stochastic = True

    def __init__(self, spec: EnvSpec) -> None:
        self._actions = spec.actions

    def __call__(
        self, observations: object, seed_index: int, generator: np.random.Generator | None
    ) -> np.ndarray:
        """Actions for n rows of observations, whatever these are."""
        shape = (count_of(observations), *self._actions.chosen_shape)
        if generator is None:
            return np.zeros(shape, np.float32)
        if isinstance(self._actions, BoxActions):
            return generator.uniform(-1, 1, shape).astype(np.float32)
        return generator.integers(self._actions.n, size=shape)


def count_of(observations: object) -> int:
    """How many rows there are, in an array, or in the parts of a dictionary or tuple."""
    while isinstance(observations, dict | tuple):
        values = observations.values() if isinstance(observations, dict) else observations
        observations = next(iter(values))
    return len(np.asarray(observations))


@dataclass
class RandomOptions(GuideOptions):
    """Of ``guide=random``."""

    advice = "guide=random acts at random, and has nothing to set"


@guides.register("random", RandomOptions)
def make_random(options: RandomOptions, inputs: GuideInputs) -> ForeignGuide:
    """Random actions, from the draws that guides have."""
    return ForeignGuide(
        RandomPolicy(inputs.spec),
        GuideView(),
        inputs.spec,
        len(inputs.seeds),
        name="random",
        fingerprint=combine("random"),
        answers_in=POLICY_RANGE,
        takes_images=True,
    )
