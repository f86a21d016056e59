"""A user's own Python objects, named in the configuration as ``module:attribute``.

Loading one imports its module, and so runs the code in it.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from jsrl.errors import UserError


def load_attribute(target: str, key: str) -> Any:
    """The object that ``target`` names.

    Args:
        target: ``module:attribute``, where the module is installed or lies in the working folder,
            or ``path/to/file.py:attribute``; the attribute may be nested (``Class.method``).
        key: the configuration key that holds ``target``, for messages.

    Raises:
        UserError: if file, module or attribute is missing, or the file is not valid Python. Other
            exceptions of the user's own module are theirs, and pass with their traceback.
    """
    place, name = split_target(target, key)
    value: Any = load_module(place, key)
    for part in name.split("."):
        if not hasattr(value, part):
            known = [n for n in dir(value) if not n.startswith("_")]
            raise UserError(f"{key}={target!r}: {place} has no {name!r}{_nearest(part, known)}")
        value = getattr(value, part)
    return value


def split_target(target: str, key: str) -> tuple[str, str]:
    """The module or file, and the attribute, that ``target`` names.

    Raises:
        UserError: if one of the two is missing.
    """
    # The last colon, since a Windows path has one of its own.
    place, _, name = target.rpartition(":")
    if not place or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(
            f"{key}={target!r} does not name an object; write module:attribute or "
            "path/to/file.py:attribute"
        )
    return place, name


def load_module(place: str, key: str) -> ModuleType:
    """Import a module by name, or a file that ends in ``.py`` under a name of its own.

    Raises:
        UserError: if it is missing or not valid Python, or something that it imports is missing.
    """
    importlib.invalidate_caches()
    if place.startswith(".") and not place.endswith(".py"):
        raise UserError(f"{key}: {place!r} is a relative module name; write it in full")
    try:
        if place.endswith(".py"):
            return _import_file(Path(place), key)
        with _importable(Path.cwd()):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            near = _nearest(error.name, (m.name for m in pkgutil.iter_modules([str(Path.cwd())])))
            raise UserError(
                f"{key}: there is no module {place!r}, installed or in {Path.cwd()}{near}"
            ) from error
        raise UserError(
            f"{key}: {place} imports {error.name!r}, which is missing; install it"
        ) from error
    except ImportError as error:
        raise UserError(f"{key}: {place} cannot be imported: {error}") from error
    except SyntaxError as error:
        where = f"line {error.lineno}: {error.msg}"
        raise UserError(f"{key}: {place} is not valid Python, {where}") from error


def source_digest(target: str, arguments: Mapping[str, Any], key: str) -> str:
    """SHA-256 over the source of the object's file and its ``arguments``: what a guide's code is.

    Only the one file is read: a change in something that it imports is not seen.
    """
    digest = hashlib.sha256()
    value = load_attribute(target, key)
    place, name = split_target(target, key)
    module = load_module(place, key)
    # An object imported from elsewhere is defined there, and that is the source that matters.
    defined_in = sys.modules.get(getattr(value, "__module__", None) or "", module)
    try:
        source = inspect.getsource(defined_in)
    except (OSError, TypeError):  # compiled: there is no source, the name has to do
        source = f"{defined_in.__name__}"
    digest.update(f"{name}\n{source}\n{sorted(arguments.items())!r}".encode())
    return digest.hexdigest()


def check_arguments(function: Any, arguments: Mapping[str, Any], target: str, key: str) -> None:
    """See that ``function`` takes ``arguments`` as keywords.

    Raises:
        UserError: naming the argument that is missing or unknown.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some compiled callables do not tell their signature
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(
            f"{key}={dict(arguments)!r} does not fit {target}{signature}: {error}"
        ) from error


def _import_file(path: Path, key: str) -> ModuleType:
    if not path.is_file():
        near = _nearest(path.name, (p.name for p in path.parent.glob("*.py")))
        raise UserError(f"{key}: there is no file {str(path)!r}{near}")
    content = path.read_bytes()
    # Unique for place and content, so that two files of one name, or one that was changed, do not
    # stand in for each other, while one file named twice is one module.
    digest = hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:12]
    name = f"jsrl_user_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{key}: {str(path)!r} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before running it: dataclasses and pickle look it up there
    done = False
    try:
        with _importable(Path.cwd()), _importable(path.resolve().parent):
            spec.loader.exec_module(module)
        done = True
    finally:
        if not done:
            del sys.modules[name]
    return module


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on the import path, for as long as this lasts."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; nearest: {', '.join(close)}" if close else ""
