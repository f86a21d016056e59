"""A guide is tried before a run begins: what would go wrong later is told at once, with its mend.

The rows of the trial are made up. A user's own policy may reject them, so that only what is
certain is held against it: a wrong shape, single rows in place of a batch, a hidden memory.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.guides.base import ForeignGuide

CALLS_BETWEEN = 8
"""Calls with other rows before the first rows come again: a memory has changed by then."""

REPEATS = 1e-5
"""Largest difference between two answers to the same rows, in units of the larger of 1 and them."""


def try_file(guide: ForeignGuide) -> None:
    """Try a guide that was read from a file; whatever it raises is its mistake.

    Raises:
        UserError: if it does not take and return the sizes of the environment, or remembers.
    """
    # Three rows and one: a batch size that was baked in on export fails on one of them.
    for rows in (3, 1):
        _answer(guide, np.zeros((rows, guide.view.size), np.float32))
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
    row, column = (int(index) for index in np.argwhere(~alike)[0])
    raise UserError(
        f"guide {guide.name} answered the same rows differently the second time (action {column}: "
        f"{first[row, column]:g}, then {again[row, column]:g}): it has a memory, or draws random "
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
    if answer.shape not in ((guide.action_size,), ()) or answer.size != guide.action_size:
        return
    raise UserError(
        f"guide {guide.name} takes one observation of shape {single.shape} at a time, but is given "
        f"all rows of a step at once, shape (n, {len(single)}), and is to return "
        f"(n, {guide.action_size}); give a function of the batch instead, such as lambda "
        "observations: np.array([act(o) for o in observations]).reshape(len(observations), -1)"
    ) from error


def _answer(guide: ForeignGuide, rows: Float[np.ndarray, "n O2"]) -> Float[np.ndarray, "n A"]:
    answers: np.ndarray = guide.as_tensor(_call(guide, rows), len(rows)).numpy()
    return answers


def _call(guide: ForeignGuide, rows: Float[np.ndarray, "*n O2"]) -> Any:
    """The bare answer; the same draws at every call."""
    generator = np.random.default_rng(0) if guide.stochastic else None
    return guide.act_rows(rows.copy(), 0, generator)


def _plain(answer: Any) -> np.ndarray:
    tensor = isinstance(answer, Tensor)
    return np.asarray(answer.detach().cpu() if tensor else answer, dtype=float)


def _rows(guide: ForeignGuide, number: int) -> Float[np.ndarray, "3 O2"]:
    """Three observations between -1 and 1, none alike, other ones for each number."""
    count = 3 * guide.view.size
    values = np.sin(1.0 + 0.7 * np.arange(count) + 2.3 * number)
    rows: np.ndarray = values.reshape(3, guide.view.size).astype(np.float32)
    return rows
