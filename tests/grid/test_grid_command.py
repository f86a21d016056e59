"""``jsrl grid`` from end to end: stopped half-way, started again, its records used elsewhere."""

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_runs import TINY, Outcome, call, finish, listing, metrics, start, train_here, wait_until

from jsrl.settings.arguments import quoted

SMALL = (*TINY, "logger=plain", "online.steps=160")
GRID = (
    *("grid", "grid=pointmaze", "grid.seeds=[0]", "workers=2", "arms=[jsrl_cold,no_guide]"),
    f"overrides=[{','.join(map(quoted, SMALL))}]",
    # Not there: this is found out only when the run starts.
    "grid.arms.no_guide.overrides=['dataset=d4rl','dataset.path=nowhere.hdf5']",
)
MINE = (*GRID[:4], "arms=[jsrl_cold]", *GRID[5:])
"""The same without the arm that fails: when that is done, nothing is left to start."""

RAW = Path("runs/grid/pointmaze/report/raw/umaze")
RUNS = Path("runs/grid/pointmaze/umaze")


@dataclass(frozen=True)
class Story:
    """A grid that was stopped and started again, in a folder."""

    folder: Path
    stopped: Outcome
    after_the_stop: set[str]
    ended: Outcome


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("grid")
    process = start(folder, *GRID)
    # Stopped while Jump-Start RL is under way.
    checkpoint = folder / RUNS / "jsrl_cold/seed0/checkpoints"
    wait_until(lambda: any(checkpoint.glob("*.pt")), process)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process)
    return Story(folder, stopped, listing(folder), finish(start(folder, *GRID)))


def test_stopped_it_saves_and_started_again_it_runs_the_rest(story: Story) -> None:
    assert story.stopped.status == 128 + signal.SIGTERM
    assert "[1/3] umaze/guide/seed0 finished after" in story.stopped.out
    assert "everything is saved: go on by jsrl grid grid=pointmaze" in story.stopped.out
    assert str(RAW / "guide/seed0.json") in story.after_the_stop
    assert str(RUNS / "jsrl_cold/seed0/summary.json") not in story.after_the_stop
    assert story.stopped.out.startswith("grid pointmaze: 0 of 3 runs are there already, 3 to run")
    assert "1 of 3 runs are there already, 2 to run" in story.ended.out
    assert "[2/3] umaze/jsrl_cold/seed0 finished after" in story.ended.out
    assert "guide/seed0 finished" not in story.ended.out
    assert "resuming" in (story.folder / RUNS / "jsrl_cold/seed0.log").read_text()


def test_a_run_that_fails_is_named_and_the_others_are_done(story: Story) -> None:
    assert story.ended.status == 2
    assert "umaze/no_guide/seed0 failed: " in story.ended.out
    line = story.ended.err.strip()
    assert line.startswith("jsrl: error: 1 of 3 runs failed: umaze/no_guide/seed0 (")
    assert "nowhere.hdf5" in line
    assert "run the same command again: it runs only what is missing" in line
    report = (story.folder / "runs/grid/pointmaze/report/README.md").read_text()
    assert "no_guide` seed 0" in report
    assert "JSRL-Curriculum, cold start (`jsrl_cold`) | 1 " in report


def test_the_result_is_that_of_a_run_that_was_not_stopped(story: Story, tmp_path: Path) -> None:
    """And a record says what the run itself says."""
    guide = story.folder / RUNS / "guide/seed0"
    summary = train_here(
        tmp_path, *SMALL, "experiment=pointmaze_jsrl", "guide=run", "guide.which=guide",
        f"guide.path={guide}",
    )  # fmt: skip
    assert metrics(tmp_path) == metrics(story.folder / RUNS / "jsrl_cold/seed0")
    record = json.loads((story.folder / RAW / "jsrl_cold/seed0.json").read_text())
    for policy, measures in record["final"].items():
        for measure, value in measures.items():
            assert [value] == summary["evaluation"][policy][measure]["per_seed"]
    assert record["env_steps"] == 160
    assert record["updates"] == summary["updates"]
    assert record["settings"]["online.steps"] == 160
    cost = record["evaluation_cost"]
    for purpose, numbers in summary["evaluation_cost"].items():
        assert [cost[f"{purpose}_episodes"]] == numbers["episodes"]
        assert [cost[f"{purpose}_env_steps"]] == numbers["env_steps"]
    assert cost["episodes"] == [0, 2, 4, 6]  # two in each decision
    assert cost["step"] == record["curve"]["step"]
    assert min(record["shares"]["explorer_share"]) < 1
    curve = record["curve"]
    assert curve["step"] == [0, 50, 100, 150]
    logged = {(r.name, r.step): r.value for r in metrics(tmp_path) if r.phase == "online"}
    for column in ("exploration_return", "combined_success"):
        expected = [logged.get((f"evaluation/{column}", step)) for step in curve["step"]]
        assert curve[column] == expected
    assert curve["exploration_return"][1] is None  # then the curriculum alone looks
    assert curve["guide_steps"][0] == logged["curriculum/guide_steps", 0]
    # Nothing in it tells on which machine, or where, it was made.
    assert str(story.folder) not in (story.folder / RAW / "jsrl_cold/seed0.json").read_text()
    assert "guide.path" not in json.dumps(record)


def test_records_are_enough_to_go_on_elsewhere(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(story.folder / RAW.parent, "results/raw")
    mine = (*MINE, "output=results")
    outcome = call(monkeypatch, capfd, *mine)
    assert outcome.status == 0, outcome
    assert "2 of 2 runs are there already" in outcome.out
    assert "the report: results/README.md" in outcome.out
    assert listing(tmp_path / "runs") <= {"grid", "grid/pointmaze", "grid/pointmaze/.lock"}
    report = Path("results/README.md").read_text()
    assert call(monkeypatch, capfd, *mine, "report_only=true").status == 0
    assert Path("results/README.md").read_text() == report
    assert "output=results\n```" in report
    assert "report_only" not in report


def test_records_and_runs_of_other_settings_are_refused(
    story: Story, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(story.folder)
    other = (*MINE, "grid.arms.jsrl_cold.overrides=['start=warm']")
    outcome = call(monkeypatch, capfd, *other)
    assert outcome.status == 2
    assert outcome.err == (
        f"jsrl: error: {RAW}/jsrl_cold/seed0.json was made with other settings: start was cold, is "
        "warm; use the same settings, choose other folders by output=DIR and runs=DIR, or delete "
        "the file and its run\n"
    )
    outcome = call(monkeypatch, capfd, *other, "output=elsewhere")
    assert outcome.status == 2
    assert f"{RUNS}/jsrl_cold/seed0 holds a finished run with other settings: start" in outcome.err
    # The guide's settings are the same: its record was made from its run.
    assert listing(story.folder / "elsewhere") == {
        *("raw", "raw/umaze", "raw/umaze/guide", "raw/umaze/guide/seed0.json")
    }
