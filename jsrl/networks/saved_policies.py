"""Policies as a checkpoint holds them: a description of plain values, and weights.

A class of this package is found by its name, and so is one of an installed package that has the
entry point ``jsrl.policies``. Making a policy of another class imports the file or
module that its description names, which runs the code there; a line says so before.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from jsrl import networks
from jsrl.core.discovery import import_all
from jsrl.core.errors import UserError
from jsrl.core.installed import import_installed
from jsrl.core.loading import READ_AS, content_read, load_attribute, split_target
from jsrl.core.observed_share import COLUMN
from jsrl.core.protocols import FixesLastColumns, SavablePolicy
from jsrl.networks.seed_policy import (
    ENTRY_POINTS,
    place_of,
    registered_class,
    registered_name,
    registered_names,
    where_found,
)

KEY = "the checkpoint's policy class"
"""What messages call the name of a user's class."""


def unsavable_because(policy: object, fixed: Sequence[float] = ()) -> str | None:
    """Why a checkpoint cannot keep a policy; None if it can.

    A class that extends a registered one may act otherwise, and has to be registered itself.

    Args:
        policy: any.
        fixed: the numbers with which it is kept in its last columns.
    """
    kind = type(policy)
    if not isinstance(policy, SavablePolicy) or not isinstance(policy, nn.Module):
        return f"{kind.__name__} is no torch.nn.Module with what SavablePolicy asks for"
    name = registered_name(kind)
    if name is None:
        return f"{kind.__name__} is not registered by @register_policy"
    described = policy.describe().get("class")
    if described != name:
        return f"{kind.__name__} describes itself as {described!r}, but is registered as {name!r}"
    if fixed and not isinstance(policy, FixesLastColumns):
        return (
            f"{kind.__name__} has no describe_with_last(numbers), with which it is kept without "
            f"the {COLUMN} that it observes in training; arbiter.observe_share=false trains "
            "without it"
        )
    try:
        where_found(kind)
    except UserError as error:
        return str(error)
    return None


def describe_policy(policy: SavablePolicy, fixed: Sequence[float] = ()) -> dict[str, Any]:
    """The description for a checkpoint: the policy's own, and where a user's class is found.

    A file of a user's class is named relative to ``folder``, the present one, if it lies below: a
    project may be moved. ``content`` tells whether it is changed later.

    Args:
        policy: one that can be saved.
        fixed: the numbers in its last columns, which the saved policy is not given.
    """
    kind = type(policy)
    target, own = where_found(kind), policy.describe()
    if fixed:
        assert isinstance(policy, FixesLastColumns), "others cannot be saved so"
        own = policy.describe_with_last(fixed)
    if target is None:
        return own
    place, name = split_target(target, KEY)
    if place.endswith(".py") and Path(place).is_relative_to(Path.cwd()):
        target = f"{Path(place).relative_to(Path.cwd()).as_posix()}:{name}"
    found = {"target": target, "folder": str(Path.cwd()), "content": content_read(kind)}
    return {**own, **found}


def build_policy(
    description: dict[str, Any], state: dict[str, Tensor], folders: Iterable[Path] = ()
) -> SavablePolicy:
    """A policy from its description and weights, as a checkpoint holds them.

    Args:
        description: what ``describe_policy`` gave.
        state: the weights.
        folders: where the file of a user's class is looked for, if the description names it
            relative to a folder; that folder comes last.

    Raises:
        UserError: if the class is neither registered nor found, or does not take what is stored.
    """
    cls = _policy_class(description, folders)
    _tell_of_change(cls, description)
    try:
        made = cls(**description["arguments"])
        made.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise UserError(
            f"the policy of class {description['class']!r} cannot be rebuilt ({_first_line(error)}"
            "); was it written by another version of jsrl, or of the class?"
        ) from error
    policy = made.requires_grad_(False).eval()
    if not isinstance(policy, SavablePolicy):
        raise UserError(
            f"the policy class {description['class']!r} has not all that jsrl's SavablePolicy asks "
            "for (act, describe, select, num_seeds, observation_size, action_size); extend "
            "jsrl.networks.seed_policy.SeedPolicy"
        )
    return policy


def _policy_class(description: dict[str, Any], folders: Iterable[Path]) -> type[nn.Module]:
    name, target = description.get("class"), _target(description, folders)
    if registered_class(str(name)) is None:
        # The package's own classes are registered where they are defined.
        import_all("jsrl.networks", networks.__path__)
    if target is None and registered_class(str(name)) is None:
        import_installed(ENTRY_POINTS)
    known = registered_class(str(name))
    if known is not None and target in (None, place_of(known)):
        return known
    if target is None:
        raise UserError(
            f"the policy is of class {name!r}, which is not registered in this version of jsrl or "
            f"by a package that is installed (registered: {', '.join(registered_names())}), so "
            "that it cannot be rebuilt from a checkpoint; install the package that brings it, or "
            "use it as guide=python with your own module:attribute"
        )
    return _load_class(str(name), str(target))


def _target(description: dict[str, Any], folders: Iterable[Path]) -> str | None:
    """Where a user's class is found, the path of a file being absolute; None without."""
    target = description.get("target")
    if target is None:
        return None
    place, name = split_target(str(target), KEY)
    if not place.endswith(".py") or Path(place).is_absolute():
        return str(target)
    looked = [*folders, Path(description.get("folder", "."))]
    for folder in looked:
        if (folder / place).is_file():
            return f"{(folder / place).resolve()}:{name}"
    raise UserError(
        f"{KEY}: there is no file {place!r} in {' or '.join(dict.fromkeys(map(str, looked)))}; "
        "restore it there"
    )


def _tell_of_change(cls: type, description: dict[str, Any]) -> None:
    """Print a line if the file of a user's class is not what it was when the policy was saved."""
    before, now = description.get("content"), content_read(cls)
    if before is None:
        # An earlier version kept one text of place and content.
        before, now = description.get("source"), content_read(cls, READ_AS)
    if before is not None and now is not None and before != now:
        print(
            f"{where_found(cls)} has changed since the policy was saved, and may act otherwise",
            file=sys.stderr,
            flush=True,
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _load_class(name: str, target: str) -> type[nn.Module]:
    place, _ = split_target(target, KEY)
    print(
        f"the policy is of your own class {name!r}: loading it runs the code in {place}",
        file=sys.stderr,
        flush=True,
    )
    found = load_attribute(target, KEY)
    if not isinstance(found, type) or registered_name(found) != name:
        raise UserError(
            f"{KEY}: {target} is not registered as {name!r}; decorate that class with "
            f"@register_policy({name!r})"
        )
    assert issubclass(found, nn.Module)
    return found
