"""A folder is held once, whatever the platform offers for it."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jsrl.core import locks
from jsrl.core.errors import UserError
from jsrl.core.locks import lock_folder
from jsrl.run.directory import RunDirectory

fcntl = pytest.importorskip("fcntl")


class FakeWindows(types.ModuleType):
    """``msvcrt.locking`` as it behaves: a byte of a file, locked until its file is closed."""

    LK_NBLCK = 2

    def __init__(self):
        super().__init__("msvcrt")

    def locking(self, descriptor, mode, size):
        assert (mode, size) == (self.LK_NBLCK, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture(params=["posix", "windows", "neither"])
def platform(request, monkeypatch):
    if request.param != "posix":
        monkeypatch.setattr(locks, "fcntl", None)
        monkeypatch.setattr(locks, "msvcrt", FakeWindows() if request.param == "windows" else None)
    return request.param


def test_a_folder_is_held_once_until_it_is_let_go(platform, tmp_path):
    folder = tmp_path / "new" / "folder"
    first = lock_folder(folder)
    assert first is not None
    assert lock_folder(folder) is None
    other = lock_folder(tmp_path / "other")
    assert other is not None
    first.close()
    with lock_folder(folder) as again:
        assert again is not None
        assert lock_folder(folder) is None
    assert lock_folder(folder) is not None


def test_two_runs_are_refused_one_folder(platform, tmp_path):
    refused = pytest.raises(UserError, match="is in use by another run")
    with RunDirectory(tmp_path / "run", 2), refused:
        RunDirectory(tmp_path / "run", 2)
    with RunDirectory(tmp_path / "run", 2):
        pass


def test_the_holder_that_was_killed_is_passed_over_and_one_that_runs_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder = tmp_path / locks.HOLDER
    for text, free in ((str(ended.pid), True), (str(os.getppid()), False), ("", False)):
        holder.write_text(text)
        lock = lock_folder(tmp_path)
        assert (lock is not None) == free
        if lock is not None:
            lock.close()
            assert not holder.exists()


PROGRAM = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import importlib, pkgutil, jsrl
for module in pkgutil.walk_packages(jsrl.__path__, "jsrl."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from pathlib import Path
from small_runs import REACH, train_here
from jsrl.loggers import read_records
train_here(Path("run"), "dataset=none", "learner=iql", "guide=none", "curriculum=none",
    "start=cold", "offline.updates=0", "online.offline_fraction=0", *REACH)
assert "memory/peak_mib" not in {record.name for record in read_records(Path("run/metrics.jsonl"))}
print("trained")
"""


def test_the_package_works_without_what_windows_lacks(tmp_path):
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith("trained\n")
    assert sorted(p.name for p in (tmp_path / "run").glob(".lock*")) == [".lock"]
