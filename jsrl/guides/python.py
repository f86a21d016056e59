"""Guides in the user's own Python: a callable, or a class, by ``module:attribute``.

Loading one runs the code of its module. ``scripts/examples/guide_callable.py`` is one in ten lines.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.foreign import ActsOnRows, KnowsItsRange, PredictsActions, ResetsRows, has_memory
from jsrl.core.loading import check_arguments, load_attribute, source_digest, takes
from jsrl.core.ranges import required
from jsrl.core.specs import EnvSpec
from jsrl.guides.base import ForeignGuide
from jsrl.guides.options import GuideInputs, ViewOptions, guides
from jsrl.guides.trial import try_python
from jsrl.guides.view import ActionRange, GuideView, environment_range

GROUP = "guide"
"""Of the configuration, in whose names messages speak."""


class PythonPolicy:
    """A user's object as a ``RowPolicy``: called by ``act``, as a function, or by ``predict``.

    Args:
        target: a callable ``f(observations [n, O']) -> actions [n, A]``, see ``RowPolicy`` for what
            it is given where there are images, or an object that has
            ``act``, is callable, or has ``predict``, taken in that order. One with a parameter
            ``generator`` is given a NumPy generator, fresh at each call, or None for the mode. With
            an attribute ``stateful = True`` it is given ``rows`` too, see ``RowPolicy``. One object
            serves all seeds.
        name: what messages call it.
        group: of the configuration, which names it as its ``target``.

    Raises:
        UserError: if nothing of it can be called.
    """

    def __init__(self, target: Any, name: str, group: str = GROUP) -> None:
        self.target = target
        call = _what_acts(target)
        if call is None:
            raise UserError(
                f"{group}.target={name!r} is a {type(target).__name__}; expected a callable, a "
                "class, or an object with a method act(observations)"
            )
        self.call = call
        self.stochastic = takes(call, "generator")
        self.stateful = has_memory(target)
        if self.stateful and isinstance(target, ResetsRows):
            self.reset = target.reset

    def __call__(
        self,
        observations: Any,
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
    group: str = GROUP,
) -> ForeignGuide:
    """The guide named by ``target``; see ``PythonPolicy`` for what it may be.

    It answers in the environment's own units, unless ``view`` says otherwise, or the object itself,
    see ``KnowsItsRange``.

    Args:
        target: ``module:attribute`` or ``path/to/file.py:attribute``.
        arguments: keywords with which a class is instantiated, or which a function is given at
            every call.
        view: the guide's observations and actions.
        spec: the environment's.
        num_seeds: S.
        group: of the configuration, which has ``target`` and ``arguments``.

    Raises:
        UserError: if the object is missing, cannot be called or does not take ``arguments``;
            or for what its trial shows, see ``trial``.
    """
    key, arguments_key = f"{group}.target", f"{group}.arguments"
    value = load_attribute(target, key)
    call = value
    if inspect.isclass(value):
        check_arguments(value, arguments, target, arguments_key)
        call = value = value(**arguments)
    elif arguments:
        if not callable(value):
            raise UserError(
                f"{arguments_key}={dict(arguments)!r}: {target} takes none; leave empty"
            )
        check_arguments(functools.partial(value, None), arguments, target, arguments_key)
        call = functools.partial(value, **arguments)
    guide = ForeignGuide(
        PythonPolicy(call, target, group),
        view,
        spec,
        num_seeds,
        name=target,
        fingerprint=source_digest(target, arguments, key),
        answers_in=_range_of(value, target, key) or environment_range(spec),
        takes_images=True,
    )
    try_python(guide)
    return guide


def _what_acts(target: Any) -> Callable[..., Any] | None:
    """What of a user's object is called with observations."""
    if isinstance(target, ActsOnRows):
        return target.act
    if callable(target):
        called: Callable[..., Any] = target
        return called
    return target.predict if isinstance(target, PredictsActions) else None


def _range_of(value: Any, target: str, key: str) -> ActionRange | None:
    """The range that an object says it answers in."""
    if not isinstance(value, KnowsItsRange):
        if hasattr(value, "action_low") or hasattr(value, "action_high"):
            raise UserError(
                f"{key}={target!r} has one of action_low and action_high; give it both, or none"
            )
        return None
    if value.action_low is None and value.action_high is None:
        return None
    try:
        low, high = (
            np.asarray(bound, np.float64).ravel().tolist()
            for bound in (value.action_low, value.action_high)
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{key}={target!r} has action_low={value.action_low!r} and "
            f"action_high={value.action_high!r}; expected a number or one for each action"
        ) from error
    return ActionRange(_alone(low), _alone(high), f"{target} says so", f"{target}: ")


def _alone(numbers: list[float]) -> float | list[float]:
    return numbers[0] if len(numbers) == 1 else numbers


@dataclass
class PythonOptions(ViewOptions):
    """Of ``guide=python``: a callable or class of the user's own."""

    # What acts: module:attribute or file.py:attribute.
    target: str | None = None
    # Its keyword arguments, as guide.arguments.NAME=VALUE.
    arguments: dict[str, Any] = field(default_factory=dict)

    advice = "what the guide is to be given goes into guide.arguments.NAME=VALUE"

    def check(self) -> None:
        super().check()
        what = "module:attribute or file.py:attribute"
        required("guide.target", self.target, "guide=python", what)


@guides.register("python", PythonOptions)
def make_python(options: PythonOptions, inputs: GuideInputs) -> ForeignGuide:
    """The user's own object. Loading it runs the file's code."""
    options.check()
    return python_guide(
        str(options.target), options.arguments, options.view(), inputs.spec, len(inputs.seeds)
    )
