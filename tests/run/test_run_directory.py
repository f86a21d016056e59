"""A run's folder belongs to one process and to one configuration."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from jsrl.core.errors import UserError
from jsrl.run.directory import RunDirectory, differences

CONFIG: dict[str, Any] = {
    "run_dir": "x",
    "seeds": [0],
    "online": {"steps": 100, "offline_fraction": 0.25},
    "env": {"id": "Maze", "kwargs": {}},
}


def changed(**online: Any) -> dict[str, Any]:
    return CONFIG | {"online": CONFIG["online"] | online}


def state(step: int) -> dict[str, Any]:
    return {"step": step, "seeds": [0], "policies": {}, "environment": {}}


def begun(path: Path) -> Path:
    """A folder in which a run saved a checkpoint."""
    with RunDirectory(path, 2) as folder:
        folder.begin(CONFIG)
        folder.checkpoints.save(state(1))
    return path


def try_to_open(path: Path, answers: Any) -> None:
    try:
        RunDirectory(path, 2)
        answers.put("opened")
    except UserError as error:
        answers.put(str(error))


def ask_another_process(path: Path) -> str:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=try_to_open, args=(path, answers))
    process.start()
    answer: str = answers.get(timeout=300)
    process.join()
    return answer


def test_a_folder_is_locked_while_it_is_open_and_free_after(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", 2) as folder:
        folder.begin(CONFIG)
        assert "is in use by another run" in ask_another_process(tmp_path / "run")
        with pytest.raises(UserError, match="is in use by another run"):
            RunDirectory(tmp_path / "run", 2)
    assert ask_another_process(tmp_path / "run") == "opened"


def test_the_lock_goes_with_a_process_that_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    opened = context.Event()

    def hold() -> None:
        folder = RunDirectory(tmp_path / "run", 2)
        opened.set()
        multiprocessing.Event().wait(600)
        folder.begin(CONFIG)

    process = context.Process(target=hold)
    process.start()
    assert opened.wait(300)
    process.kill()
    process.join()
    with RunDirectory(tmp_path / "run", 2):
        pass


def test_a_folder_below_a_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"run_dir='.*file/run' cannot be written: Not a directory"):
        RunDirectory(tmp_path / "file" / "run", 2)


def test_a_new_folder_has_nothing_to_resume(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run", 2) as folder:
        assert folder.resume(CONFIG) is None
        assert folder.read_summary() is None


def test_the_same_configuration_resumes_also_in_a_folder_that_was_moved(tmp_path: Path) -> None:
    begun(tmp_path / "run").rename(tmp_path / "moved")
    with RunDirectory(tmp_path / "moved", 2) as folder:
        resumed = folder.resume(CONFIG | {"run_dir": "moved"})
    assert resumed is not None
    assert resumed["step"] == 1


def test_more_online_steps_are_welcome(tmp_path: Path) -> None:
    with RunDirectory(begun(tmp_path / "run"), 2) as folder:
        assert folder.resume(changed(steps=200)) is not None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(steps=50), "online.steps was 100, is 50"),
        (changed(offline_fraction=0.5), "online.offline_fraction was 0.25, is 0.5"),
        (CONFIG | {"seeds": [0, 1]}, r"seeds was \[0\], is \[0, 1\]"),
        (CONFIG | {"env": {"id": "Maze", "kwargs": {"a": 1}}}, "env.kwargs.a was None, is 1"),
        (CONFIG | {"start": "warm"}, "start was None, is warm"),
    ],
)
def test_a_changed_key_is_refused_with_both_values(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with (
        RunDirectory(begun(tmp_path / "run"), 2) as folder,
        pytest.raises(UserError, match=message),
    ):
        folder.resume(config)


def test_every_changed_key_is_named() -> None:
    assert differences(CONFIG, changed(steps=1, offline_fraction=0) | {"seeds": [1]}) == [
        "seeds was [0], is [1]",
        "online.steps was 100, is 1",
        "online.offline_fraction was 0.25, is 0",
    ]
    assert differences(CONFIG, CONFIG) == []


def test_a_checkpoint_that_cannot_be_read_is_said_and_the_one_before_it_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunDirectory(begun(tmp_path / "run"), 2) as folder:
        newest = folder.checkpoints.save(state(2))
        newest.write_bytes(newest.read_bytes()[:200])
        resumed = folder.resume(CONFIG)
    assert resumed is not None
    assert resumed["step"] == 1
    said = capsys.readouterr().out
    assert f"{newest} is damaged" in said
    assert "the one before it is used" in said


def test_checkpoints_without_their_configuration_are_refused(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    (path / "config.yaml").unlink()
    with (
        RunDirectory(path, 2) as folder,
        pytest.raises(UserError, match=r"config\.yaml is missing"),
    ):
        folder.resume(CONFIG)


def test_a_finished_run_without_its_checkpoints_is_not_begun_anew(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    (path / "summary.json").write_text(json.dumps({"seeds": [0]}))
    (path / "checkpoints" / "000001.pt").unlink()
    with RunDirectory(path, 2) as folder:
        with pytest.raises(UserError, match="the summary of a finished run"):
            folder.resume(CONFIG)
        assert folder.read_summary() == {"seeds": [0]}


def test_a_start_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("runs/new/run", "mine"):
        with RunDirectory(tmp_path / name, 2) as folder:
            folder.dataset.write_text("collected before it failed")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_start_that_fails_leaves_the_users_own_files(tmp_path: Path) -> None:
    (tmp_path / "dataset.hdf5").write_text("mine")
    with RunDirectory(tmp_path, 2):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.hdf5"]


def test_what_a_killed_start_left_is_removed_but_not_data_of_others(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    events = tmp_path / "tensorboard" / "events.out.tfevents.1.host.1.0"
    note = tmp_path / "tensorboard" / "note"
    for file in (events, note, tmp_path / "dataset.hdf5"):
        file.write_text("x")
    with RunDirectory(tmp_path, 2) as folder:
        folder.discard_leftovers(dataset=False)
        assert not events.exists()
        assert note.exists()
        assert folder.dataset.exists()
        folder.discard_leftovers(dataset=True)
        assert not folder.dataset.exists()
