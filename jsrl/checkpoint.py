"""Checkpoints: written whole or not at all, refused clearly when they are not what they say.

A checkpoint is read with ``weights_only=True``: it holds tensors and plain values and runs no code.
"""

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from jsrl.errors import UserError
from jsrl.files import write_whole

FORMAT = "jsrl-checkpoint"
VERSION = 1


class Checkpoints:
    """The checkpoints of a run, numbered in order.

    Args:
        folder: where they are.
        keep: how many of the last ones stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, state: dict[str, Any]) -> Path:
        """Write the next checkpoint, then remove those that are too old."""
        paths = checkpoint_paths(self._folder)
        number = int(paths[-1].stem) + 1 if paths else 1
        path = self._folder / f"{number:06d}.pt"
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "version": VERSION, **state}, buffer)
        write_whole(path, buffer.getvalue())
        for old in [*paths, path][: -self._keep]:
            old.unlink(missing_ok=True)
        return path

    def load_newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest checkpoint that can be read, or None, and what was wrong with newer ones.

        Raises:
            UserError: if there are checkpoints, but none can be read.
        """
        refused: list[str] = []
        paths = checkpoint_paths(self._folder)
        for path in reversed(paths):
            try:
                return load_checkpoint(path), refused
            except UserError as error:
                refused.append(str(error))
        if refused:
            raise UserError(
                f"no checkpoint in {self._folder} can be read ({refused[0]}); start afresh with "
                "another run_dir, or restore the files"
            )
        return None, refused


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("*.pt") if path.stem.isdigit())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU.

    Raises:
        UserError: if there is no such file, it is damaged, or something else wrote it.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {path} does not exist") from error
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"checkpoint {path} is damaged or not one of jsrl's") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} was not written by jsrl")
    if state["version"] != VERSION:
        raise UserError(
            f"checkpoint {path} has version {state['version']}, this jsrl reads {VERSION}: "
            "use the jsrl that wrote it"
        )
    return state


def fingerprint(state: dict[str, Any]) -> str:
    """SHA-256 of nested tensors and plain values."""
    digest = hashlib.sha256()
    _feed(digest, state)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(str((value.dtype, tuple(value.shape))).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(str(len(value)).encode())
        for item in value:
            _feed(digest, item)
    else:
        digest.update(repr(value).encode())
