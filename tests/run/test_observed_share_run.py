"""Whole runs whose explorer observes its share: resumed, evaluated again, deployed, refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disturbances import Disturbance, kill, terminate, train_disturbed
from small_runs import (
    REACH,
    assert_same_run,
    call,
    newest_state,
    read_summary,
    train_here,
    write_reach_data,
)

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.networks.saved_policies import build_policy
from jsrl.rollout.online import OnlineRunner
from jsrl.run.saved import load_policy
from jsrl.run.stored_config import complete

TASK = (
    *(*REACH, "dataset=d4rl", "curriculum=none", "guide=constant", "guide.action=[0.3,-0.2]"),
    *("learner=sac", "online.offline_fraction=0.5", "online.steps=100", "evaluation.interval=100"),
    *("online.learning_starts=20", "online.updates_per_step=0.2", "monitor=off"),
    *("arbiter=cheq", "arbiter.warmup_steps=10", "arbiter.lowest_spread=0"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_reach_data(tmp_path_factory.mktemp("data") / "reach.hdf5")
    return f"dataset.path={path}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    """A finished run of two seeds."""
    folder = tmp_path_factory.mktemp("run")
    train_here(folder, *TASK, data, "seeds=[0,3]")
    return folder


def test_a_run_stopped_anywhere_ends_as_an_uninterrupted_one(tmp_path: Path, data: str) -> None:
    """Episodes are cut in two, and so is a share that stands for several steps."""
    task = (*TASK, data, "seeds=[0,3]", "env.num_envs=2", "online.critic_warmup_steps=20")
    task = (*task, "arbiter.commitment=2")
    train_here(tmp_path / "whole", *task)
    step = (OnlineRunner, "step")
    disturbances: list[Disturbance] = [(step, 7, terminate), (step, 25, kill)]
    for disturbance in disturbances:
        train_disturbed(tmp_path / "parts", disturbance, *task)
    train_here(tmp_path / "parts", *task)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def critics_spread(state: dict[str, Any], seed: int, rows: np.ndarray) -> np.ndarray:
    """Of the critics of a seed, as they are written down in a checkpoint."""
    networks = state["learner"]["networks"]
    layers = sorted({n.rsplit(".", 1)[0] for n in networks if n.startswith("critic.")})
    x = np.repeat(rows[None], 2, 0)
    for index, name in enumerate(layers):
        weight, bias = (networks[f"{name}.{n}"][seed].numpy() for n in ("weight", "bias"))
        x = x @ weight + bias
        x = np.maximum(x, 0) if index < len(layers) - 1 else x
    return np.std(x[..., 0], 0)


def test_what_the_critic_sees_follows_from_its_own_spread_a_step_before(
    tmp_path: Path, data: str
) -> None:
    """Worked out once more from the stored transitions, by critics that do not learn."""
    train_here(tmp_path, *TASK, data, "seeds=[0,3]", "online.updates_per_step=0")
    state = newest_state(tmp_path)
    rows = state["runner"]["buffer"]["rows"].numpy()
    assert rows.shape[-1] == 2 * 5 + 2 + 7 + 2
    guide = np.array([0.3, -0.2])
    for seed in range(2):
        column, after = rows[seed, :, 4], rows[seed, :, 11]
        share = rows[seed, :, 12 + 5]
        assert np.array_equal(column, share) and (column[:10] == 0).all()
        done = rows[seed, :, 5:7]
        for t in range(10, len(rows[seed])):
            own = (done[t] - (1 - column[t]) * guide) / column[t]
            spread = critics_spread(state, seed, np.concatenate([rows[seed, t, :5], own])[None])
            expected = 1 - 0.8 * min(float(spread[0]) / 0.15, 1)
            assert after[t] == pytest.approx(expected, abs=1e-3)
            ended = rows[seed, t - 1, 14] or rows[seed, t - 1, 15]
            assert column[t] == pytest.approx(0.2 if ended else after[t - 1], abs=1e-6)


def test_a_seed_is_bitwise_the_same_alone_and_in_company(
    tmp_path: Path, data: str, run: Path
) -> None:
    train_here(tmp_path, *TASK, data, "seeds=[3]")
    alone, together = (newest_state(p)["runner"]["buffer"]["rows"] for p in (tmp_path, run))
    assert torch.equal(alone[0], together[1])


def test_the_final_evaluation_is_repeated_from_the_checkpoint(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, capfd, "evaluate", f"run={run}").status == 0
    again = json.loads((run / "evaluation.json").read_text())
    assert again["evaluation"] == read_summary(run)["evaluation"]


def test_the_finished_policy_observes_what_the_environment_does(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It acts as the one that was learnt does with a share of 1, bit by bit."""
    state = newest_state(run)
    stored = state["policies"]["exploration"]
    arguments = {**stored["description"]["arguments"], "observation_size": 5, "appended": []}
    learnt = build_policy({**stored["description"], "arguments": arguments}, stored["state"])
    vectors = torch.randn(1, 6, 4)
    with_one = Observation(torch.cat([vectors, torch.ones(1, 6, 1)], -1))
    policy = load_policy(run, 3)
    assert torch.equal(policy.act(vectors, None), learnt.select(1).act(with_one, None))
    assert policy.observation_size == 4 and policy.predict(vectors[0].numpy())[0].shape == (6, 2)
    assert call(monkeypatch, capfd, "export", f"run={run}").status == 0
    described = json.loads((run / "export/exploration_seed3.json").read_text())
    assert described["observation_size"] == 4


def test_the_run_guides_another_one(tmp_path: Path, run: Path) -> None:
    guided = ("guide=run", f"guide.path={run}", "arbiter=coin", "dataset=none", "learner=sac")
    fresh = [word for word in TASK if not word.startswith(("guide", "arbiter", "dataset"))]
    train_here(tmp_path, *fresh, *guided, "online.offline_fraction=0", "online.steps=20")


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (("guide=offline", "arbiter=cheq"), ["guide=offline", "arbiter.observe_share=false"]),
        (("guide=run", "guide.path={run}", "arbiter=coin"), ["arbiter=coin", "start=cold"]),
    ],
)
def test_networks_without_the_column_are_not_copied(
    tmp_path: Path, data: str, run: Path, chosen: tuple[str, ...], words: list[str]
) -> None:
    fresh = [word for word in TASK if not word.startswith(("guide", "arbiter"))]
    given = [word.format(run=run) for word in chosen]
    with pytest.raises(UserError, match=r"start=warm copies networks") as error:
        train_here(tmp_path / "run", *fresh, data, *given, "start=warm")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_warm_start_from_a_run_with_the_column_begins_with_its_networks(
    tmp_path: Path, data: str, run: Path
) -> None:
    fresh = [word for word in TASK if not word.startswith("guide")]
    begun = ("guide=run", f"guide.path={run}", "start=warm", "online.updates_per_step=0")
    train_here(tmp_path, *fresh, data, *begun, "seeds=[3]", "online.steps=10")
    ours, theirs = (newest_state(p)["policies"]["exploration"]["state"] for p in (tmp_path, run))
    for name, value in ours.items():
        if name.startswith("mlp"):
            assert torch.equal(value[0], theirs[name][1])


def test_runs_of_before_did_not_observe_it() -> None:
    stored = {"arbiter": {"kind": "cheq", "warmup_steps": 3}}
    assert complete(stored).arbiter.observe_share is False
    stored["arbiter"]["observe_share"] = True
    assert complete(stored).arbiter.observe_share is True
