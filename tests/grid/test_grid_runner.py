"""The order in which processes are started, and what becomes of signals and failures."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

import jsrl.grid.runner
from jsrl.core.errors import UserError
from jsrl.core.interrupts import Interrupted
from jsrl.grid.plan import GUIDE, Setup, Task
from jsrl.grid.processes import RunProcess
from jsrl.grid.runner import Runner, alone_in


class FakeProcess:
    """Ends when it was looked at so many times: ``seed`` 0 after one look, and so on."""

    events: ClassVar[list[str]] = []
    statuses: ClassVar[dict[str, int]] = {}

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.name = str(log.with_suffix(""))
        self.looks = int(self.name[-1]) + 1
        FakeProcess.events.append(f"start {self.name}")

    def poll(self) -> int | None:
        self.looks -= 1
        return None if self.looks > 0 else FakeProcess.statuses.get(self.name, 0)

    def send(self, number: int) -> None:
        FakeProcess.events.append(f"{signal.Signals(number).name} {self.name}")
        self.looks, FakeProcess.statuses[self.name] = 1, 128 + number

    def wait(self) -> None:
        FakeProcess.events.append(f"wait {self.name}")

    def mistake(self) -> str:
        return "no data"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsrl.grid.runner, "RunProcess", FakeProcess)
    monkeypatch.setattr(jsrl.grid.runner, "SECONDS_BETWEEN_LOOKS", 0.001)
    FakeProcess.events, FakeProcess.statuses = [], {}


def task(arm: str, seed: int) -> Task:
    """A task whose run directory is ``<arm>/seed<seed>``; arms need the guide of their seed."""
    setup = Setup("c", arm, "e", (), None if arm == GUIDE else "c", "exploration", {})
    needs = None if arm == GUIDE else ("c", GUIDE, (seed,))
    return Task(setup, (seed,), Path(arm) / f"seed{seed}", None, needs)


def run(tasks: list[Task], workers: int) -> list[str]:
    def tell(task: Task, why: str = "") -> None:
        FakeProcess.events.append(
            f"{'failed' if why else 'finished'} {task.directory} {why}".strip()
        )

    Runner(tasks, workers, tell, tell).run()
    return FakeProcess.events


ALL = [task(GUIDE, 0), task(GUIDE, 1), task("a", 0), task("b", 0), task("a", 1), task("b", 1)]


def test_each_run_starts_when_its_guide_is_there_and_no_worker_waits() -> None:
    assert run(list(ALL), 2) == [
        *("start guide/seed0", "start guide/seed1", "finished guide/seed0"),
        # Guide 1 still runs: the place that is free goes to an arm of seed 0.
        *("start a/seed0", "finished guide/seed1", "finished a/seed0"),
        *("start b/seed0", "start a/seed1", "finished b/seed0"),
        *("start b/seed1", "finished a/seed1", "finished b/seed1"),
    ]


def test_guides_that_are_done_already_hold_nothing_up() -> None:
    events = run(ALL[2:], 4)
    assert events[:4] == [f"start {arm}/seed{seed}" for seed in (0, 1) for arm in "ab"]


def test_what_needs_a_failed_guide_is_not_started_and_the_others_go_on() -> None:
    FakeProcess.statuses["guide/seed0"] = 2
    events = run(list(ALL), 1)
    reason = "not started, since its guide c/guide/seed0 failed"
    assert events[1:4] == [
        "failed guide/seed0 no data",
        f"failed a/seed0 {reason}",
        f"failed b/seed0 {reason}",
    ]
    assert events[-1] == "finished b/seed1"
    assert not {"start a/seed0", "start b/seed0"} & set(events)


def test_a_signal_is_passed_on_once_and_nothing_more_is_started() -> None:
    def finished(task: Task) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as error:
        Runner(list(ALL), 2, finished, pytest.fail).run()
    assert error.value.signal_number == signal.SIGTERM
    assert FakeProcess.events == [
        *("start guide/seed0", "start guide/seed1", "SIGTERM guide/seed1")
    ]


def test_after_an_error_no_process_is_left_behind() -> None:
    def finished(task: Task) -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        Runner(list(ALL), 2, finished, pytest.fail).run()
    assert FakeProcess.events[2:] == ["SIGTERM guide/seed1", "wait guide/seed1"]


def test_a_folder_is_for_one_grid_at_a_time(tmp_path: Path) -> None:
    def enter(folder: Path) -> None:
        with alone_in(folder):
            pass

    with (
        alone_in(tmp_path / "grid"),
        pytest.raises(UserError, match="in use by another grid; wait for it"),
    ):
        enter(tmp_path / "grid")
    enter(tmp_path / "grid")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory; choose another"):
        enter(tmp_path / "file" / "grid")


def test_the_log_keeps_earlier_starts_and_the_mistake_is_the_last_ones(tmp_path: Path) -> None:
    log = tmp_path / "new" / "seed0.log"
    for override in ("learner.expectil=1", "online.stps=1"):
        process = RunProcess([override], log)
        process.wait()
        assert process.poll() == 2
    assert (
        process.mistake()
        == "online.stps is no key of the configuration; did you mean online.steps?"
    )
    assert log.read_text().count("jsrl: error: ") == 2
    killed = RunProcess(["experiment=pointmaze_jsrl", f"run_dir={tmp_path / 'run'}"], log)
    killed.send(signal.SIGKILL)
    killed.wait()
    assert killed.mistake() == "ended by SIGKILL"
    with pytest.raises(UserError, match="cannot be written: File exists; choose"):
        RunProcess([], log / "seed0.log")
