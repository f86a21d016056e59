"""What a dataset's actions mean where the environment takes a choice."""

import numpy as np
from jaxtyping import Int64, Shaped

from jsrl.core.specs import DiscreteActions
from jsrl.datasets.actions import ReadActions
from jsrl.datasets.reading import NORMALISED, Reading
from jsrl.datasets.validation import dataset_error


def are_choices(actions: Shaped[np.ndarray, "N *A"], reading: Reading) -> bool:
    """Whether actions are choices: the environment says so, or else their shape and type do."""
    if reading.spec is not None:
        return isinstance(reading.spec.actions, DiscreteActions)
    return actions.ndim == 1 and actions.dtype.kind in "iu"


def read_choices(actions: Shaped[np.ndarray, "N *A"], reading: Reading, source: str) -> ReadActions:
    """Choices from 0 to n - 1, int64 ``[N]``.

    A file that this package wrote numbers them from 0; any other as the environment does.

    Raises:
        UserError: if they are not one whole number a transition, or none that the environment has.
    """
    if reading.action_low is not None or reading.action_high is not None:
        raise dataset_error(
            source,
            "its actions are choices, for which there is no range; leave dataset.action_low and "
            "dataset.action_high out",
        )
    alone = actions[:, 0] if actions.ndim == 2 and actions.shape[1] == 1 else actions
    if alone.dtype.kind not in "biuf":
        raise dataset_error(
            source, f"actions has type {actions.dtype}; expected numbers; check how it was made"
        )
    if alone.ndim != 1:
        raise dataset_error(
            source,
            f"actions has shape {list(actions.shape)}; expected one whole number a transition, "
            "since the environment takes a choice; choose another dataset or env.id",
        )
    whole = np.rint(alone).astype(np.int64)
    if (whole != alone).any():
        row = int(np.argmax(whole != alone))
        raise dataset_error(
            source,
            f"actions holds {alone[row]} at index {row}; expected whole numbers, since the "
            "environment takes a choice; choose another dataset or env.id",
        )
    given = None if reading.spec is None else reading.spec.actions
    start = given.start if isinstance(given, DiscreteActions) else 0
    first = 0 if reading.action_units == NORMALISED else start
    choices: Int64[np.ndarray, " N"] = whole - first
    count = given.n if isinstance(given, DiscreteActions) else int(choices.max(initial=0)) + 1
    wrong = (choices < 0) | (choices >= count)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise dataset_error(
            source,
            f"actions holds {whole[row]} at index {row}; expected {first} to {first + count - 1}, "
            "the choices of the environment; choose a dataset and env.id that belong together",
        )
    # The number that 0 stands for, where the file does not number choices from 0 itself.
    meant_for = None if reading.action_units == NORMALISED else ((float(start),), (float(start),))
    return ReadActions(choices, meant_for)
