"""The evaluations of a run: one figure of the guide wherever one is shown."""

import contextlib
import io
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from scipy import stats
from small_runs import REACH, newest_state, read_summary, toward_goal, train_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jsrl.core.streams import Streams
from jsrl.loggers import read_records
from jsrl.run.evaluation import spread
from jsrl.run.saved_evaluation import evaluate_run
from jsrl.run.summary import final_line

INITIAL, FINAL = 4, 7


def half_a_guide(observations: np.ndarray) -> np.ndarray:
    """Solves ``Reach`` where the goal is on the right, and stands still elsewhere."""
    on_the_right = observations[:, 2:3] > 0
    return np.where(on_the_right, toward_goal(observations), 0.0)


GUIDED = (
    *(*REACH, "guide=python", f"guide.target={__name__}:half_a_guide", "offline.updates=0"),
    *("online.offline_fraction=0", "online.updates_per_step=0.1", "curriculum=jsrl"),
    *("logger=tensorboard", "online.steps=200", "evaluation.episodes=3"),
    *(f"evaluation.final_episodes={FINAL}", f"curriculum.initial_episodes={INITIAL}"),
)


def by_hand(seed: int, episodes: int) -> list[tuple[float, int]]:
    """Success and length of the guide's episodes, played one after the other."""
    streams = Streams([seed]).child("evaluator", "evaluation", "final")
    environment, found = gym.make("jsrl-tests/Reach-v0"), []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=streams.integer("reset", episode)[0])
        length, success, over = 0, False, False
        while not over:
            action = half_a_guide(np.asarray(observation, np.float32)[None])[0]
            observation, _, terminated, truncated, info = environment.step(action)
            length, success, over = length + 1, info["success"], terminated or truncated
        found.append((float(success), length))
    return found


def shown_in_tensorboard(directory: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [(event.step, pytest.approx(event.value)) for event in accumulator.Scalars(tag)]


@dataclass(frozen=True)
class Finished:
    """A run that is over: its folder, its summary, and what it printed."""

    folder: Path
    summary: dict[str, Any]
    out: str
    err: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        summary = train_here(folder, *GUIDED, "seeds=[5]")
    return Finished(folder, summary, out.getvalue(), err.getvalue())


def test_the_guide_has_one_figure_wherever_one_is_shown(finished: Finished) -> None:
    summary, printed = finished.summary, finished.out
    successes, lengths = zip(*by_hand(5, FINAL), strict=True)
    figure = sum(successes) / FINAL
    assert 0 < figure < 1  # so that another sample would give another figure
    low, high = stats.binomtest(int(sum(successes)), FINAL).proportion_ci(method="wilson")

    guide = summary["evaluation"]["guide"]["success"]
    assert guide["mean"] == pytest.approx(figure)
    assert guide["ci95"] is None  # of one seed
    assert guide["episodes_ci95"] == [pytest.approx([low, high])]
    said = f"success {figure:.3g} [{low:.3g}, {high:.3g}]"
    lengths_solved = [n for n, s in zip(lengths, successes, strict=True) if s]
    solved = [n for s, n in by_hand(5, INITIAL) if s]
    assert f"guide alone over {FINAL} episodes: {said}" in printed
    assert f"H1 = {round(np.mean(solved))} steps" in printed
    assert lengths_solved[: len(solved)] == solved  # the same episodes, to begin with
    assert f"guide {said}" in final_line(summary, Path("run"))

    records = read_records(finished.folder / "metrics.jsonl")
    recorded = [(r.step, r.value) for r in records if r.name == "evaluation/guide_success"]
    assert recorded == [(0, pytest.approx(figure)), (200, pytest.approx(figure))]
    board = finished.folder / "tensorboard"
    assert shown_in_tensorboard(board, "evaluation/guide_success") == recorded
    assert shown_in_tensorboard(board / "guide", "evaluation/success") == recorded


@pytest.mark.parametrize("seeds", ["[5]", "[0,5]"])
def test_evaluating_a_finished_run_repeats_its_figures(
    finished: Finished, tmp_path: Path, seeds: str
) -> None:
    if seeds == "[5]":
        shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    else:
        train_here(tmp_path, *GUIDED, f"seeds={seeds}")
    evaluate_run(tmp_path)
    repeated = json.loads((tmp_path / "evaluation.json").read_text())
    assert repeated["evaluation"] == read_summary(tmp_path)["evaluation"]
    assert repeated["episodes"] == FINAL
    evaluate_run(tmp_path, episodes=40, key=3)
    other = json.loads((tmp_path / "evaluation.json").read_text())
    assert other["evaluation"] != repeated["evaluation"]


def test_a_run_that_is_extended_keeps_the_guides_figure(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    later = train_here(tmp_path, *GUIDED, "seeds=[5]", "online.steps=300")
    assert later["evaluation"]["guide"] == finished.summary["evaluation"]["guide"]
    records = read_records(tmp_path / "metrics.jsonl")
    values = {r.value for r in records if r.name == "evaluation/guide_return"}
    assert len(values) == 1


def test_h1_and_the_curriculum_start_from_the_initial_episodes(tmp_path: Path) -> None:
    """One episode at the end does not decide what a curriculum is to reach."""
    train_here(
        tmp_path, *GUIDED, "evaluation.final_episodes=1", "curriculum.initial_episodes=6",
        "online.steps=0", "curriculum.stages=5",
    )  # fmt: skip
    (curriculum,) = newest_state(tmp_path)["curricula"]
    successes, lengths = map(np.array, zip(*by_hand(0, 6), strict=True))
    assert curriculum["best"] == pytest.approx(successes.mean())
    h1 = round(lengths[successes > 0].mean())
    assert curriculum["steps"][-1] == 0
    assert curriculum["steps"][0] == round(h1 * 4 / 5)


def test_the_final_evaluation_and_the_guides_measurement_show_how_far_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, none of the evaluations between takes longer.
    monkeypatch.setattr("jsrl.run.evaluation.PATIENCE", math.inf)
    train_here(tmp_path, *GUIDED, "logger.progress=true", "seeds=[0,1]")
    lines = capsys.readouterr().out.splitlines()
    # Of two seeds; at the end two policies, unless h is 0, as the guide is known.
    assert any(line.startswith("measuring the guide, episode 14/14 (100 %)") for line in lines)
    assert any(line.startswith("final evaluation, episode 28/28 (100 %)") for line in lines)
    # Evaluations between are over before anyone could wonder.
    assert not any(line.startswith("evaluating at step") for line in lines)
    assert "\r" not in "".join(lines)
    online = next(line for line in lines if line.startswith("learning online 200/200"))
    for shown in ("evaluated success ", "h ", "stage ", "return with guide ", "updates/s "):
        assert f", {shown}" in online


def test_with_progress_off_only_what_is_said_is_printed(finished: Finished) -> None:
    assert "evaluation, episode" not in finished.out
    assert "learning online" not in finished.out
    assert finished.err == ""


def test_where_success_is_undefined_nothing_is_said_of_solving(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train_here(
        tmp_path, *GUIDED, "env.success_key=null", "env.score_range=null",
        "curriculum.metric=return", "logger.progress=true",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "solved none" not in printed
    assert "success" not in printed.replace("env.success_key=null", "")
    assert "evaluated return " in printed
    assert summary["evaluation"]["guide"]["success"]["episodes_ci95"] == [None]
    assert "success" not in final_line(summary, Path("run"))
    assert "guide return " in final_line(summary, Path("run"))


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], "3"), ([2.5, 2.5], "2.5"), ([0, 58, 30], "0 to 58")]
)
def test_values_of_many_seeds_are_shown_as_a_range(values: Any, expected: str) -> None:
    assert spread(values) == expected
