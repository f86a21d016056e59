"""Kinds by name: which learners, guides, curricula and loggers there are, with their options.

A kind is one dataclass of options and what makes an object from them. Both stand in the kind's
own file, joined there by ``register``; ``settings`` makes the dataclass known to Hydra, so that an
option of another kind is refused by name and nothing copies options field by field.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Generic, TypeVar

from jsrl.core.errors import UserError

M = TypeVar("M", bound=Callable[..., Any])


@dataclass
class KindOptions:
    """What the options of every kind have. What stands beside the fields is the kind's, not set.

    ``advice``: what to do instead, for whoever gives an option that the kind lacks. ``neutral``:
    options with the value that says what is done without them: kinds that lack them take it too.
    ``formerly``: what earlier versions did that did not have the option, where that is not its
    default.
    """

    # Set by the option that is chosen.
    kind: str = "???"

    advice: ClassVar[str] = ""
    neutral: ClassVar[tuple[tuple[str, Any], ...]] = ()
    formerly: ClassVar[tuple[tuple[str, Any], ...]] = ()

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""


@dataclass(frozen=True)
class Kind(Generic[M]):
    """One kind of a group.

    Args:
        name: as in ``GROUP.kind=NAME``.
        options: the dataclass of its options, which extends the group's; its fields are the keys
            that the kind has.
        make: what is called with the options to make one; its other arguments are the group's.
    """

    name: str
    options: Any
    make: M


@dataclass(frozen=True)
class Registry(Generic[M]):
    """The kinds of one group.

    Args:
        group: the group's name in the configuration, such as ``learner``.
        base: the dataclass that all options of the group extend: what every kind has.
    """

    group: str
    base: type[KindOptions]
    _kinds: dict[str, Kind[M]] = field(default_factory=dict)

    def register(self, name: str, options: type[KindOptions] | None = None) -> Callable[[M], M]:
        """Decorate a class or function as the kind ``name``.

        Args:
            name: must not be taken.
            options: a dataclass that extends the group's base; None for a kind that has no options
                beside those.
        """
        chosen = self.base if options is None else options
        if not (is_dataclass(chosen) and issubclass(chosen, self.base)):
            raise TypeError(
                f"the options of {self.group}={name} are {chosen!r}; they must be a dataclass that "
                f"extends {self.base.__name__}"
            )
        if name in self._kinds:
            raise ValueError(f"{self.group}={name} is registered twice")

        def decorate(make: M) -> M:
            self._kinds[name] = Kind(name, chosen, make)
            return make

        return decorate

    def names(self) -> tuple[str, ...]:
        """All kinds, in the order of their registration."""
        return tuple(self._kinds)

    def with_option(self, option: str) -> tuple[str, ...]:
        """The kinds that have an option of this name."""
        return tuple(n for n, kind in self._kinds.items() if option in option_names(kind.options))

    def __getitem__(self, name: str) -> Kind[M]:
        """The kind of this name.

        Raises:
            UserError: if there is none.
        """
        if name not in self._kinds:
            raise UserError(
                f"{self.group}.kind={name!r} is unknown{nearest(name, self._kinds)}; choose one of "
                f"{', '.join(self._kinds)}"
            )
        return self._kinds[name]

    def build(self, options: Any, *inputs: Any) -> Any:
        """What the kind that ``options.kind`` names makes of its options and the group's inputs."""
        return self[options.kind].make(options, *inputs)


def option_names(options: type) -> tuple[str, ...]:
    """The names of the options in a dataclass."""
    # Not ``__dataclass_fields__``, in which class variables stand too.
    found: Any = options
    return tuple(option.name for option in fields(found))


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` where a known name is near, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""
