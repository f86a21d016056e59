"""Whole runs with a rule of who acts: resumed, evaluated again, of the user's own, and refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from disturbances import Disturbance, kill, terminate, train_disturbed
from small_runs import (
    QUIET,
    REACH,
    assert_same_run,
    call,
    composed,
    metrics,
    read_summary,
    train_here,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jsrl.core.errors import UserError
from jsrl.rollout.episode_shares import NAMES
from jsrl.rollout.online import OnlineRunner
from jsrl.run.origin import anchor, command_folder

TASK = (
    *(*REACH, "dataset=none", "curriculum=none", "guide=random", "online.offline_fraction=0"),
    *("online.steps=120", "online.updates_per_step=0.2", "evaluation.interval=60"),
)
ALTERNATE = Path(__file__).parents[2] / "scripts/examples/arbiter_alternate.py"


def shares(directory: Path, phase: str = "online") -> list[float]:
    found = [r for r in metrics(directory) if r.name == "collect/explorer_share"]
    return [r.value for r in found if r.phase == phase and r.value is not None]


@pytest.mark.parametrize(
    "chosen",
    [
        ("arbiter=calf", "arbiter.commitment=2", "seeds=[0,3]", "env.num_envs=2"),
        ("arbiter=roll_back", "arbiter.window=1", "checkpoint.interval=30"),
    ],
)
def test_a_run_stopped_anywhere_ends_as_an_uninterrupted_one(
    tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    task = (*TASK, *chosen, "online.critic_warmup_steps=20", "logger.interval=10")
    train_here(tmp_path / "whole", *task)
    step = (OnlineRunner, "step")
    disturbances: list[Disturbance] = [
        (step, 7, terminate),
        (step, 25, kill),
    ]
    for disturbance in disturbances:
        train_disturbed(tmp_path / "parts", disturbance, *task)
    train_here(tmp_path / "parts", *task)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert set(shares(tmp_path / "whole", "critic_warmup")) == {0.0}
    assert any(0 < share < 1 for share in shares(tmp_path / "whole"))


def test_the_final_evaluation_is_repeated_from_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where the rule asks the critics, which are made again from the checkpoint."""
    train_here(tmp_path, *TASK, "arbiter=ibrl")
    assert call(monkeypatch, capfd, "evaluate", f"run={tmp_path}").status == 0
    again: dict[str, Any] = json.loads((tmp_path / "evaluation.json").read_text())
    assert again["evaluation"] == read_summary(tmp_path)["evaluation"]


def test_a_rule_of_ones_own_takes_ten_lines(tmp_path: Path) -> None:
    target = (f"arbiter.target={ALTERNATE}:Alternate", "arbiter.arguments.turn=3")
    train_here(tmp_path, *TASK, "arbiter=custom", *target, "logger.interval=30")
    assert len(shares(tmp_path)) == 4
    assert all(0.3 < share < 0.7 for share in shares(tmp_path))


def test_a_rule_of_ones_own_is_found_from_the_folder_of_its_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class Own: ...")
    chosen = ("guide=random", "curriculum=none", "arbiter=custom", "arbiter.target=own.py:Own")
    config, plain = composed(*REACH, "dataset=none", "run_dir=runs/one", *chosen)
    assert command_folder(tmp_path / "runs/one", plain) == tmp_path
    anchor(config, tmp_path)
    assert getattr(config.arbiter, "target") == f"{tmp_path / 'own.py'}:Own"  # noqa: B009


def test_tensorboard_shows_the_share_over_the_episode(tmp_path: Path) -> None:
    train_here(tmp_path, *TASK, "arbiter=warm_up", "arbiter.steps=60", "logger=tensorboard")
    found = {(r.name, r.step): r.value for r in metrics(tmp_path) if r.name in NAMES}
    # The guide acts in the first 60 steps of training.
    assert [found[NAMES[0], step] for step in (40, 120)] == [0.0, 1.0]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()
    assert set(NAMES) & set(board["scalars"])
    assert board["images"] == ["explorer_share/over_the_episode"]


REFUSED = [
    (("learner=bc", "arbiter=pex", "online.steps=0"), ["arbiter=pex needs the values Q", "bc"]),
    (
        ("learner=ppo", "arbiter=ibrl"),
        ["arbiter=ibrl needs the values Q(s, a) of actions", "learner=ppo", "iql", "sac", "dqn"],
    ),
    (("learner=dqn", "arbiter=cheq"), ["arbiter=cheq", "several critics", "learner=dqn", "sac"]),
    (
        ("learner=sac", "learner.critics=1", "arbiter=cheq"),
        ["arbiter=cheq", "learner.critics=1", "learner.critics=2"],
    ),
    (("arbiter=coin", "curriculum=random"), ["arbiter=coin", "curriculum=random", "=none"]),
    (("arbiter=coin", "guide=none"), ["arbiter=coin", "guide=none"]),
    (("arbiter=roll_back", "env.success_key=null"), ["arbiter.metric=return"]),
    (("arbiter=custom",), ["arbiter.target is not set"]),
    (("arbiter=custom", "arbiter.target=json:JSONEncoder"), ["no rule", "JSONEncoder"]),
    (("arbiter=coin", "arbiter.final_probability=2"), ["arbiter.final_probability=2"]),
]


@pytest.mark.parametrize(("chosen", "words"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, chosen: tuple[str, ...], words: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        train_here(tmp_path, *TASK, *chosen)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_an_option_of_another_rule_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = ("train", *QUIET, *(t for t in TASK if "offline_fraction" not in t), "arbiter=coin")
    outcome = call(monkeypatch, capfd, *task, "arbiter.bound=0.2", f"run_dir={tmp_path / 'run'}")
    assert outcome.status == 2
    assert "arbiter.bound=0.2 is not used with arbiter=coin" in outcome.err
    assert "arbiter=residual" in outcome.err


@pytest.mark.parametrize("arbiter", ["residual", "cheq"])
def test_a_rule_that_mixes_is_refused_where_actions_are_choices(
    tmp_path: Path, arbiter: str
) -> None:
    task = ("env=gymnasium", "env.id=CartPole-v1", "env.success_key=null", "learner=sac")
    rest = ("dataset=none", "curriculum=none", "guide=random", f"arbiter={arbiter}")
    with pytest.raises(UserError, match=f"arbiter={arbiter} mixes actions.*takes choices"):
        train_here(tmp_path, *task, *rest, "curriculum.metric=return")


@pytest.mark.parametrize("learner", ["sac", "td3", "awac", "ppo"])
def test_other_learners_can_be_led_by_a_rule(tmp_path: Path, learner: str) -> None:
    """The learner from rollouts, which has V alone, leaves out what the guide had a share in."""
    arbiter = "calf" if learner == "ppo" else "pex"
    sizes = ("learner.rollout_length=20", "learner.batch_size=10") if learner == "ppo" else ()
    train_here(tmp_path, *TASK, f"learner={learner}", f"arbiter={arbiter}", *sizes)
    assert any(0 < share < 1 for share in shares(tmp_path))
