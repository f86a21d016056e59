"""Whole runs of PPO: with a guide, killed and resumed, a seed alone, and from another run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from disturbances import EVALUATE, Disturbance, interrupt, kill, terminate, train_disturbed
from small_runs import (
    REACH,
    assert_same_run,
    metrics,
    newest_state,
    read_summary,
    train_here,
)

from jsrl.core.errors import UserError
from jsrl.learners.ppo import PPO
from jsrl.rollout.on_policy import OnPolicyRunner

STEP, UPDATE = (OnPolicyRunner, "step"), (PPO, "update")

ALONE = (
    *(*REACH, "dataset=none", "guide=none", "curriculum=none", "learner=ppo"),
    *("learner.rollout_length=20", "learner.batch_size=10", "learner.epochs=2"),
    *("evaluation.episodes=1", "evaluation.final_episodes=1", "evaluation.num_envs=1"),
)
GUIDED = (
    *(*ALONE, "guide=random", "curriculum=random", "curriculum.initial_guide_steps=45"),
    *("curriculum.stages=3", "seeds=[0,3]", "env.num_envs=2", "checkpoint.interval=30"),
    *("learner.learning_rate_steps=300", "online.steps=140"),
)
"""A guide that draws its actions, which acts in some episodes nearly to their end."""


def test_a_run_killed_and_stopped_anywhere_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    train_here(tmp_path / "whole", *GUIDED)
    disturbances: list[Disturbance] = [
        (STEP, 12, terminate),  # in the middle of the first rollout, and of its episodes
        (UPDATE, 5, kill),  # in the middle of an update
        (EVALUATE, 1, kill),
        (STEP, 19, interrupt),
    ]
    for disturbance in disturbances:
        train_disturbed(tmp_path / "parts", disturbance, *GUIDED)
    train_here(tmp_path / "parts", *GUIDED)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    names = {record.name for record in metrics(tmp_path / "whole") if record.value is not None}
    assert {"loss/actor", "loss/value", "policy/entropy", "policy/guide_share"} <= names
    shares = [r.value for r in metrics(tmp_path / "whole") if r.name == "policy/guide_share"]
    assert 0 < np.mean([share for share in shares if share is not None]) < 1
    # 140 steps are 3 rollouts of 2 · 20, each gone through twice in minibatches of 10.
    assert read_summary(tmp_path / "whole")["updates"] == 2 * 3 * 2 * 4


def test_a_seed_runs_the_same_alone_and_in_company(tmp_path: Path) -> None:
    train_here(tmp_path / "company", *GUIDED, "seeds=[4,0,3]", "online.steps=80")
    train_here(tmp_path / "alone", *GUIDED, "seeds=[3]", "online.steps=80")
    company, alone = (newest_state(tmp_path / name) for name in ("company", "alone"))
    for name, own in alone["policies"]["exploration"]["state"].items():
        if not name.startswith("observation"):  # not trained, and one for all seeds
            of_all = company["policies"]["exploration"]["state"][name]
            assert torch.equal(of_all[2:], own), name
    for name, own in alone["learner"]["optimiser"].items():
        assert torch.equal(company["learner"]["optimiser"][name][2:], own), name
    of_seed = [
        [r for r in metrics(tmp_path / n) if r.seed == 3 and r.value is not None]
        for n in ("company", "alone")
    ]
    assert of_seed[0] == of_seed[1]


def test_a_finished_run_goes_on_as_if_it_had_never_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is left over after the last rollout is learnt from once the next steps complete it."""
    train_here(tmp_path / "long", *ALONE, "online.steps=80")
    train_here(tmp_path / "grown", *ALONE, "online.steps=50")
    assert (
        "online.steps=50: after 2 rollouts of 20 steps in each of 1 environments come 10 more, "
        "from which nothing is learnt" in capsys.readouterr().out
    )
    train_here(tmp_path / "grown", *ALONE, "online.steps=80")
    assert "nothing is learnt" not in capsys.readouterr().out
    assert_same_run(tmp_path / "long", tmp_path / "grown")


def test_a_run_begins_from_the_networks_of_another_and_is_guided_by_it(tmp_path: Path) -> None:
    train_here(tmp_path / "first", *ALONE, "seeds=[0,3]", "online.steps=60")
    second = (*ALONE, "guide=run", f"guide.path={tmp_path / 'first'}", "seeds=[3]")
    train_here(tmp_path / "second", *second, "start=warm", "online.steps=20")
    first = newest_state(tmp_path / "first")["learner"]["networks"]
    final = newest_state(tmp_path / "second")["learner"]
    assert final["updates"] == 4
    state = newest_state(tmp_path / "second")["policies"]["guide"]["state"]
    for name, own in state.items():
        if name in ("observation_mean", "observation_std"):
            continue
        assert torch.equal(own, first[f"actor.{name}"][1:]), name


def test_a_policy_that_would_act_otherwise_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    """An IQL's actor passes its mean through a tanh, which PPO's does not unless it is asked to."""
    iql = (*REACH, "dataset=none", "guide=none", "curriculum=none", "online.steps=60")
    train_here(tmp_path / "first", *iql)
    naive = (*ALONE, "guide=run", f"guide.path={tmp_path / 'first'}", "start=naive")
    naive = (*naive, "learner.hidden=[16,16]", "online.steps=20")
    with pytest.raises(UserError, match=r"tanh_mean is True.*set learner.tanh_mean to the guide's"):
        train_here(tmp_path / "second", *naive)
    train_here(tmp_path / "second", *naive, "learner.tanh_mean=true")
    assert read_summary(tmp_path / "second")["updates"] == 4


def test_statistics_of_observations_go_with_the_networks_to_another_run(tmp_path: Path) -> None:
    normalising = (*ALONE, "learner.normalise_observations=true")
    train_here(tmp_path / "first", *normalising, "seeds=[0,3]", "online.steps=40")
    first = newest_state(tmp_path / "first")["learner"]
    assert first["observed"]["count"].tolist() == [[40], [40]]
    plain = (*ALONE, "guide=run", f"guide.path={tmp_path / 'first'}", "seeds=[3]", "start=warm")
    plain = (*plain, "online.steps=20")
    advice = r"normalise_observations is True.*set learner.normalise_observations to the guide's"
    with pytest.raises(UserError, match=advice):
        train_here(tmp_path / "second", *plain)
    train_here(tmp_path / "second", *plain, "learner.normalise_observations=true")
    second = newest_state(tmp_path / "second")
    assert second["learner"]["observed"]["count"].tolist() == [[60]]
    for name in ("observation_mean", "observation_std"):
        guides, own = second["policies"]["guide"]["state"][name], first["networks"][f"actor.{name}"]
        assert torch.equal(guides, own[1:])


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_environments_of_real_actions_and_of_choices_run(tmp_path: Path, env_id: str) -> None:
    # The monitor looks into the policy while it explores.
    monitor = f"monitor={'on' if env_id == 'CartPole-v1' else 'off'}"
    summary = train_here(
        tmp_path / "run",
        *(*ALONE, f"env.id={env_id}", "env.success_key=null", "online.steps=80"),
        *("env.score_range=null", "evaluation.interval=80", monitor),
    )
    assert summary["failed_seeds"] == []
    assert summary["updates"] == 16
