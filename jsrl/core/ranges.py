"""Checks of single options: the key, its value, and what was expected, in one line."""

import math
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from jsrl.core.errors import UserError


def one_of(key: str, value: str, choices: Collection[str]) -> None:
    """Raise UserError if ``value`` is none of the choices."""
    if value not in choices:
        raise UserError(f"{key}={value!r} is unknown; choose one of {', '.join(choices)}")


def at_least(key: str, value: float, smallest: float) -> None:
    """Raise UserError if ``value`` is below ``smallest``, or not a number at all."""
    if not value >= smallest:
        raise UserError(f"{key}={value} must be at least {smallest}")


def above_zero(key: str, value: float) -> None:
    """Raise UserError if ``value`` is not above 0, or not a number at all."""
    if not value > 0:
        raise UserError(f"{key}={value} must be above 0")


def required(key: str, value: str | None, chosen: str, what: str) -> None:
    """Raise UserError if an option that the chosen kind needs is not given.

    Args:
        key: such as ``guide.path``.
        value: what was given.
        chosen: such as ``guide=onnx``.
        what: what is to be given, such as ``an ONNX file``.
    """
    if not value:
        raise UserError(f"{key} is not set; {chosen} needs {what} there")


def all_finite(group: str, options: Any) -> None:
    """Raise UserError for the first number of an options dataclass that is not finite."""
    for entry in fields(options):
        value = getattr(options, entry.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{group}.{entry.name}={value} must be a finite number")
