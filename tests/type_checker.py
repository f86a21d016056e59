"""Checks shapes and dtypes at run time: beartype, as jaxtyping's import hook calls it.

Only annotations that speak of arrays are kept. The others are mypy's business, and some of them
cannot be checked at run time: protocols without ``runtime_checkable``, or ``Self``.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arrays among the arguments and results of ``function`` at every call."""
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {n: hint for n, hint in hints.items() if _speaks_of_arrays(hint)}
    return beartype(function)


def _speaks_of_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_speaks_of_arrays, get_args(hint)))
