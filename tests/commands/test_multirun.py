"""``--multirun``: each job in a subfolder of its own, in this process or over several."""

import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from small_runs import REACH, TINY, assert_same_run, call, listing, read_summary, run, train_here

from jsrl.rollout.online import OnlineRunner

PENDULUM = ("env=gymnasium", "env.id=Pendulum-v1", "env.success_key=null")
SHORT = ("online.steps=80", "online.offline_fraction=0", "offline.updates=0", "logger=plain")
SWEEP = ("train", "--multirun", *TINY, *SHORT, "seeds=[0],[1]", "run_dir=sweep")


def is_complete(directory: Path, seed: int) -> bool:
    assert (directory / "checkpoints").is_dir()
    assert (directory / "metrics.jsonl").exists()
    return read_summary(directory)["seeds"] == [seed]


def test_a_sweep_gives_each_job_a_folder_and_repeated_finds_both_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call(monkeypatch, capfd, *SWEEP, *REACH)
    assert outcome.status == 0, outcome
    assert outcome.err == ""
    assert is_complete(tmp_path / "sweep" / "0", 0)
    assert is_complete(tmp_path / "sweep" / "1", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}
    files = listing(tmp_path)
    again = call(monkeypatch, capfd, *SWEEP, *REACH)
    assert again.status == 0
    assert again.out.count("finished: nothing to do") == 2
    assert listing(tmp_path) == files


def test_processes_of_the_joblib_launcher_give_the_same_runs_as_one_process(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    outcome = run(tmp_path, *SWEEP, *PENDULUM, *launcher)
    assert outcome.status == 0, outcome
    assert is_complete(tmp_path / "sweep" / "0", 0)
    assert is_complete(tmp_path / "sweep" / "1", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}
    train_here(tmp_path / "alone", *PENDULUM, *SHORT, "seeds=[1]")
    assert_same_run(tmp_path / "alone", tmp_path / "sweep" / "1")


def test_a_sweep_that_is_asked_to_stop_saves_its_job_and_begins_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    step, steps = OnlineRunner.step, count(1)

    def disturbed(*arguments: Any) -> Any:
        if next(steps) == 20:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(OnlineRunner, "step", disturbed)
    outcome = call(monkeypatch, capfd, *SWEEP, *REACH)
    assert outcome.status == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; everything is saved" in outcome.out
    assert outcome.err == ""
    assert not (tmp_path / "sweep" / "1").exists()
    assert call(monkeypatch, capfd, *SWEEP, *REACH).status == 0
    assert is_complete(tmp_path / "sweep" / "0", 0)
    assert is_complete(tmp_path / "sweep" / "1", 1)


def test_a_mistake_in_one_job_is_named_and_the_other_job_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = (*SWEEP[:-2], "learner.expectile=2,0.7", SWEEP[-1])
    outcome = call(monkeypatch, capfd, *sweep, *REACH)
    assert outcome.status == 2
    # Hydra's line says which job it was, ours what was wrong.
    hydra, ours = outcome.err.splitlines()
    assert "learner.expectile=2" in hydra
    assert ours == "jsrl: error: learner.expectile=2.0 must lie between 0 and 1"
    assert read_summary(tmp_path / "sweep" / "1")["seeds"] == [0]
