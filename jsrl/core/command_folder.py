"""The folder where a run's command was given, which may have been moved since.

Relative paths in the configuration of a run, and in its checkpoints, are relative to it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from jsrl.core.files import write_whole

RECORD = "command.json"
"""File of a run directory that names the folder."""


def record_folder(run: Path) -> None:
    """Write down that the run's command was given in the present folder."""
    content = json.dumps({"folder": str(Path.cwd())}, indent=2, ensure_ascii=False)
    write_whole(run / RECORD, f"{content}\n".encode())


def possible_folders(run: Path, run_dir: Any) -> list[Path]:
    """The folders that it may be, the likeliest first; all of them are there.

    A project may have been moved, or the run out of it: it is the folder below which ``run_dir``
    puts the run, or the one that was written down, or the present one.

    Args:
        run: the run directory.
        run_dir: as the run's configuration has it.
    """
    candidates = [*_above(run.resolve(), run_dir), *_recorded(run), Path.cwd()]
    return [folder for folder in candidates if folder.is_dir()]


def folders_of_checkpoint(path: Path) -> list[Path]:
    """The same of a run directory, or of the run that a checkpoint lies in.

    Args:
        path: the run directory, or the checkpoint's file.
    """
    run = path.resolve().parent.parent if path.is_file() else path
    try:
        run_dir = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["run_dir"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        run_dir = None
    return possible_folders(run, run_dir)


def _above(run: Path, run_dir: Any) -> Iterator[Path]:
    """The folder in which a relative ``run_dir`` leads to the run."""
    parts = Path(str(run_dir or "")).parts
    plain = parts and not Path(*parts).is_absolute() and ".." not in parts
    if plain and run.parts[-len(parts) :] == parts:
        yield Path(*run.parts[: -len(parts)])


def _recorded(run: Path) -> Iterator[Path]:
    """What was written down; a file that cannot be read is no worse than none."""
    try:
        yield Path(json.loads((run / RECORD).read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return
