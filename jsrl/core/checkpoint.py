"""Checkpoints: written whole or not at all, refused clearly when they are not what they say.

A checkpoint is read with ``weights_only=True``: it holds tensors and plain values, and
reading it runs no code. Making a policy of a user's own class does, see
``jsrl.networks.saved_policies``.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

import torch

from jsrl.core.errors import UserError
from jsrl.core.files import write_whole

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


def newest_checkpoint(path: Path) -> Path:
    """The checkpoint at ``path``, or the newest of a run directory that can be read.

    Raises:
        UserError: if there is none.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise UserError(
            f"{path} does not exist; expected a run directory, or one of its checkpoints"
        )
    files = checkpoint_paths(path / "checkpoints")
    if not files:
        raise UserError(f"{path} has no checkpoints/*.pt; expected a run directory of jsrl")
    for file in reversed(files):
        with contextlib.suppress(UserError):
            load_checkpoint(file)
            return file
    raise UserError(f"{path}: none of its {len(files)} checkpoints can be read; restore one")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU.

    Raises:
        UserError: if there is no such file, it is damaged, or something else wrote it.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {path} does not exist") from error
    # Bytes that are no checkpoint lead the unpickler into any kind of error.
    except Exception as error:
        raise UserError(f"checkpoint {path} is damaged or not one of jsrl's") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} was not written by jsrl")
    if state.get("version") != VERSION:
        raise UserError(
            f"checkpoint {path} has version {state.get('version')}, this jsrl reads {VERSION}: "
            "use the jsrl that wrote it"
        )
    absent = sorted({"seeds", "policies", "environment"} - set(state))
    if absent:
        raise UserError(f"checkpoint {path} lacks {', '.join(absent)}; it was not written by jsrl")
    return state


def stored_policy(state: dict[str, Any], which: str, where: str) -> dict[str, Any]:
    """The description and the weights of a policy in a checkpoint.

    Args:
        state: the checkpoint's contents.
        which: ``exploration`` or ``guide``.
        where: what messages call the run or checkpoint.

    Raises:
        UserError: if it is not there, with the reason.
    """
    policies: dict[str, dict[str, Any]] = state["policies"]
    if which in policies:
        return policies[which]
    name = state.get("unsaved_policies", {}).get(which)
    clock = state.get("clock", {})
    # Checkpoints of earlier versions do not say so; a policy that has learnt would be there.
    if name is None and which == "exploration" and clock.get("steps", 0) > 0:
        name = "an earlier version of jsrl could not keep its class"
    if name is not None:
        raise UserError(
            f"{where} does not hold its {which} policy ({name}): register the policy class of your "
            "learner by jsrl.networks.seed_policy.register_policy, and resume the run to save it"
        )
    raise UserError(
        f"{where} holds no {which} policy, only {sorted(policies) or 'none'}; an "
        "exploration-policy is there once its online training, or a warm start, began"
    )
