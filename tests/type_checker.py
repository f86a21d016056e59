"""Checks shapes and dtypes of arrays at run time, by beartype, in every function of the package.

Only annotations that speak of arrays are kept. The others are mypy's business, and some of them
cannot be checked at run time: protocols without ``runtime_checkable``, or ``Self``. jaxtyping's own
decorator wraps functions that have none as well and checks arguments a second time with the result,
which makes a training run three times as slow. So its import hook is used with another decorator.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray

# What an axis means holds for one call, and is the same in its arguments and its result.
_CALL = jaxtyping.jaxtyped("context")


def install() -> None:
    """Check all functions, methods and dataclasses of ``jsrl`` that is imported from now on."""
    jaxtyping.install_import_hook("jsrl", "type_checker.checked")
    # What the hook decorates everything with.
    jaxtyping.jaxtyped = lambda typechecker: checked


def checked(subject: Any) -> Any:
    """A function, method, property or dataclass that checks the arrays of every call."""
    if isinstance(subject, type):
        if dataclasses.is_dataclass(subject) and "__init__" in vars(subject):
            subject.__init__ = checked(subject.__init__)
        return subject
    if isinstance(subject, classmethod | staticmethod):
        return type(subject)(checked(subject.__func__))
    if isinstance(subject, property):
        accessors = (subject.fget, subject.fset, subject.fdel)
        return property(*(accessor and checked(accessor) for accessor in accessors))
    return _checked_function(subject)


def _checked_function(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = {name: _evaluated(hint, function) for name, hint in function.__annotations__.items()}
    arrays = {name: hint for name, hint in hints.items() if _speaks_of_arrays(hint)}
    if not arrays:
        return function
    written, function.__annotations__ = function.__annotations__, arrays
    checking = beartype(function)
    function.__annotations__ = written

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _CALL:
            return checking(*args, **kwargs)

    return call


def _evaluated(hint: Any, function: Callable[..., Any]) -> Any:
    """An annotation that is written as a string; one whose names are not there yet is no array."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, function.__globals__)
    except (NameError, AttributeError):
        return None


def _speaks_of_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_speaks_of_arrays, get_args(hint)))
