"""Paths in a configuration: relative to the folder of the command, ``~`` being the home folder."""

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from jsrl.core.errors import UserError
from jsrl.core.files import refuse_long_name

PATHS = ("run_dir", "run", "output", "path", "runs", "data", "reference", "behaviour")
"""Keys of the commands that hold one path, or a list of them."""

INNER = {
    "dataset": ("path",),
    "guide": ("path", "target"),
    "learner": ("target",),
    "curriculum": ("target",),
    "arbiter": ("target",),
}
"""Keys of groups that hold a path, or a target that may begin with one."""


def config_directory() -> Path:
    """Where the YAML files are: inside of the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.exists() else package.parent / "configs"


def expand_home(value: str, key: str) -> str:
    """Replace a leading ``~`` or ``~name`` of a path.

    Raises:
        UserError: if there is no such home folder.
    """
    if not value.startswith("~"):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError as error:
        raise UserError(
            f"{key}={value!r} begins with ~, but there is no such home folder; write the path in "
            f"full, or ./{value} for a folder of that name"
        ) from error


def expand_paths(config: Any) -> None:
    """Replace ``~`` in every path of a typed configuration, in place.

    Raises:
        UserError: see ``expand_home``.
    """
    # Commands that only look for a folder do without PyTorch, which this loads.
    from jsrl.core.protocols import HoldsMembers

    for key in PATHS:
        _expand(config, key, key)
    for group, keys in INNER.items():
        for key in keys:
            _expand(getattr(config, group, None), key, f"{group}.{key}")
    guide = getattr(config, "guide", None)
    for index, member in enumerate(guide.members if isinstance(guide, HoldsMembers) else []):
        for key in INNER["guide"]:
            if isinstance(member, dict) and isinstance(member.get(key), str):
                member[key] = expand_home(member[key], f"guide.members[{index}].{key}")
    _expand(config, "demonstrations", "demonstrations")


def run_folder(value: str, key: str = "run_dir") -> Path:
    """Give the folder of a run, from what was typed.

    Raises:
        UserError: if it begins with an unknown home folder, or a part of its name is too long.
    """
    path = Path(expand_home(value, key))
    refuse_long_name(key, path)
    return path


def enter_folder_of_command(folder: str) -> None:
    """Work in the folder where the command was given, wherever Hydra has gone.

    With ``hydra.job.chdir=true`` it is in the job's own folder, where no relative path is meant.
    """
    if Path(folder) != Path.cwd():
        print(
            f"hydra.job.chdir=true: the job works in {folder} all the same, to which its paths are "
            "relative; what it writes is in its own folder"
        )
        os.chdir(folder)


def register_resolver() -> None:
    """``${jsrl.folder:PATH}``: see ``run_folder``; for folders that Hydra itself makes."""
    OmegaConf.register_new_resolver(
        "jsrl.folder", lambda path: str(run_folder(str(path))), replace=True
    )


def _expand(node: Any, key: str, name: str) -> None:
    value = getattr(node, key, None)
    if isinstance(value, str):
        setattr(node, key, expand_home(value, name))
    elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        setattr(node, key, [expand_home(entry, name) for entry in value])
