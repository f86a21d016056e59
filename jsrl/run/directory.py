"""The folder of a run, used by one process at a time and resumed where it stopped."""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from jsrl.core.checkpoint import Checkpoints
from jsrl.core.command_folder import record_folder
from jsrl.core.errors import UserError
from jsrl.core.files import cannot_be_written, write_whole
from jsrl.core.locks import FolderLock, lock_folder
from jsrl.loggers.event_files import event_files

MAY_GROW = "online.steps"
"""A key that may change between two starts on the same folder, but only upwards."""

NOT_COMPARED = ("run_dir", "env.sparse_reward", "objective", "logger.")
"""Keys, or beginnings of keys, that are not part of what a run is.

Where it lies: a folder may be moved. What is logged, and what is returned to a sweep. What follows
from a sparse reward is compared, ``learner.reward_scale`` and ``learner.reward_shift``.
"""

MAY_CHANGE = "only online.steps may grow, and logger.* and objective may change"
"""The rule of ``MAY_GROW`` and ``NOT_COMPARED``, for messages."""

Complete = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class RunDirectory:
    """The folder of a run, locked for as long as it is open.

    Args:
        path: the folder, which is made if need be.
        keep: the number of checkpoints to keep.

    Raises:
        UserError: if the folder cannot be written, or another process is running in it.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.tensorboard = path / "tensorboard"
        self.summary = path / "summary.json"
        self.figure = path / "learning_curve.png"
        self.dataset = path / "dataset.hdf5"
        self.config = path / "config.yaml"
        self.monitor = path / "monitor"
        self.checkpoints = Checkpoints(path / "checkpoints", keep)
        self._lock = self._make_and_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.config.exists():
            self._remove_traces()
        self._lock.close()

    def resume(self, config: Mapping[str, Any], complete: Complete = dict) -> dict[str, Any] | None:
        """Return the state from which to go on; None where no checkpoint was saved yet.

        Args:
            config: the resolved configuration, nested plain values.
            complete: adds the keys that an earlier version did not know to what it wrote.

        Raises:
            UserError: if the folder holds a run of another configuration, or no checkpoint of
                those it has can be read.
        """
        state, refused = self.checkpoints.load_newest()
        for message in refused:
            print(f"{message}; the one before it is used")
        if state is not None:
            self._refuse_changes(config, complete)
        elif self.summary.exists():
            raise UserError(
                f"run_dir={str(self.path)!r} holds the summary of a finished run, but none of its "
                "checkpoints: restore them, or choose another run_dir"
            )
        return state

    def discard_leftovers(self, *, dataset: bool) -> None:
        """Remove what an earlier start left behind that failed before its first checkpoint.

        Args:
            dataset: whether the run is to collect its data: those there may be others'.
        """
        for events in event_files(self.tensorboard):
            events.unlink()
        if dataset:
            self.dataset.unlink(missing_ok=True)

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write ``config.yaml``, after which the folder belongs to this configuration."""
        record_folder(self.path)
        write_whole(self.config, yaml.safe_dump(dict(config), sort_keys=False).encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, which says that the run is finished."""
        write_whole(self.summary, (json.dumps(summary, indent=2) + "\n").encode())

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary of a finished run, or None."""
        if not self.summary.exists():
            return None
        summary: dict[str, Any] = json.loads(self.summary.read_text())
        return summary

    def _make_and_lock(self) -> FolderLock:
        try:
            self._had_dataset = self.dataset.exists()
            self._new_folders = [p for p in (self.path, *self.path.parents) if not p.exists()]
            lock = lock_folder(self.path)
            (self.path / "checkpoints").mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_be_written("run_dir", self.path, error) from error
        if lock is None:
            raise UserError(
                f"run_dir={str(self.path)!r} is in use by another run; wait for it, or choose "
                "another folder"
            )
        return lock

    def _remove_traces(self) -> None:
        """Leave nothing behind a start that failed before anything began."""
        with contextlib.suppress(OSError):  # where a file that is open cannot be removed
            (self.path / ".lock").unlink(missing_ok=True)
        if not self._had_dataset:
            self.dataset.unlink(missing_ok=True)
        if self.metrics.exists() and self.metrics.stat().st_size == 0:
            with contextlib.suppress(OSError):
                self.metrics.unlink()
        for folder in (self.path / "checkpoints", *self._new_folders):
            with contextlib.suppress(OSError):  # not empty: what is there is the user's
                folder.rmdir()

    def _refuse_changes(self, config: Mapping[str, Any], complete: Complete) -> None:
        if not self.config.exists():
            raise UserError(
                f"{self.config} is missing, so its checkpoints cannot be resumed; restore it"
            )
        changed = differences(complete(yaml.safe_load(self.config.read_text()) or {}), config)
        if changed:
            raise UserError(
                f"run_dir={str(self.path)!r} holds a run of another configuration: "
                f"{'; '.join(changed)}; use the same configuration to resume it "
                f"({MAY_CHANGE}), or another run_dir"
            )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the keys that keep a run from going on since they differ, with both values."""
    before, after = _flatten(old), _flatten(new)
    changed = []
    for key in [*before, *(k for k in after if k not in before)]:
        was, now = before.get(key), after.get(key)
        if was == now or key.startswith(NOT_COMPARED):
            continue
        if key == MAY_GROW and (now or 0) > (was or 0):
            continue
        changed.append(f"{key} was {was}, is {now}")
    return changed


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
