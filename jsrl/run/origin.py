"""The folder where a run's command was given: relative paths in its configuration mean that one."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsrl.core.command_folder import possible_folders
from jsrl.core.registry import option_names

PATH_KEYS = (
    *(("dataset", "path"), ("guide", "path"), ("replay", "directory")),
    *(("guide", "target"), ("learner", "target"), ("curriculum", "target"), ("arbiter", "target")),
)


MEMBER_KEYS = ("path", "target")
"""Of each of several guides: ``guide.members``."""


def command_folder(run: Path, config: Mapping[str, Any]) -> Path:
    """The folder that a run's relative paths are relative to.

    Of those that are possible it is the first in which everything is that the configuration names,
    or else the first.

    Args:
        run: the run directory.
        config: what its ``config.yaml`` holds, nested plain values.
    """
    there = possible_folders(run, config.get("run_dir"))
    named = list(_relative(config))
    complete = [f for f in there if all((f / name).exists() for name in named)]
    return (complete or there)[0]


def anchor(config: Any, folder: Path) -> None:
    """Make the relative paths of a typed configuration absolute, where they lead to something.

    Modules of the folder can be imported from here on.
    """
    for group, key in PATH_KEYS:
        part = getattr(config, group)
        value = getattr(part, key) if key in option_names(type(part)) else None
        if value is None or (key == "target" and not _place(value, key).endswith(".py")):
            continue
        if (folder / _place(value, key)).exists():
            setattr(part, key, str(folder / value))
    for member in _members(getattr(config.guide, "members", [])):
        for key in MEMBER_KEYS:
            value = member.get(key)
            if not isinstance(value, str) or (key == "target" and ".py:" not in value):
                continue
            if (folder / _place(value, key)).exists():
                member[key] = str(folder / value)
    let_import_from(folder)


def let_import_from(folder: Path) -> None:
    """As with ``python -m``, but last, so that nothing there hides an installed package."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _relative(config: Mapping[str, Any]) -> Iterator[str]:
    """The relative paths that a configuration certainly names; others may be names or ids."""
    for group, key in PATH_KEYS:
        value = (config.get(group) or {}).get(key)
        place = _place(value, key) if isinstance(value, str) else ""
        named = place.endswith((".py", ".hdf5", ".h5")) or ((group, key) == ("guide", "path"))
        if place and named and not Path(place).is_absolute():
            yield place
    for member in _members((config.get("guide") or {}).get("members")):
        for key in MEMBER_KEYS:
            value = member.get(key)
            place = _place(value, key) if isinstance(value, str) else ""
            if place and (key == "path" or place.endswith(".py")) and not Path(place).is_absolute():
                yield place


def _members(found: Any) -> list[dict[str, Any]]:
    """Those of several guides that are told in a way that can be read."""
    return [member for member in found or [] if isinstance(member, dict)]


def _place(value: str, key: str) -> str:
    """The file of a target, or the path itself."""
    return value.rpartition(":")[0] if key == "target" else value
