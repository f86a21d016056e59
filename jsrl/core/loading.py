"""A user's own Python objects, named in the configuration as ``module:attribute``.

Loading one imports its module, and so runs the code in it.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from jsrl.core.errors import UserError

READ_AS = "__jsrl_read_as__"
"""In a module that was imported here: which file that was, and which content of it."""
CONTENT = "__jsrl_content__"
"""In such a module: the SHA-256 of that content, wherever the file lies."""


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

    A file runs once, whether it is named by its path or as a module: what it registers would
    otherwise be registered twice.

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
            return _import_name(place)
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
        # What Python remembers of a file passes for it while its size and its time are the same,
        # and the clock of a file system may stand still between two changes.
        linecache.cache.pop(inspect.getsourcefile(defined_in) or "", None)
        source = inspect.getsource(defined_in)
    except (OSError, TypeError):  # compiled: there is no source, the name has to do
        source = f"{defined_in.__name__}"
    digest.update(f"{name}\n{source}\n{sorted(arguments.items())!r}".encode())
    return digest.hexdigest()


def target_of(value: Any) -> str:
    """``module:attribute`` or ``file.py:attribute``, by which another program finds a class.

    A file that stands alone is named by its absolute path, so that the working folder does not
    matter; a module of a package, or one that is installed, by its name.

    Raises:
        UserError: if it was defined in a function, or where no other program finds it.
    """
    module, name = value.__module__, value.__qualname__
    if "<locals>" in name:
        raise UserError(f"{name} is defined in a function; move it to the top of its file")
    found = sys.modules.get(module)
    file = None if found is None else _file_of(found)
    if file is None or file.suffix != ".py":
        raise UserError(f"{name} is not defined in a Python file, where another program finds it")
    alone = not vars(found).get("__package__") and "site-packages" not in file.parts
    return f"{file.resolve()}:{name}" if alone or module == "__main__" else f"{module}:{name}"


def content_read(value: Any, kept: str = CONTENT) -> str | None:
    """Which content of its file a class was read from; None where ``load_module`` did not read it.

    Args:
        value: the class.
        kept: ``CONTENT``, or ``READ_AS`` for a text that names the file's place too.
    """
    module = sys.modules.get(value.__module__)
    found = None if module is None else vars(module).get(kept)
    return None if found is None else str(found)


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


def takes(function: Any, parameter: str) -> bool:
    """Whether ``function`` has a parameter of this name; not, if it does not tell its signature."""
    try:
        return parameter in inspect.signature(function).parameters
    except ValueError:  # some compiled callables do not
        return False


class _AsItIs(SourceFileLoader):
    """Compiles a file as it stands, and neither reads nor writes bytecode.

    Bytecode passes for a file of the same size that was changed within the same second.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _import_file(path: Path, key: str) -> ModuleType:
    if not path.is_file():
        near = _nearest(path.name, (p.name for p in path.parent.glob("*.py")))
        raise UserError(f"{key}: there is no file {str(path)!r}{near}")
    name = _name_of_file(path)
    found = sys.modules.get(name) or _imported_by_name(path, name)
    if found is not None:
        return found
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIs(name, str(path)))
    if spec is None or spec.loader is None:
        raise UserError(f"{key}: {str(path)!r} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    vars(module).update(_read(path))
    sys.modules[name] = module  # before running it: dataclasses and pickle look it up there
    alias = _alias(path)
    if alias is not None:
        sys.modules[alias] = module
    done = False
    try:
        with _importable(Path.cwd()), _importable(path.resolve().parent):
            spec.loader.exec_module(module)
        done = True
    finally:
        if not done:
            del sys.modules[name]
            if alias is not None:
                del sys.modules[alias]
    return module


def _import_name(place: str) -> ModuleType:
    """Import a module, unless it is a file that was run already under its own name."""
    before = sys.modules.get(place)
    if before is not None and vars(before).get("__name__") != place:
        # A file that was run from a working folder: another folder's, or one that has moved since,
        # may have the name now.
        del sys.modules[place]
        importlib.invalidate_caches()
    if place not in sys.modules:
        spec = importlib.util.find_spec(place)
        file = None if spec is None or not spec.has_location else Path(str(spec.origin))
        if file is not None and file.is_file() and _name_of_file(file) in sys.modules:
            sys.modules[place] = sys.modules[_name_of_file(file)]
    module = importlib.import_module(place)
    file = _file_of(module)
    if file is not None and file.suffix == ".py" and file.is_file():
        for kept, text in _read(file).items():
            vars(module).setdefault(kept, text)
    return module


def _imported_by_name(path: Path, name: str) -> ModuleType | None:
    """The module of this file that was imported by its own name, if it has not changed since."""
    for known, module in list(sys.modules.items()):
        file = _file_of(module) if known != "__main__" else None
        if file is None or file.name != path.name or file.resolve() != path.resolve():
            continue
        if vars(module).get(READ_AS, name) == name:
            return module
    return None


def _alias(path: Path) -> str | None:
    """The name by which the working folder's file could be imported too, if that is still free.

    What the file registers may name its own objects as ``module:attribute``.
    """
    before = sys.modules.get(path.stem)
    if path.resolve().parent != Path.cwd().resolve() or not path.stem.isidentifier():
        return None
    if before is not None:
        file = _file_of(before)
        # An earlier content of the same file gives way.
        return path.stem if file is not None and file.resolve() == path.resolve() else None
    with _importable(Path.cwd()):
        spec = importlib.util.find_spec(path.stem)
    if spec is None or not spec.has_location:
        return None
    return path.stem if Path(str(spec.origin)).resolve() == path.resolve() else None


def _read(path: Path) -> dict[str, str]:
    """What a module keeps of the file that it was made of."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return {READ_AS: _name_of_file(path), CONTENT: content}


def _name_of_file(path: Path) -> str:
    """Unique for place and content.

    Two files of one name, or one that was changed, do not stand in for each other, while one file
    named twice is one module.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:12]
    return f"jsrl_user_{path.stem}_{digest}"


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if isinstance(file, str) else None


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
