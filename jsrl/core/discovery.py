"""Imports every module of a package, so that what each of them registers is known."""

import importlib
import pkgutil
from collections.abc import Collection, Iterable


def import_all(package: str, path: Iterable[str], leave_out: Collection[str] = ()) -> None:
    """Import all modules that stand in a package, in the order of their names.

    A new kind is found by that, without a list that names it.

    Args:
        package: its name, ``__name__`` of its ``__init__``.
        path: its folders, ``__path__`` there.
        leave_out: modules that register nothing, and whose imports not everybody has.
    """
    for module in pkgutil.iter_modules(list(path)):
        if module.name not in leave_out:
            importlib.import_module(f"{package}.{module.name}")
