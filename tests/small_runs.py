"""Helpers for tests that run whole commands: in a process of its own, or in this one."""

import copy
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from jsrl.commands.cli import main
from jsrl.commands.paths import config_directory
from jsrl.commands.schemas import register
from jsrl.core.checkpoint import checkpoint_paths, load_checkpoint
from jsrl.core.processes import ALLOWED, UNUSED_KEYS
from jsrl.core.transitions import TransitionData
from jsrl.datasets import save_hdf5
from jsrl.loggers import Record, read_records
from jsrl.run.train import train
from jsrl.settings.composition import Compositions
from jsrl.settings.kinds import REGISTRIES, keep_own
from jsrl.settings.schema import TrainConfig

TINY = (
    "learner.hidden=[16,16]",
    "learner.batch_size=16",
    "offline.updates=30",
    "online.steps=300",
    "online.learning_starts=50",
    "dataset.collected=300",
    "curriculum.initial_episodes=3",
    "curriculum.interval=50",
    "evaluation.interval=100",
    "evaluation.episodes=2",
    "evaluation.final_episodes=2",
    "evaluation.num_envs=2",
    "logger.interval=40",
    "checkpoint.interval=70",
    "env.max_episode_steps=60",
)
"""Overrides that make a run last about a second.

They serve every kind, which does not use all of them: ``call`` and ``start`` say so.
"""

QUIET = ("logger=plain", "logger.progress=false")


REACH = ("env=gymnasium", "env.id=jsrl-tests/Reach-v0", "env.score_range=[0,1]")
"""A small task that costs nearly nothing; see ``Reach``. Known in this process alone."""


class Reach(gym.Env[Any, Any]):
    """A point in a square goes where it is told: 1 and the end at the goal, 0 before.

    Args:
        strays: something that outlives the environment moves the start, so that nothing replays.
    """

    shift = 0.0

    def __init__(self, strays: bool = False) -> None:
        self.observation_space = gym.spaces.Box(-2, 2, (4,), np.float64)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.strays = strays

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.position, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        if self.strays:
            Reach.shift += 1e-3
            self.position = self.position + Reach.shift
        return self._observe(), {"success": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.position = np.clip(self.position + 0.1 * action, -1, 1)
        reached = bool(np.abs(self.position - self.goal).max() < 0.15)
        return self._observe(), float(reached), reached, False, {"success": reached}

    def _observe(self) -> Any:
        return np.concatenate([self.position, self.goal])


gym.register("jsrl-tests/Reach-v0", Reach, max_episode_steps=60)


def toward_goal(observations: np.ndarray) -> np.ndarray:
    """A guide that solves ``Reach``."""
    return np.clip(5 * (observations[:, 2:] - observations[:, :2]), -1, 1)


def write_reach_data(path: Path, transitions: int = 300) -> Path:
    """A dataset of noisy episodes in ``Reach``, in D4RL's layout."""
    rng = np.random.default_rng(0)
    env, rows = gym.make("jsrl-tests/Reach-v0"), []
    ended = True
    while len(rows) < transitions:
        if ended:
            observation, _ = env.reset(seed=len(rows))
        noisy = toward_goal(observation[None])[0] + rng.normal(size=2)
        action = noisy.clip(-1, 1).astype(np.float32)
        successor, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, successor, terminated, truncated))
        observation, ended = successor, terminated or truncated
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    floats = [column.astype(np.float32) for column in columns[:4]]
    save_hdf5(path, TransitionData(*floats, *columns[4:]), {}, {})
    return path


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


def composed(*overrides: str) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration of ``jsrl train OVERRIDES``: typed, and as plain values."""
    kinds = tuple(registry.names() for registry in REGISTRIES)
    return copy.deepcopy(_composed(overrides, kinds))


@functools.cache
def _composed(
    overrides: tuple[str, ...], kinds: tuple[tuple[str, ...], ...]
) -> tuple[TrainConfig, dict[str, Any]]:
    """Composed once where several tests ask for it, as long as there are the same ``kinds``."""
    register()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = _compositions(kinds).compose(overrides)
    keep_own(config)
    OmegaConf.resolve(config)
    typed: Any = OmegaConf.to_object(config)
    plain: Any = OmegaConf.to_container(config)
    return typed, plain


@functools.cache
def _compositions(kinds: tuple[tuple[str, ...], ...]) -> Compositions:
    """As ``jsrl grid`` composes: what that gives is what Hydra does, as its own test shows."""
    return Compositions("config")


def train_here(directory: Path, *overrides: str) -> dict[str, Any]:
    """A tiny run in this process; overrides given replace the tiny ones."""
    typed, plain = composed(*QUIET, *TINY, *overrides)
    typed.run_dir = plain["run_dir"] = str(directory)
    return train(typed, plain, directory)


def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str
) -> Outcome:
    """``jsrl ARGUMENTS`` in this process, as the entry point of the command runs it."""
    monkeypatch.setattr(sys, "argv", ["jsrl", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # set by the command: undone after the test
    if set(arguments) & set(TINY):
        monkeypatch.setenv(UNUSED_KEYS, ALLOWED)
    # The configuration of this command sets the mode itself.
    sets_mode = "reproducibility" in arguments[:1]
    if not sets_mode and not any(word.startswith("hydra.mode") for word in arguments):
        # To learn that it is not set, Hydra composes the whole configuration one more time.
        monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)
    capfd.readouterr()
    status = 0
    try:
        main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    return Outcome(status, *capfd.readouterr())


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """``jsrl ARGUMENTS`` in a process of its own, begun in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-m", "jsrl", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", UNUSED_KEYS: ALLOWED},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str], timeout: float = 600) -> Outcome:
    """Wait for a process that ``start`` began."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Outcome(process.returncode, out, err)


def run(folder: Path, *arguments: str, **options: Any) -> Outcome:
    """``jsrl ARGUMENTS`` in a process of its own, from beginning to end."""
    return finish(start(folder, *arguments, **options))


def wait_until(
    holds: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 300
) -> None:
    """Poll until ``holds``, while the process runs."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert process.poll() is None, f"ended early: {process.communicate()}"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def listing(folder: Path) -> set[str]:
    """Every file and folder below ``folder``."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def newest_state(directory: Path) -> dict[str, Any]:
    """The contents of a run's newest checkpoint, less what tells of time: all that must repeat."""
    state = load_checkpoint(checkpoint_paths(directory / "checkpoints")[-1])
    for of_time in ("seconds", "metrics_offset"):
        del state["recorder"][of_time]
    return state


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors and plain values in nested dictionaries and lists, with dotted names."""
    if isinstance(value, Mapping):
        for key in value:
            yield from leaves(value[key], f"{name}.{key}")
    elif isinstance(value, list | tuple):
        yield f"{name}.length", len(value)
        for index, item in enumerate(value):
            yield from leaves(item, f"{name}.{index}")
    else:
        yield name, value


def different(one: Any, other: Any) -> list[str]:
    """The names of what is not equal, bit by bit, in two nested states."""
    first, second = dict(leaves(one)), dict(leaves(other))
    names = [*first, *(name for name in second if name not in first)]
    return [
        name
        for name in names
        if name not in first or name not in second or not _equal(first[name], second[name])
    ]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            # By bits, so that NaN (a success that is not defined) equals itself.
            and one.numpy().tobytes() == other.numpy().tobytes()
        )
    return type(one) is type(other) and (one == other or (one != one and other != other))


def metrics(directory: Path) -> list[Record]:
    """What a run recorded, less what depends on the machine's speed."""
    return [
        record
        for record in read_records(directory / "metrics.jsonl")
        if not record.name.startswith(("throughput/", "memory/"))
    ]


def read_summary(directory: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return summary


def assert_same_run(one: Path, other: Path) -> None:
    """Every tensor of the last checkpoint, every metric and every result is the same."""
    assert different(newest_state(one), newest_state(other)) == []
    assert metrics(one) == metrics(other)
    assert read_summary(one)["evaluation"] == read_summary(other)["evaluation"]
