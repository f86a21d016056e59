"""The run-time type checker of the tests: beartype, as jaxtyping's import hook calls it."""

from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, beartype

# An int where a float is meant is right by PEP 484, and mypy accepts it too.
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments and result of ``function`` against its annotations at every call."""
    # Outside of a decorated class beartype cannot tell what Self is; the hook decorates methods.
    if Self in getattr(function, "__annotations__", {}).values():
        return function
    return _checked(function)
