"""Opening files: each way in which one cannot be read has a message, and a way out, of its own."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from jsrl.core.errors import UserError
from jsrl.datasets import hdf5, load_hdf5
from jsrl.datasets.load import load_dataset, load_named, require_source


def write(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((5, 2))
        file["actions"] = np.zeros((5, 1))
        file["rewards"] = np.zeros(5)
        file["terminals"] = np.arange(5) == 4
    return path


def refused(path: Path | str, message: str) -> str:
    with pytest.raises(UserError, match=message) as caught:
        load_hdf5(path)
    said = str(caught.value)
    assert "\n" not in said and ";" in said
    return said


@pytest.fixture
def held_open(tmp_path: Path) -> Iterator[Path]:
    """A sound file that another process has open for writing."""
    path = write(tmp_path / "held.hdf5")
    script = (
        f"import h5py; file = h5py.File({str(path)!r}, 'a'); print('open', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "open\n"
    yield path
    holder.communicate("\n", timeout=600)


def test_a_file_that_is_being_written_is_not_called_truncated(held_open: Path) -> None:
    said = refused(held_open, "another program has it open for writing")
    assert "truncated" not in said
    # The way out that is named works, in the process that it is named for.
    script = textwrap.dedent(
        f"""
        from jsrl.datasets import load_hdf5
        print(len(load_hdf5({str(held_open)!r})))
        """
    )
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "5\n", done.stderr


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(524, "Unable to synchronously open file (unable to lock file, errno = 524)")

    path = write(tmp_path / "nfs.hdf5")
    monkeypatch.setattr(hdf5.h5py, "File", fail)
    assert "HDF5_USE_FILE_LOCKING=FALSE" in refused(path, "cannot be locked")


def test_what_is_no_file_or_no_hdf5_is_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "walks.hdf5")
    assert "walks.hdf5" in refused(tmp_path, "is a folder")
    assert "walks.hdf5?" in refused(tmp_path / "walk.hdf5", "no such file .did you mean")
    (tmp_path / "empty.hdf5").touch()
    refused(tmp_path / "empty.hdf5", "is empty")
    (tmp_path / "page.hdf5").write_text("<html>sign in</html>")
    refused(tmp_path / "page.hdf5", "cannot be read as HDF5: it does not begin as one")
    whole = (tmp_path / "walks.hdf5").read_bytes()
    (tmp_path / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.hdf5", "may be truncated")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    refused(tmp_path / "other.hdf5", "not found, the file holds weights; expected D4RL's layout")
    with h5py.File(tmp_path / "minari.hdf5", "w") as file:
        file["episode_0/actions"] = np.zeros(3)
    refused(tmp_path / "minari.hdf5", "dataset=minari dataset.path=ID")


def test_a_file_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "secret.hdf5")
    if os.geteuid() != 0:
        path.chmod(0)
        refused(path, "Permission denied.*chmod u.r")
        return

    def fail(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    # Root may read everything.
    monkeypatch.setattr(Path, "open", fail)
    refused(path, "Permission denied.*chmod u.r")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "walks.hdf5")
    write(tmp_path / "hopper_medium-v2.hdf5")
    assert len(load_hdf5("~/walks.hdf5")) == 5
    assert len(load_dataset("d4rl", "~/walks.hdf5")) == 5
    assert len(load_named("~/walks.hdf5", key="path")) == 5
    monkeypatch.setenv("D4RL_DATASET_DIR", "~")
    assert len(load_dataset("d4rl", "hopper-medium-v2")) == 5
    with pytest.raises(UserError, match="home folder is not known"):
        load_hdf5("~nobody-of-this-name/walks.hdf5")


@pytest.mark.parametrize("path", ["none.hdf5", "data/none", "~/none.h5", "./none"])
@pytest.mark.parametrize("kind", ["d4rl", "robomimic"])
def test_a_missing_file_is_told_before_anything_else(kind: str, path: str) -> None:
    with pytest.raises(UserError, match=f"dataset.path={path}: no such file"):
        require_source(kind, path)


def test_names_and_ids_are_not_taken_for_files() -> None:
    require_source("d4rl", "hopper-medium-v2")
    require_source("minari", "D4RL/pointmaze/umaze-v2")
    require_source("waypoint", None)
    require_source("none", None)
    with pytest.raises(UserError, match="dataset=minari needs an id"):
        require_source("minari", "/data/walks.hdf5")
    with pytest.raises(UserError, match=r"dataset\.path is not set"):
        require_source("minari", None)
