"""``jsrl resume run=DIR``: from any folder, by the configuration that the run's folder holds."""

import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import REACH, TINY, Outcome, assert_same_run, call, read_summary, write_reach_data

from jsrl.rollout.online import OnlineRunner

SHORT = ("online.steps=80", "checkpoint.interval=30", "logger.progress=false", "logger=plain")
GUIDE = (
    *("curriculum=jsrl", "guide=python", "guide.target=my_guide.py:act"),
    *("online.offline_fraction=0.25", "dataset=d4rl", "dataset.path=data/reach.hdf5"),
)
NO_GUIDE = ("online.offline_fraction=0",)
BASE = tuple(
    word
    for word in (*REACH, *TINY)
    if not word.startswith(("dataset.", "offline.", "online.steps", "checkpoint.", "curriculum."))
)


@pytest.fixture
def jsrl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> Outcome:
        return call(monkeypatch, capfd, *arguments)

    return command


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a guide and data, in which commands are given."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    write_reach_data(folder / "data" / "reach.hdf5")
    (folder / "my_guide.py").write_text(
        "import numpy as np\n"
        "def act(observations):\n"
        "    return np.clip(5 * (observations[:, 2:] - observations[:, :2]), -1, 1)\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    return folder


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """SIGTERM in the middle of a run."""
    step, steps = OnlineRunner.step, count(1)

    def disturbed(*arguments: Any) -> Any:
        if next(steps) == number:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(OnlineRunner, "step", disturbed)


def one_line(outcome: Outcome, *words: str) -> None:
    assert outcome.status == 2, outcome
    assert len((outcome.out + outcome.err).splitlines()) == 1, outcome
    assert [word for word in words if word not in outcome.err] == [], outcome.err


def test_the_line_that_a_stopped_run_prints_goes_on_with_it_from_any_folder(
    project: Path, jsrl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("train", *BASE, *GUIDE, *SHORT)
    assert jsrl(*arguments, "run_dir=runs/whole").status == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 45)
        stopped = jsrl(*arguments, "run_dir=runs/cut")
    assert stopped.status == 128 + signal.SIGTERM
    assert "go on by jsrl resume run=runs/cut" in stopped.out
    monkeypatch.chdir(project.parent / "elsewhere")
    outcome = jsrl("resume", "run=../project/runs/cut")
    assert outcome.status == 0, outcome
    assert f"relative to {project}" in outcome.out
    assert outcome.out.splitlines()[-1].endswith(f"see {project / 'runs' / 'cut'}")
    assert_same_run(project / "runs" / "whole", project / "runs" / "cut")


def test_a_finished_run_goes_on_to_more_steps_with_another_logger_but_no_other_change(
    project: Path, jsrl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = (*BASE, *NO_GUIDE, *SHORT, "seeds=[0,3]", "monitor=on")
    assert jsrl("train", *short, "run_dir=run").status == 0
    assert jsrl("train", *short, "online.steps=140", "run_dir=long").status == 0
    monkeypatch.chdir(project.parent)
    again = jsrl("resume", "run=project/run")
    assert again.status == 0
    assert "finished: nothing to do" in again.out
    run = ("resume", "run=project/run")
    one_line(jsrl(*run, "online.steps=60"), "online.steps was 80, is 60", "jsrl train")
    one_line(jsrl(*run, "seeds=[1]"), "seeds was [0, 3], is [1]")
    one_line(jsrl(*run, "learner=bc"), "learner=bc", "another learner")
    one_line(jsrl(*run, "run_dir=x"), "run_dir")
    one_line(jsrl(*run, "online.stpes=9"), "did you mean online.steps?")
    one_line(jsrl(*run, "--multirun"), "sweep")
    one_line(jsrl(*run, "logger=cvs"), "did you mean csv?")
    more = ("online.steps=140", "logger=tensorboard", "logger.interval=20")
    assert jsrl(*run, *more).status == 0
    assert (project / "run" / "tensorboard").is_dir()
    stored = yaml.safe_load((project / "run" / "config.yaml").read_text())
    assert stored["logger"] == {"kind": "tensorboard", "progress": False, "interval": 20}
    assert stored["online"]["steps"] == 140
    whole = read_summary(project / "long")["evaluation"]
    assert read_summary(project / "run")["evaluation"] == whole


def test_a_run_that_was_stopped_before_anything_was_saved_begins_anew(
    project: Path, jsrl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("train", *BASE, *NO_GUIDE, *SHORT, "run_dir=run")
    assert jsrl(*arguments).status == 0
    for path in (project / "run").rglob("*.pt"):
        path.unlink()
    (project / "run" / "summary.json").unlink()
    monkeypatch.chdir(project.parent)
    one_line(jsrl("resume", "run=project/run", "seeds=[1]"), "seeds was [0], is [1]")
    assert jsrl("resume", "run=project/run").status == 0
    assert read_summary(project / "run")["env_steps"] == 80


def test_a_run_of_an_earlier_version_takes_the_defaults_of_keys_that_it_did_not_know(
    project: Path, jsrl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("train", *BASE, *NO_GUIDE, *SHORT, "run_dir=run")
    assert jsrl(*arguments).status == 0
    file = project / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    for key in ("monitor", "objective", "nondeterminism"):
        del config[key]
    del config["learner"]["discount"], config["online"]["critic_warmup_steps"]
    file.write_text(yaml.safe_dump(config))
    (project / "run" / "command.json").unlink()
    assert "nothing to do" in jsrl(*arguments).out
    monkeypatch.chdir(project.parent)
    assert jsrl("resume", "run=project/run", "online.steps=100").status == 0
    assert read_summary(project / "run")["env_steps"] == 100
    file.write_text(yaml.safe_dump({**config, "learner": {**config["learner"], "momentum": 0.5}}))
    one_line(jsrl("resume", "run=project/run"), "learner.momentum", "version")


def test_what_is_no_run_is_told_in_one_line(project: Path, jsrl: Any) -> None:
    (project / "sweep" / "0").mkdir(parents=True)
    (project / "sweep" / "0" / "config.yaml").write_text("seeds: [0]\n")
    (project / "bad").mkdir()
    (project / "bad" / "config.yaml").write_text("{")
    (project / "other").mkdir()
    (project / "other" / "config.yaml").write_text("a: 1\n")
    one_line(jsrl("resume"), "run=DIR")
    one_line(jsrl("resume", "run=nowhere"), "nowhere", "does not exist")
    one_line(jsrl("resume", "run=my_guide.py"), "is a file")
    one_line(jsrl("resume", "run=sweep"), "no config.yaml", "folder 0")
    one_line(jsrl("resume", "run=data"), "no config.yaml")
    one_line(jsrl("resume", "run=bad"), "bad/config.yaml", "cannot be read")
    one_line(jsrl("resume", "run=other"), "no configuration of a run")


def test_a_moved_project_is_evaluated_and_resumed_with_what_lies_beside_it(
    project: Path, jsrl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jsrl("train", *BASE, *GUIDE, *SHORT, "run_dir=runs/a").status == 0
    moved = project.rename(project.parent / "moved")
    monkeypatch.chdir(project.parent / "elsewhere")
    evaluated = jsrl("evaluate", f"run={moved}/runs/a", "episodes=1", "num_envs=1")
    assert evaluated.status == 0, evaluated
    outcome = jsrl("resume", f"run={moved}/runs/a", "online.steps=100")
    assert outcome.status == 0, outcome
    assert f"relative to {moved}" in outcome.out
