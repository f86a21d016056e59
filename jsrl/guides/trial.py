"""A guide is tried before a run begins: what would go wrong later is told at once, with its mend.

The rows of the trial are made up. A user's own policy may reject them, so that only what is
certain is held against it: a wrong shape, single rows in place of a batch, a hidden memory.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.foreign import ResetsRows
from jsrl.core.observations import Observation
from jsrl.guides.base import ForeignGuide

CALLS_BETWEEN = 8
"""Calls with other rows before the first rows come again: a memory has changed by then."""

REPEATS = 1e-5
"""Largest difference between two answers to the same rows, in units of the larger of 1 and them."""


def try_file(guide: ForeignGuide) -> None:
    """Try a guide that was read from a file; whatever it raises is its mistake.

    Raises:
        UserError: if it does not take and return the sizes of the environment, or remembers
            without saying so.
    """
    # Three rows and one: a batch size that was baked in on export fails on one of them.
    for rows in (3, 1):
        images = {
            name: torch.zeros(rows, *shape, dtype=torch.uint8)
            for name, shape in guide.view.images.items()
        }
        _answer(guide, Observation(torch.zeros(rows, guide.view.size), images))
    if isinstance(guide.act_rows, ResetsRows) and guide.stateful:
        guide.act_rows.reset(rows=np.arange(3))
    else:
        _require_no_memory(guide)


def try_python(guide: ForeignGuide) -> None:
    """Try a user's own callable. One that says it has a memory is left alone.

    Raises:
        UserError: if it takes single rows, returns another shape, or remembers without saying so.
    """
    if guide.stateful:
        return
    try:
        _answer(guide, _rows(guide, 0))
    # The object is the user's, and may raise anything at rows that no environment ever made.
    except Exception as error:
        _refuse_single_rows(guide, error)
        if isinstance(error, UserError):
            raise
        return
    _require_no_memory(guide)


def _require_no_memory(guide: ForeignGuide) -> None:
    """See that the same rows get the same answers, whatever was asked in between."""
    try:
        first = _answer(guide, _rows(guide, 0))
        for number in range(1, CALLS_BETWEEN):
            _answer(guide, _rows(guide, number))
        again = _answer(guide, _rows(guide, 0))
    # See above: these rows are made up.
    except Exception:
        return
    scale = np.maximum(1, np.maximum(np.abs(first), np.abs(again)))
    alike = np.isclose(first / scale, again / scale, rtol=0, atol=REPEATS, equal_nan=True)
    if alike.all():
        return
    place = tuple(int(index) for index in np.argwhere(~alike)[0])
    which = f"action {place[-1]}" if first.ndim > 1 else "its choice"
    raise UserError(
        f"guide {guide.name} answered the same rows differently the second time ({which}: "
        f"{first[place]:g}, then {again[place]:g}): it has a memory, or draws random "
        "numbers of its own, so that a resumed run would differ. Give one with a memory "
        "stateful = True, reset(rows) and a parameter rows; one that draws, a parameter generator"
    )


def _refuse_single_rows(guide: ForeignGuide, error: Exception) -> None:
    """Raise UserError if the guide answers one observation ``[O']``, but not a batch."""
    single = _rows(guide, 0)[0]
    try:
        answer = _plain(_call(guide, single))
    # See above; then it was not the batch that it minded.
    except Exception:
        return
    wanted = guide.actions.chosen_shape
    if answer.shape not in (wanted, (), (1,)) or answer.size != int(np.prod(wanted)):
        return
    size = guide.view.size
    returned = ", ".join(("n", *map(str, wanted)))
    raise UserError(
        f"guide {guide.name} takes one observation of shape {(size,)} at a time, but is given "
        f"all rows of a step at once, shape (n, {size}), and is to return "
        f"({returned}{'' if wanted else ','}); give a function of the batch instead, such as "
        "lambda observations: np.array([act(o) for o in observations])"
        ".reshape(len(observations), -1)"
    ) from error


def _answer(guide: ForeignGuide, rows: Observation) -> Float[np.ndarray, "n *A"]:
    answers: np.ndarray = guide.as_tensor(_call(guide, rows), rows.leading[0]).numpy()
    return answers


def _call(guide: ForeignGuide, rows: Observation) -> Any:
    """The bare answer; the same draws at every call."""
    generator = np.random.default_rng(0) if guide.stochastic else None
    extra = {"rows": np.arange(rows.leading[0])} if guide.stateful else {}
    return guide.act_rows(guide.given(rows.copy()), 0, generator, **extra)


def _plain(answer: Any) -> np.ndarray:
    tensor = isinstance(answer, Tensor)
    return np.asarray(answer.detach().cpu() if tensor else answer, dtype=float)


def _rows(guide: ForeignGuide, number: int) -> Observation:
    """Three observations between -1 and 1, none alike, other ones for each number."""
    view = guide.view
    values = np.sin(1.0 + 0.7 * np.arange(3 * view.size) + 2.3 * number).astype(np.float32)
    images = {
        name: (torch.arange(3 * int(np.prod(shape))) * (number + 7) % 256).byte().view(3, *shape)
        for name, shape in view.images.items()
    }
    return Observation(torch.from_numpy(values.reshape(3, view.size)), images)
