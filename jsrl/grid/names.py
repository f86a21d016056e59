"""Names in the configuration of a grid: whether there are such, and each once."""

import difflib
from collections.abc import Iterable, Sequence

from jsrl.core.errors import UserError

MEASURED_ON_THE_WAY = ("success", "return")
"""The measures that learning curves have."""


def known(where: str, names: Iterable[str], options: Iterable[str]) -> None:
    """Raise UserError for the first name that is not among the options."""
    there = list(options)
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"{where}: {name!r} is unknown; {hint}There are {', '.join(there)}")


def refuse_repeated(where: str, values: Sequence[object]) -> None:
    """Raise UserError for the first value that was there before."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise UserError(f"{where} has {value!r} twice; name each once")
