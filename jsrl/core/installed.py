"""What other installed packages bring: modules that their entry points name, and optional ones.

Such a package declares, for instance::

    [project.entry-points."jsrl.learners"]
    td3 = "my_package.td3"

The module is imported when the kinds of that group are, and registers itself there.
"""

import functools
import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from jsrl.core.errors import UserError


def installed_modules(group: str) -> tuple[str, ...]:
    """The modules that entry points of a group name."""
    return tuple(dict.fromkeys(point.module for point in _entry_points(group, tuple(sys.path))))


def import_installed(group: str) -> None:
    """Import every module that an entry point of a group names.

    One that cannot be imported is left out, and a line says so: a package that is broken is no
    reason that nothing else works.
    """
    for point in _entry_points(group, tuple(sys.path)):
        try:
            importlib.import_module(point.module)
        # Whatever is wrong with code of others.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(
                f"jsrl: {group} {point.name!r} is left out: its module {point.module} cannot be "
                f"imported ({reason}); mend or uninstall {_package(point)}",
                file=sys.stderr,
                flush=True,
            )


def optional_module(name: str, needed_by: str, command: str) -> ModuleType:
    """A module of a package that need not be installed.

    Args:
        name: the module, which is imported.
        needed_by: what needs it, such as ``guide=sb3``.
        command: by which the package is installed.

    Raises:
        UserError: if it is not installed, or cannot be imported.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise UserError(
                f"{needed_by} needs the package {package}, which is not installed; {command}"
            ) from error
        raise UserError(
            f"{needed_by} needs the package {package}, which needs {error.name}, which is not "
            f"installed; {command}"
        ) from error
    # Whatever is wrong with code of others.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{needed_by} needs the package {package}, which cannot be imported ({reason}); "
            f"{command}"
        ) from error


@functools.cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Those that the import path has, which is searched once."""
    return tuple(entry_points(group=group))


def _package(point: EntryPoint) -> str:
    return "its package" if point.dist is None else f"the package {point.dist.name}"
