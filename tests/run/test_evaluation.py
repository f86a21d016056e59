"""What a run says of success, with environments that speak of it in their own ways."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pytest import CaptureFixture
from small_runs import Reach, read_summary, toward_goal, train_here

from jsrl.loggers import read_records

GUIDE = ("guide=python", f"guide.target={__name__}:ahead", "curriculum=jsrl", "start=cold")
COUNTS = ("online.steps=200", "curriculum.window=1", "curriculum.stages=3", "dataset=none")


def ahead(observations: np.ndarray) -> np.ndarray:
    return toward_goal(observations)


def still(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), 2))


class Telling(gym.Wrapper[Any, Any, Any, Any]):
    """``Reach`` that tells of success in another way.

    Args:
        how: ``when_true``: only when it is; ``array``: of shape (1,), as the reward too;
            ``never``: under another name; ``nested``: in a dictionary; ``ends``: when it is true,
            in episodes that end by themselves after 30 steps.
    """

    def __init__(self, how: str) -> None:
        super().__init__(Reach())
        self.how = how

    def reset(self, **arguments: Any) -> Any:
        self.steps = 0
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = info.pop("success")
        # Its length varies, as the path that some simulators tell of.
        info["path"] = np.zeros(1 + int(10 * abs(observation[0])))
        self.steps += 1
        if self.how == "ends":
            terminated |= self.steps == 30
        if self.how in ("when_true", "ends") and success:
            info["success"] = np.bool_(True)
        if self.how == "array":
            info["success"], reward = np.array([success]), np.array([reward])
        if self.how == "never":
            info["is_success"] = success
        if self.how == "nested":
            info["task"] = {"success": success}
        return observation, reward, terminated, truncated, info


gym.register("jsrl-tests/Telling-v0", Telling, max_episode_steps=60)


def complete(directory: Path, how: str, *overrides: str) -> dict[str, Any]:
    env = ("env=gymnasium", "env.id=jsrl-tests/Telling-v0", f"+env.kwargs.how={how}")
    plain = ("learner=iql", "offline.updates=0", "online.offline_fraction=0")
    return train_here(directory, *plain, *env, *GUIDE, *COUNTS, *overrides)


@pytest.mark.parametrize(
    ("how", "key", "way"),
    [
        ("when_true", "success", "sync"),
        ("array", "success", "sync"),
        ("array", "success", "async"),
        ("nested", "task.success", "sync"),
    ],
)
def test_a_perfect_guide_has_success_one_and_the_curriculum_moves(
    tmp_path: Path, capsys: CaptureFixture[str], how: str, key: str, way: str
) -> None:
    summary = complete(
        tmp_path, how, f"env.success_key={key}", f"env.vectorisation={way}", "env.num_envs=2",
        "curriculum.tolerance=1",
    )  # fmt: skip
    assert summary["evaluation"]["guide"]["success"]["mean"] == 1.0
    assert summary["evaluation"]["guide"]["return"]["mean"] == 1.0
    # Of three stages the last one, in which the guide does not act: every success is enough, but
    # one that is not known would not be.
    assert summary["guide_steps"] == [0]
    for mode in ("combined", "exploration"):
        assert summary["evaluation"][mode]["success"]["mean"] is not None
    successes = [r.value for r in read_records(tmp_path / "metrics.jsonl") if "_success" in r.name]
    assert successes and None not in successes
    said = capsys.readouterr().out
    assert "solved none" not in said and "in no info" not in said


def test_a_guide_that_never_succeeds_has_success_zero(
    tmp_path: Path, capsys: CaptureFixture[str]
) -> None:
    summary = complete(tmp_path, "when_true", f"guide.target={__name__}:still", "online.steps=20")
    assert summary["evaluation"]["guide"]["success"]["per_seed"] == [0.0]
    said = capsys.readouterr().out
    assert said.count("env.success_key='success' was in no info") == 1
    assert "solved none of 3 episodes" in said


def test_a_key_that_is_in_no_info_is_told_once_with_what_is(
    tmp_path: Path, capsys: CaptureFixture[str]
) -> None:
    summary = complete(tmp_path, "never", "online.steps=120")
    assert summary["evaluation"]["guide"]["success"]["mean"] == 0.0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if "in no info" in row]
    assert "info had is_success, path: set env.success_key=is_success" in line
    assert "curriculum.metric=return" in line
    # The advice, followed.
    summary = complete(tmp_path / "again", "never", "env.success_key=is_success")
    assert summary["evaluation"]["guide"]["success"]["mean"] == 1.0
    assert "in no info" not in capsys.readouterr().out


def test_without_a_key_nothing_is_said_of_what_is_solved(
    tmp_path: Path, capsys: CaptureFixture[str]
) -> None:
    summary = complete(
        tmp_path, "when_true", "env.success_key=null", "curriculum.metric=return",
        f"guide.target={__name__}:still", "online.steps=20",
    )  # fmt: skip
    for measures in summary["evaluation"].values():
        assert measures["success"]["mean"] is None
    said = capsys.readouterr()
    assert "H1 is the mean length of all 3 episodes of the guide: env.success_key=null" in said.out
    for word in ("solved none", "in no info"):
        assert word not in said.out + said.err
    assert read_summary(tmp_path)["guide_steps"] == summary["guide_steps"]


def test_a_time_limit_beyond_all_memory_is_no_hindrance(
    tmp_path: Path, capsys: CaptureFixture[str]
) -> None:
    """The same run as with one that is never reached either."""
    summaries = [
        complete(tmp_path / str(limit), "ends", f"env.max_episode_steps={limit}", "env.num_envs=2")
        for limit in (40, 10**12)
    ]
    said = capsys.readouterr().out
    assert said.count("goes on for 1,000,000,000,000 steps") == said.count("goes on for") == 1
    near, far = (summary["evaluation"] for summary in summaries)
    assert near == far
    assert far["guide"]["success"]["mean"] == 1.0
    assert None not in far["exploration"]["success"]["per_seed"]


def test_the_combined_policy_is_left_out_where_nothing_goes_by_it(tmp_path: Path) -> None:
    decided = ("curriculum.interval=50", "evaluation.interval=100")
    scored = {}
    for combined in ("true", "false"):
        folder = tmp_path / combined
        complete(folder, "when_true", *decided, f"evaluation.combined={combined}")
        records = read_records(folder / "metrics.jsonl")
        scored[combined] = {
            mode: [
                (r.step, r.phase, r.value) for r in records if r.name == f"evaluation/{mode}_return"
            ]
            for mode in ("combined", "exploration")
        }
    whole, less = scored["true"], scored["false"]
    assert less["exploration"] == whole["exploration"]
    decisions = [row for row in whole["combined"] if row[0] > 0 and row[1] == "online"]
    assert less["combined"] == decisions and [row[0] for row in decisions] == [50, 100, 150, 200]
    constant = (
        "curriculum=constant",
        "curriculum.initial_guide_steps=5",
        "evaluation.interval=100",
    )
    summary = complete(tmp_path / "constant", "when_true", *constant, "evaluation.combined=false")
    assert summary["evaluation"]["combined"]["return"]["mean"] is None
    assert summary["evaluation"]["exploration"]["return"]["mean"] is not None
