"""Complete runs of each kind, from data to summary."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from small_runs import (
    QUIET,
    REACH,
    TINY,
    composed,
    leaves,
    metrics,
    newest_state,
    read_summary,
    train_here,
    write_reach_data,
)

from jsrl.core.checkpoint import checkpoint_paths, load_checkpoint
from jsrl.core.errors import UserError
from jsrl.datasets import load_hdf5
from jsrl.loggers import read_records
from jsrl.rollout.packing import RowLayout
from jsrl.run.summary import MEASURES, MODES
from jsrl.run.train import train

KEYS = {
    *("experiment", "seeds", "env_steps", "updates", "wall_seconds", "updates_per_second"),
    *("env_steps_per_second", "versions", "evaluation"),
}
STATISTICS = {"mean", "iqm", "ci95", "per_seed"}


@dataclass(frozen=True)
class Halving:
    """A user's curriculum: h halves at every evaluation."""

    initial_guide_steps: int
    best: float
    factor: int = 2
    stage: int = 0

    def guide_steps(self, streams: Any) -> int:
        return self.initial_guide_steps // self.factor**self.stage

    def advance(self, evaluation: float, step: int) -> Self:
        return type(self)(self.initial_guide_steps, self.best, self.factor, self.stage + 1)


class Forgetful(Halving):
    """One that a checkpoint cannot keep."""

    def __init__(self, initial_guide_steps: int, best: float) -> None:
        super().__init__(initial_guide_steps, best)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"dataset.path={write_reach_data(tmp_path_factory.mktemp('data') / 'reach.hdf5')}"


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    """A finished run of two seeds whose policies can guide others."""
    directory = tmp_path_factory.mktemp("guided") / "run"
    train_here(
        directory, *REACH, "dataset=d4rl", data, "guide=offline", "seeds=[3,5]", "online.steps=60"
    )
    return directory


def complete(directory: Path, *overrides: str) -> dict[str, Any]:
    """Train, with few updates unless they matter, and check what every finished run has."""
    summary = train_here(directory, *REACH, "online.updates_per_step=0.2", *overrides)
    assert summary == read_summary(directory)
    assert set(summary) >= KEYS
    seeds = summary["seeds"]
    assert set(summary["evaluation"]) == set(MODES)
    for measures in summary["evaluation"].values():
        assert set(measures) == set(MEASURES)
        for values in measures.values():
            assert set(values) >= STATISTICS
            assert len(values["per_seed"]) == len(seeds)
    for record in read_records(directory / "metrics.jsonl"):
        assert record.phase in ("offline", "critic_warmup", "online", "final")
        assert record.seed in seeds or record.name.startswith(("throughput/", "memory/"))
        assert record.value is None or math.isfinite(record.value)
    assert (directory / "config.yaml").exists()
    assert (directory / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    return summary


def names(directory: Path, phase: str) -> set[str]:
    return {record.name for record in metrics(directory) if record.phase == phase}


def series(directory: Path, name: str, phase: str = "online") -> list[tuple[int, float | None]]:
    return [(r.step, r.value) for r in metrics(directory) if (r.name, r.phase) == (name, phase)]


def test_jump_start_rl_from_data_to_summary(tmp_path: Path, data: str) -> None:
    summary = complete(
        tmp_path, "dataset=d4rl", data, "guide=offline", "curriculum=jsrl",
        "curriculum.initial_guide_steps=40", "curriculum.stages=4", "curriculum.window=1",
        "curriculum.tolerance=1", "seeds=[0,1]", "logger=tensorboard",
        "online.updates_per_step=1",
    )  # fmt: skip
    assert summary["experiment"] is None
    assert summary["env_steps"] == 2 * 300
    assert summary["updates"] == 2 * (30 + 300 - 50)
    assert summary["failed_seeds"] == []
    assert summary["dataset"] == load_hdf5(data.partition("=")[2]).fingerprint
    assert names(tmp_path, "offline") >= {"loss/actor", "loss/critic", "loss/value", "value/v"}
    assert names(tmp_path, "online") >= {
        *("loss/actor", "loss/critic", "loss/value", "weight/max", "advantage/mean"),
        *("collect/guide_fraction", "collect/return", "collect/success", "collect/length"),
        *("curriculum/guide_steps", "curriculum/stage"),
        *(f"evaluation/{mode}_{measure}" for mode in MODES for measure in MEASURES),
    }
    # Every evaluation is within such a tolerance: a stage each, and none after the last.
    stages = [value for _, value in series(tmp_path, "curriculum/stage")][2::2]
    assert stages == sorted(stages)
    assert stages[-1] == 3
    assert series(tmp_path, "curriculum/guide_steps")[-1] == (300, 0)
    assert summary["guide_steps"] == [0, 0]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    # h is 0: what is combined is the exploration-policy alone.
    assert summary["evaluation"]["combined"] == summary["evaluation"]["exploration"]


def test_the_normalised_score_places_a_measure_in_its_range(tmp_path: Path) -> None:
    solved = complete(
        tmp_path / "solved", "guide=python", "guide.target=small_runs:toward_goal",
        "curriculum=constant", "curriculum.guide_steps=60", "online.offline_fraction=0",
        "offline.updates=0", "env.score_range=[0.5,1]", "online.steps=60",
    )["evaluation"]  # fmt: skip
    assert solved["guide"]["success"]["mean"] == 1
    assert solved["guide"]["normalized_score"]["mean"] == 100
    assert solved["combined"] == solved["guide"]
    low = solved["exploration"]["return"]["mean"]
    assert solved["exploration"]["normalized_score"]["mean"] == pytest.approx(200 * (low - 0.5))


STARTS = {
    "cold": ("guide=offline", "start=cold"),
    "warm": ("guide=offline", "start=warm"),
    "naive": ("guide=offline", "start=naive"),
    "naive and critic warm-up": (
        *("guide=offline", "start=naive", "online.critic_warmup_steps=60"),
        "online.updates_per_step=1",
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start_copies_of_the_guide_what_it_says(tmp_path: Path, data: str, name: str) -> None:
    overrides = ("dataset=d4rl", data, *STARTS[name], "online.steps=0", "online.learning_starts=0")
    complete(tmp_path, *overrides)
    state = newest_state(tmp_path)
    guide, own = state["guide_learner"]["networks"], state["learner"]["networks"]
    same = {
        part: all(torch.equal(guide[key], own[key]) for key in own if key.startswith(part))
        for part in ("actor", "critic", "target_critic", "value")
    }
    copied = {"cold": (False, False), "warm": (True, True)}.get(name, (True, False))
    assert (same["actor"], same["critic"]) == copied
    assert same["value"] == same["target_critic"] == copied[1]
    if name.endswith("warm-up"):
        assert state["runner"]["updates"] == 60
        assert names(tmp_path, "critic_warmup") >= {"loss/critic", "collect/guide_fraction"}
        assert {v for _, v in series(tmp_path, "collect/guide_fraction", "critic_warmup")} == {1}


CURRICULA = {
    "random": ("curriculum=random", "curriculum.initial_guide_steps=40", "curriculum.stages=2"),
    "constant": ("curriculum=constant", "curriculum.guide_steps=10"),
    "none": ("curriculum=none",),
    "custom": (
        "curriculum=custom",
        f"curriculum.target={__name__}:Halving",
        "curriculum.arguments.factor=4",
        "curriculum.initial_guide_steps=32",
    ),
}


@pytest.mark.parametrize("name", CURRICULA)
def test_a_curriculum_decides_how_long_the_guide_acts(tmp_path: Path, name: str) -> None:
    complete(
        tmp_path, "guide=python", f"guide.target={__name__}:idle", *CURRICULA[name],
        "online.offline_fraction=0", "offline.updates=0", "online.steps=240", "env.num_envs=2",
    )  # fmt: skip
    state = newest_state(tmp_path)
    rows = state["runner"]["buffer"]["rows"][0]
    acted = rows[:, RowLayout(4, 2, chooses=False).column("by_guide")].view(
        -1, 2
    )  # [steps, environments]
    steps = {"random": {0, 20}, "constant": {10}, "none": {0}, "custom": {32, 8, 2, 0}}[name]
    assert set(state["runner"]["collector"]["guide_steps"].tolist()) <= steps
    assert name == "random" or bool(acted[0].all()) == (name != "none")
    if name == "constant":
        assert acted[:10].all()
        assert not acted[10:20].any()
    if name == "custom":
        assert series(tmp_path, "curriculum/guide_steps")[-1] == (200, 32 // 4**3)
        assert [curriculum["stage"] for curriculum in state["curricula"]] == [4]


def idle(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), 2))


def test_a_curriculum_that_a_checkpoint_cannot_keep_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Forgetful' must make a dataclass of plain values"):
        train_here(
            tmp_path / "run", *REACH, "guide=python", f"guide.target={__name__}:idle",
            "curriculum=custom", f"curriculum.target={__name__}:Forgetful",
            "online.offline_fraction=0",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_behaviour_cloning_is_offline_alone(tmp_path: Path, data: str) -> None:
    summary = complete(
        tmp_path,
        "learner=bc",
        "dataset=d4rl",
        data,
        "guide=offline",
        "online.steps=0",
        "start=warm",
    )
    assert summary["updates"] == 30
    assert summary["env_steps"] == 0
    assert summary["evaluation"]["exploration"] == summary["evaluation"]["guide"]


def test_no_offline_updates_leave_the_guide_as_it_was_drawn(tmp_path: Path, data: str) -> None:
    summary = complete(
        tmp_path, "dataset=d4rl", data, "guide=offline", "offline.updates=0", "online.steps=70"
    )
    assert summary["updates"] == 4
    assert names(tmp_path, "offline") == set()


def test_without_guide_and_data_there_is_nothing_to_say_of_a_guide(tmp_path: Path) -> None:
    summary = complete(
        tmp_path, "offline.updates=0", "online.offline_fraction=0", "online.steps=90"
    )
    for measure in MEASURES:
        assert summary["evaluation"]["guide"][measure]["mean"] is None
        assert summary["evaluation"]["guide"][measure]["per_seed"] == [None]
    assert summary["evaluation"]["combined"] == summary["evaluation"]["exploration"]


def test_another_runs_policies_guide_seed_by_seed_or_one_for_all(
    tmp_path: Path, guided: Path
) -> None:
    base = ("guide=run", f"guide.path={guided}", "online.offline_fraction=0", "offline.updates=0")
    base = (*base, "curriculum=jsrl", "online.steps=60", "start=warm", "online.learning_starts=99")
    complete(tmp_path / "matched", *base, "seeds=[5,3]")
    complete(tmp_path / "one", *base, "seeds=[8,9]", "guide.seed=5")
    source = newest_state(guided)["policies"]["exploration"]["state"]
    for name, rows in (("matched", [1, 0]), ("one", [1, 1])):
        state = newest_state(tmp_path / name)
        for policy in ("guide", "exploration"):  # nothing was learnt after the warm start
            copied = state["policies"][policy]["state"]
            weights = [key for key in copied if key.endswith("weight")]
            assert weights
            assert all(torch.equal(copied[key], source[key][rows]) for key in weights)
    with pytest.raises(UserError, match=r"has no seed 4; it has \[3, 5\]"):
        train_here(tmp_path / "absent", *REACH, *base, "seeds=[4]")


@pytest.mark.parametrize("fraction", ["0", "1", "merged"])
def test_any_share_of_offline_data(tmp_path: Path, data: str, fraction: str) -> None:
    complete(
        tmp_path, "dataset=d4rl", data, "guide=offline", f"online.offline_fraction={fraction}",
        "online.steps=90",
    )  # fmt: skip
    names_of_draws = {name for name, _ in leaves(newest_state(tmp_path)["runner"]["streams"])}
    drawn = {name.rpartition("_")[2] for name in names_of_draws if "minibatch" in name}
    assert drawn == {{"0": "online", "1": "offline"}.get(fraction, fraction)}


def test_environments_in_subprocesses_give_the_same_run(tmp_path: Path) -> None:
    plain = ("offline.updates=0", "online.offline_fraction=0", "online.steps=100", "env.num_envs=3")
    summaries = [
        complete(tmp_path / way, *plain, f"env.vectorisation={way}") for way in ("sync", "async")
    ]
    assert summaries[0]["env_steps"] == summaries[1]["env_steps"] == 102
    assert metrics(tmp_path / "sync") == metrics(tmp_path / "async")


def test_where_success_is_undefined_it_is_null_and_the_curriculum_goes_by_the_return(
    tmp_path: Path,
) -> None:
    target = f"guide.target={__name__}:swing"
    summary = complete(
        tmp_path, "env.id=Pendulum-v1", "env.success_key=null", "env.score_range=null",
        "guide=python", target, "curriculum=jsrl", "curriculum.metric=return",
        "curriculum.tolerance=5", "curriculum.window=1", "curriculum.stages=3",
        "online.offline_fraction=0", "offline.updates=0",
    )  # fmt: skip
    for measures in summary["evaluation"].values():
        assert measures["success"]["per_seed"] == [None]
        assert measures["normalized_score"]["mean"] is None
        assert measures["return"]["mean"] < 0
        assert measures["length"]["mean"] == 60
    assert summary["guide_steps"] == [0]
    assert {value for _, value in series(tmp_path, "evaluation/combined_success")} == {None}


def swing(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), 1))


def test_checkpoints_are_kept_in_the_number_asked_for_and_hold_no_data(
    tmp_path: Path, data: str
) -> None:
    complete(
        tmp_path, "dataset=d4rl", data, "guide=offline", "checkpoint.keep=3", "online.steps=90"
    )
    paths = checkpoint_paths(tmp_path / "checkpoints")
    assert len(paths) == 3
    for path in paths:
        state = load_checkpoint(path)
        assert isinstance(state["dataset"], str)
        assert not any(getattr(v, "shape", (0,))[-2:-1] == (300,) for _, v in leaves(state))


def test_an_environment_of_ones_own_runs_with_the_defaults(tmp_path, capsys):
    """No data, no guide, no notion of success: nothing else has to be said."""
    typed, plain = composed(
        *QUIET, *TINY, "env=gymnasium", "env.id=Pendulum-v1", "env.success_key=null",
        "guide=none", "curriculum=none", "dataset=none", "online.steps=120",
    )  # fmt: skip
    summary = train(typed, plain, tmp_path / "run")
    said = capsys.readouterr().out
    assert "actions: policies act in [-1, 1], which Pendulum-v1 takes as [-2, 2]" in said
    assert "rewards:" not in said
    assert summary["env_steps"] == 120
    assert summary["evaluation"]["exploration"]["return"]["mean"] < 0
