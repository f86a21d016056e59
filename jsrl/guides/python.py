"""Guides in the user's own Python: a callable, or a class, by ``module:attribute``.

Loading one runs the code of its module. ``scripts/examples/guide_callable.py`` is one in ten lines.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from jsrl.errors import UserError
from jsrl.guides.base import ForeignGuide, GuideView
from jsrl.loading import check_arguments, load_attribute, source_digest
from jsrl.types import EnvSpec

KEY = "guide.target"


class PythonPolicy:
    """A user's object as a ``RowPolicy``: called by ``act``, as a function, or by ``predict``.

    Args:
        target: a callable ``f(observations [n, O']) -> actions [n, A]``, or an object that has
            ``act``, is callable, or has ``predict``, taken in that order. One with a parameter
            ``generator`` is given a NumPy generator, fresh at each call, or None for the mode. With
            an attribute ``stateful = True`` it is given ``rows`` too, see ``RowPolicy``. One object
            serves all seeds.
        name: what messages call it.

    Raises:
        UserError: if nothing of it can be called.
    """

    def __init__(self, target: Any, name: str) -> None:
        self.target = target
        methods = [getattr(target, "act", None), target, getattr(target, "predict", None)]
        call = next((m for m in methods if callable(m)), None)
        if call is None:
            raise UserError(
                f"{KEY}={name!r} is a {type(target).__name__}; expected a callable, a class, or an "
                "object with a method act(observations)"
            )
        self.call = call
        self.stochastic = _takes(call, "generator")
        self.stateful = bool(getattr(target, "stateful", False))
        if self.stateful:
            self.reset = getattr(target, "reset", None)

    def __call__(
        self,
        observations: Float[np.ndarray, "n O2"],
        seed_index: int,
        generator: np.random.Generator | None,
        **rows: Any,
    ) -> Any:
        """The object's answer to ``observations``, as it is."""
        extra = {"generator": generator} if self.stochastic else {}
        return self.call(observations, **extra, **rows)


def python_guide(
    target: str,
    arguments: Mapping[str, Any],
    view: GuideView,
    spec: EnvSpec,
    num_seeds: int,
) -> ForeignGuide:
    """The guide named by ``target``; see ``PythonPolicy`` for what it may be.

    Args:
        target: ``module:attribute`` or ``path/to/file.py:attribute``.
        arguments: keywords with which a class is instantiated, or which a function is given at
            every call.
        view: the guide's observations and actions.
        spec: the environment's.
        num_seeds: S.

    Raises:
        UserError: if the object is missing, cannot be called or does not take ``arguments``.
    """
    value = load_attribute(target, KEY)
    if inspect.isclass(value):
        check_arguments(value, arguments, target, "guide.arguments")
        value = value(**arguments)
    elif arguments:
        if not callable(value):
            raise UserError(
                f"guide.arguments={dict(arguments)!r}: {target} takes none; leave empty"
            )
        check_arguments(functools.partial(value, None), arguments, target, "guide.arguments")
        value = functools.partial(value, **arguments)
    return ForeignGuide(
        PythonPolicy(value, target),
        view,
        spec,
        num_seeds,
        name=target,
        fingerprint=source_digest(target, arguments, KEY),
    )


def _takes(function: Any, parameter: str) -> bool:
    try:
        return parameter in inspect.signature(function).parameters
    except ValueError:  # some compiled callables do not tell their signature
        return False
