"""Checkpoints are written whole, kept in number, read without running code, and refused clearly."""

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from jsrl.core.checkpoint import Checkpoints, checkpoint_paths, load_checkpoint
from jsrl.core.errors import UserError

REQUIRED: dict[str, Any] = {"seeds": [0], "policies": {}, "environment": {}}


def state(number: int) -> dict[str, Any]:
    rows, nested = torch.arange(number * 1000), [{"none": None}, "x"]
    return {"number": number, "rows": rows, "nested": nested, **REQUIRED}


class RunsCode:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three checkpoints."""
    checkpoints = Checkpoints(tmp_path, 3)
    for number in (1, 2, 3):
        checkpoints.save(state(number))
    return tmp_path


def test_the_newest_checkpoint_comes_back_as_it_was_saved(folder: Path) -> None:
    loaded, refused = Checkpoints(folder, 3).load_newest()
    assert loaded is not None
    assert refused == []
    assert loaded["number"] == 3
    assert torch.equal(loaded["rows"], state(3)["rows"])
    assert loaded["nested"] == state(3)["nested"]


def test_any_torch_reads_a_checkpoint_with_weights_only(folder: Path) -> None:
    for path in folder.glob("*.pt"):
        assert torch.load(path, weights_only=True)["format"] == "jsrl-checkpoint"


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_last_checkpoints_are_kept_and_numbers_go_on(tmp_path: Path, keep: int) -> None:
    for number in range(1, 5):  # each time as a process of its own would
        Checkpoints(tmp_path, keep).save(state(number))
    kept = range(max(1, 5 - keep), 5)
    assert [path.name for path in checkpoint_paths(tmp_path)] == [f"{n:06d}.pt" for n in kept]
    assert [load_checkpoint(path)["number"] for path in checkpoint_paths(tmp_path)] == list(kept)


def test_no_checkpoints_are_no_state(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nothing", 2).load_newest() == (None, [])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_named_and_the_one_before_it_used(
    folder: Path, share: float
) -> None:
    newest = folder / "000003.pt"
    content = newest.read_bytes()
    newest.write_bytes(content[: int(share * len(content))])
    loaded, refused = Checkpoints(folder, 3).load_newest()
    assert loaded is not None
    assert loaded["number"] == 2
    assert len(refused) == 1
    assert str(newest) in refused[0]


@pytest.mark.parametrize(
    "foreign",
    [
        {"model": torch.zeros(2)},
        torch.zeros(3),
        {"format": "jsrl-checkpoint", "version": 99, **REQUIRED},
        {"format": "jsrl-checkpoint", "version": 1, "seeds": [0]},
    ],
    ids=["another dictionary", "a tensor", "a later version", "a part"],
)
def test_a_foreign_checkpoint_is_named_and_the_one_before_it_used(
    folder: Path, foreign: Any
) -> None:
    torch.save(foreign, folder / "000004.pt")
    loaded, refused = Checkpoints(folder, 3).load_newest()
    assert loaded is not None
    assert loaded["number"] == 3
    assert "000004.pt" in refused[0]


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02", b"PK\x03\x04", bytes(range(256))])
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "000001.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"000001\.pt is damaged or not one of jsrl's"):
        load_checkpoint(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "000001.pt"
    torch.save({"format": "jsrl-checkpoint", "version": 1, "payload": RunsCode()}, path)
    with pytest.raises(UserError, match="damaged or not one of jsrl's"):
        load_checkpoint(path)


def test_a_folder_of_broken_checkpoints_is_refused_with_a_way_out(folder: Path) -> None:
    for path in folder.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read .*another run_dir"):
        Checkpoints(folder, 3).load_newest()


def test_files_that_are_not_numbered_are_left_alone(folder: Path) -> None:
    (folder / "mine.pt").write_bytes(b"hello")
    Checkpoints(folder, 1).save(state(4))
    assert sorted(path.name for path in folder.iterdir()) == ["000004.pt", "mine.pt"]


def test_a_full_disk_leaves_the_checkpoints_that_were_there_and_nothing_else(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))
    try:
        with pytest.raises(UserError, match=r"000004\.pt.*File too large"):
            Checkpoints(folder, 3).save(state(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    assert Checkpoints(folder, 3).save(state(4)).name == "000004.pt"
