"""Whole runs of curricula that learn from training episodes: no evaluations, exact resumption."""

from pathlib import Path

import pytest
from disturbances import Disturbance, kill, terminate, train_disturbed
from small_runs import REACH, assert_same_run, metrics, newest_state, train_here

from jsrl.core.errors import UserError
from jsrl.rollout.online import OnlineRunner

GUIDED = (
    *(*REACH, "dataset=none", "guide=python", "guide.target=small_runs:toward_goal"),
    *("online.offline_fraction=0", "online.updates_per_step=0.1", "curriculum.stages=3"),
    *("env.max_episode_steps=30", "online.steps=240", "checkpoint.interval=60"),
)


@pytest.mark.parametrize("kind", ["thompson", "frontier", "learning_progress"])
def test_a_run_stopped_anywhere_ends_as_an_uninterrupted_one(tmp_path: Path, kind: str) -> None:
    task = (*GUIDED, f"curriculum={kind}", "seeds=[0,3]")
    train_here(tmp_path / "whole", *task)
    step = (OnlineRunner, "step")
    disturbances: list[Disturbance] = [(step, 100, terminate), (step, 95, kill)]
    for disturbance in disturbances[: 2 if kind == "thompson" else 1]:
        train_disturbed(tmp_path / "parts", disturbance, *task)
    train_here(tmp_path / "parts", *task)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    names = ("fast", "slow") if kind == "learning_progress" else ("successes", "failures")
    for curriculum in newest_state(tmp_path / "whole")["curricula"]:
        assert sum(sum(curriculum[name]) for name in names) > 0
    evaluated = {r.step for r in metrics(tmp_path / "whole") if "evaluation/" in r.name}
    assert evaluated == {0, 100, 200, 240}, "those of evaluation.interval and the final one alone"


def test_without_known_success_such_a_curriculum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"curriculum=thompson goes by the success.*success_key"):
        train_here(tmp_path, *GUIDED, "curriculum=thompson", "env.success_key=null")
