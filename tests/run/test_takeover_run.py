"""Whole runs in which the guide's own values, or an alarm on the inputs, settle who acts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from small_runs import (
    REACH,
    Reach,
    call,
    metrics,
    read_summary,
    toward_goal,
    train_here,
    write_reach_data,
)

from jsrl.core.errors import UserError
from jsrl.core.transitions import TransitionData
from jsrl.datasets import save_hdf5

ONLINE = (
    *("curriculum=none", "online.steps=40", "online.updates_per_step=0.2", "offline.updates=10"),
    *("env.max_episode_steps=15", "evaluation.interval=100", "evaluation.episodes=1"),
    *("online.learning_starts=10", "online.offline_fraction=0.5", "learner=iql", "guide=offline"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    path = write_reach_data(tmp_path_factory.mktemp("data") / "reach.hdf5")
    yield (*REACH, "dataset=d4rl", f"dataset.path={path}")


@pytest.fixture(scope="module")
def guide(
    tmp_path_factory: pytest.TempPathFactory, data: tuple[str, ...]
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A run of two seeds whose own guide is pre-trained on the data."""
    folder = tmp_path_factory.mktemp("guide")
    train_here(folder, *data, *ONLINE, "online.steps=0", "seeds=[0,3]")
    yield folder, data


def shares(directory: Path) -> list[float]:
    found = [r for r in metrics(directory) if r.name == "collect/explorer_share"]
    return [r.value for r in found if r.phase == "online" and r.value is not None]


def test_the_guide_of_a_run_gives_the_values_that_it_gave_there(
    tmp_path: Path,
    guide: tuple[Path, tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Pre-trained anew, or taken from the run that did it: both decide alike, also afterwards."""
    folder, data = guide
    task = (*data, *ONLINE, "arbiter=q2rl", "seeds=[3,0]", "logger.interval=20")
    train_here(tmp_path / "anew", *task)
    taken = ("guide=run", f"guide.path={folder}", "guide.which=guide")
    train_here(tmp_path / "taken", *task, *taken)
    assert shares(tmp_path / "anew") == shares(tmp_path / "taken")
    evaluated = [read_summary(tmp_path / run)["evaluation"] for run in ("anew", "taken")]
    assert evaluated[0] == evaluated[1]
    for run in ("anew", "taken"):
        assert call(monkeypatch, capfd, "evaluate", f"run={tmp_path / run}").status == 0
        again: dict[str, Any] = json.loads((tmp_path / run / "evaluation.json").read_text())
        assert again["evaluation"] == read_summary(tmp_path / run)["evaluation"]


def test_guides_without_values_of_their_own_are_refused_with_advice_that_works(
    tmp_path: Path, guide: tuple[Path, tuple[str, ...]]
) -> None:
    folder, data = guide
    task = (*data, *ONLINE, "arbiter=q2rl")
    cloned, copied = tmp_path / "cloned", tmp_path / "copied.pt"
    train_here(cloned, *data, "learner=bc", "curriculum=none", "guide=offline", "online.steps=0")
    copied.write_bytes(next((folder / "checkpoints").glob("*.pt")).read_bytes())
    taken = ("guide=run", f"guide.path={folder}", "guide.which=guide")
    refused: list[tuple[tuple[str, ...], list[str]]] = [
        (("guide=random",), ["arbiter=q2rl", "guide=random", "guide=offline or guide=run"]),
        (("learner=td3_bc",), ["arbiter=q2rl", "DeterministicPolicy", "no density", "iql"]),
        (
            ("guide=run", f"guide.path={cloned}", "guide.which=guide", "guide.seed=0"),
            ["needs the values of states", "BC", "learner.temperature=0"],
        ),
        ((*taken, "learner.reward_scale=2"), ["rewards", "(1.0, 0.0)", "(2.0, 0.0)"]),
        ((*taken, "learner.discount=0.9"), ["learner.discount=0.99", "it is 0.9"]),
        ((*taken, f"guide.path={copied}"), ["copied.pt", "config.yaml", "run directory"]),
    ]
    for chosen, words in refused:
        with pytest.raises(UserError) as error:
            train_here(tmp_path / "run", *task, *chosen)
        assert "\n" not in str(error.value)
        assert [word for word in words if word not in str(error.value)] == [], str(error.value)
    advised = tmp_path / "advised"
    train_here(advised, *data, *ONLINE, "learner.temperature=0", "online.steps=0", "seeds=[0]")
    ended = train_here(
        tmp_path / "run", *task, "guide=run", f"guide.path={advised}", "guide.which=guide"
    )
    assert ended["env_steps"] == 40


class Sensed(Reach):
    """``Reach`` with a second sensor of the position, behind the first one, which may fail.

    Args:
        fails: whether the first is stuck, at a number that it never shows otherwise.
    """

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.observation_space = gym.spaces.Box(-2, 2, (6,), np.float64)
        self.fails = fails

    def _observe(self) -> Any:
        first = np.full(2, 1.5) if self.fails else self.position
        return np.concatenate([first, self.goal, self.position])


gym.register("jsrl-tests/Sensed-v0", Sensed, max_episode_steps=60)


def toward(observations: np.ndarray) -> np.ndarray:
    """A guide that solves it by goal and second sensor, and has not got the first."""
    return toward_goal(observations[:, [2, 3, 0, 1]])


@pytest.fixture(scope="module")
def sensed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Episodes of 30 steps of random walks, in which nothing fails."""
    generator, env, rows = np.random.default_rng(0), gym.make("jsrl-tests/Sensed-v0"), []
    for episode in range(40):
        observation, _ = env.reset(seed=episode)
        heading = generator.uniform(-1, 1, 2)
        for step in range(30):
            action = (heading + generator.normal(0, 0.7, 2)).clip(-1, 1).astype(np.float32)
            successor, reward, terminated, _, _ = env.step(action)
            rows.append((observation, action, reward, successor, terminated, step == 29))
            observation = successor
            if terminated:
                break
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    path = tmp_path_factory.mktemp("data") / "sensed.hdf5"
    floats = [column.astype(np.float32) for column in columns[:4]]
    save_hdf5(path, TransitionData(*floats, *columns[4:]), {}, {})
    yield (
        *("env=gymnasium", "env.id=jsrl-tests/Sensed-v0", "env.score_range=[0,1]"),
        *("dataset=d4rl", f"dataset.path={path}", "curriculum=none", "arbiter=monitor"),
        *("guide=python", f"guide.target={__file__}:toward", "guide.observation=[2,3,4,5]"),
        *("learner=iql", "arbiter.window=4", "online.updates_per_step=0.1"),
        *("evaluation.interval=999", "evaluation.episodes=1", "env.max_episode_steps=30"),
    )


def test_the_guide_takes_over_where_a_sensor_fails_that_it_does_not_share(
    tmp_path: Path, sensed: tuple[str, ...]
) -> None:
    task = (*sensed, "online.steps=120", "evaluation.final_episodes=6", "seeds=[0]")
    ended = {
        fails: train_here(tmp_path / str(fails), *task, f"env.kwargs.fails={fails}")
        for fails in (True, False)
    }
    faulted, sound = (ended[fails]["evaluation"] for fails in (True, False))
    assert np.mean(shares(tmp_path / "False")) > 0.8 > 0.6 > np.mean(shares(tmp_path / "True"))
    lost = sound["combined"]["success"]["mean"] - faulted["exploration"]["success"]["mean"]
    regained = faulted["combined"]["success"]["mean"] - faulted["exploration"]["success"]["mean"]
    assert regained > 0.5 * lost


def test_what_the_monitor_cannot_begin_with_is_refused(
    tmp_path: Path, sensed: tuple[str, ...]
) -> None:
    refused = {
        ("dataset=none", "online.offline_fraction=0", "learner=sac"): "arbiter.trust=training",
        ("arbiter.episodes=60",): "arbiter.episodes=60 are to be trusted, but the dataset has 40",
    }
    for chosen, words in refused.items():
        kept = [t for t in sensed if not (t.startswith("dataset.path") and len(chosen) > 1)]
        with pytest.raises(UserError) as error:
            train_here(tmp_path, *kept, "online.steps=20", *chosen)
        assert words in str(error.value)
