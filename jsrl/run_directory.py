"""A run's folder: one process at a time, one configuration, resumed where it stopped."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

import yaml

from jsrl.checkpoint import Checkpoints
from jsrl.errors import UserError
from jsrl.files import lock_folder, write_whole

MAY_GROW = "online.steps"
"""The one key that may change between two starts on the same folder, and only upwards."""

NOT_COMPARED = frozenset({"run_dir"})
"""Where the run lies is not part of what it is: a folder may be moved."""


class RunDirectory:
    """The folder of a run, locked for as long as it is open.

    Args:
        path: the folder; made if need be.
        keep: number of checkpoints to keep.

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
        self._had_dataset = self.dataset.exists()
        self._new_folders = [p for p in (path, *path.parents) if not p.exists()]
        self._lock = self._make_and_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.config.exists():
            self._remove_traces()
        self._lock.close()

    def resume(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """The state from which to go on, or None in a folder where no checkpoint was saved yet.

        Args:
            config: the resolved configuration, nested plain values.

        Raises:
            UserError: if the folder holds a run of another configuration, or no checkpoint of
                those it has can be read.
        """
        state, refused = self.checkpoints.load_newest()
        for message in refused:
            print(f"{message}; the one before it is used")
        if state is not None:
            self._refuse_changes(config)
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
        for events in self.tensorboard.glob("events.out.tfevents.*"):
            events.unlink()
        if dataset:
            self.dataset.unlink(missing_ok=True)

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write ``config.yaml``: from here on the folder belongs to this configuration."""
        write_whole(self.config, yaml.safe_dump(dict(config), sort_keys=False).encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, which says that the run is finished."""
        write_whole(self.summary, (json.dumps(summary, indent=2) + "\n").encode())

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, or None."""
        if not self.summary.exists():
            return None
        summary: dict[str, Any] = json.loads(self.summary.read_text())
        return summary

    def _make_and_lock(self) -> IO[str]:
        try:
            lock = lock_folder(self.path)
            (self.path / "checkpoints").mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"run_dir={str(self.path)!r} cannot be written: {error.strerror}; "
                "choose a folder that can"
            ) from error
        if lock is None:
            raise UserError(
                f"run_dir={str(self.path)!r} is in use by another run; wait for it, or choose "
                "another folder"
            )
        return lock

    def _remove_traces(self) -> None:
        """Leave nothing behind a start that failed before anything began."""
        (self.path / ".lock").unlink(missing_ok=True)
        if not self._had_dataset:
            self.dataset.unlink(missing_ok=True)
        for folder in (self.path / "checkpoints", *self._new_folders):
            with contextlib.suppress(OSError):  # not empty: what is there is the user's
                folder.rmdir()

    def _refuse_changes(self, config: Mapping[str, Any]) -> None:
        if not self.config.exists():
            raise UserError(
                f"{self.config} is missing, so its checkpoints cannot be resumed; restore it"
            )
        changed = differences(yaml.safe_load(self.config.read_text()) or {}, config)
        if changed:
            raise UserError(
                f"run_dir={str(self.path)!r} holds a run of another configuration: "
                f"{'; '.join(changed)}; use the same configuration to resume it (only "
                f"{MAY_GROW} may grow), or another run_dir"
            )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys in which two configurations differ so that a run cannot go on, with both values."""
    before, after = _flatten(old), _flatten(new)
    changed = []
    for key in [*before, *(k for k in after if k not in before)]:
        was, now = before.get(key), after.get(key)
        if was == now or key in NOT_COMPARED or (key == MAY_GROW and (now or 0) > (was or 0)):
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
