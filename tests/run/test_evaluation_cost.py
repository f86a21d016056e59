"""What evaluations cost, against lengths that the records say: decisions, the guide, reports."""

from pathlib import Path
from typing import Any

import pytest
from disturbances import terminate, train_disturbed
from small_runs import REACH, assert_same_run, metrics, read_summary, train_here

from jsrl.rollout.online import OnlineRunner

EPISODES = 2
GUIDED = (
    *(*REACH, "dataset=none", "guide=python", "guide.target=small_runs:toward_goal"),
    *("online.offline_fraction=0", "online.updates_per_step=0.1", "seeds=[0,3]"),
    *("online.steps=200", "curriculum.initial_episodes=5", f"evaluation.episodes={EPISODES}"),
)
JSRL = (*GUIDED, "curriculum=jsrl", "curriculum.stages=3", "curriculum.window=1")


def lengths(directory: Path, mode: str, seed: int) -> dict[int, float]:
    name = f"evaluation/{mode}_length"
    found = [r for r in metrics(directory) if (r.name, r.seed, r.phase) == (name, seed, "online")]
    return {record.step: float(record.value or 0) for record in found}


def test_a_curriculum_that_decides_pays_until_its_last_stage(tmp_path: Path) -> None:
    disturbed = tmp_path / "parts"
    train_here(tmp_path / "whole", *JSRL, "curriculum.tolerance=1")
    stopped = ((OnlineRunner, "step"), 120, terminate)
    train_disturbed(disturbed, stopped, *JSRL, "curriculum.tolerance=1")
    train_here(disturbed, *JSRL, "curriculum.tolerance=1")
    assert_same_run(tmp_path / "whole", disturbed)
    summary: dict[str, Any] = read_summary(tmp_path / "whole")
    cost = summary["evaluation_cost"]
    assert cost == read_summary(disturbed)["evaluation_cost"]
    stages = {
        (r.seed, r.step): r.value
        for r in metrics(tmp_path / "whole")
        if r.name == "curriculum/stage" and r.phase == "online"
    }
    for index, seed in enumerate((0, 3)):
        combined = lengths(tmp_path / "whole", "combined", seed)
        # Every 50 steps, and no more once h is 0.
        decided = [step for step in (50, 100, 150, 200) if stages[seed, step] < 2]
        assert decided, "else nothing is looked at"
        assert cost["decision"]["episodes"][index] == EPISODES * len(decided)
        spent = EPISODES * sum(combined[step] for step in decided)
        assert cost["decision"]["env_steps"][index] == pytest.approx(spent)
        logged = {
            r.name: r.value
            for r in metrics(tmp_path / "whole")
            if r.seed == seed and r.step == 200 and "decision" in r.name
        }
        assert logged["curriculum/decision_episodes"] == EPISODES * len(decided)
        assert logged["curriculum/decision_env_steps"] == pytest.approx(spent)
    assert cost["guide"]["episodes"] == [5, 5]


@pytest.mark.parametrize(("curriculum", "guide"), [("thompson", 5), ("none", 0)])
def test_what_only_measures_steers_nothing(tmp_path: Path, curriculum: str, guide: int) -> None:
    stages = ("curriculum.stages=3",) if curriculum == "thompson" else ()
    cost = train_here(tmp_path, *GUIDED, f"curriculum={curriculum}", *stages)["evaluation_cost"]
    assert cost["decision"] == {"episodes": [0, 0], "env_steps": [0, 0]}
    assert cost["guide"]["episodes"] == [guide] * 2
    assert all(n > 0 for n in cost["report"]["env_steps"])
    assert not any("decision" in record.name for record in metrics(tmp_path))
