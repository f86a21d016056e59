"""Trains the learners of d3rlpy for ``compare_with_d3rlpy.py``, which has the protocol.

d3rlpy needs an older Gymnasium than jsrl, and so an environment of its own, in which this file
imports nothing of jsrl:

    python -m venv .venv-d3rlpy
    .venv-d3rlpy/bin/pip install torch==2.13.0 d3rlpy==2.8.1 pyyaml
    .venv-d3rlpy/bin/python scripts/train_d3rlpy.py runs/d3rlpy

It reads ``data.hdf5`` in the folder given, and writes there one greedy policy for each learner,
variant and seed in TorchScript, which can be run without d3rlpy, and ``versions.json``. Policies
that are there already are not trained again.
"""

import argparse
import dataclasses
import json
import platform
import time
from pathlib import Path
from typing import Any

import d3rlpy
import h5py
import numpy as np
import torch
import yaml
from d3rlpy.dataset import (
    BasicTransitionPicker,
    MDPDataset,
    SparseRewardTransitionPicker,
    Transition,
)
from d3rlpy.logging import NoopAdapterFactory
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.preprocessing import StandardObservationScaler

TASKS = yaml.safe_load((Path(__file__).parent / "compare_with_d3rlpy.yaml").read_text())


class Kept:
    """Picks the same transitions as another picker, but makes each of them only once.

    Their discounted return is worked out here, as d3rlpy does it, in place of the rewards that it
    would sum in every minibatch. Both take most of the time otherwise.
    """

    def __init__(self, picker: Any, discount: float) -> None:
        self.picker, self.discount = picker, discount
        self.transitions: dict[tuple[int, int], Transition] = {}

    def __call__(self, episode: Any, index: int) -> Transition:
        place = (id(episode), index)
        if place not in self.transitions:
            picked = self.picker(episode, index)
            later = picked.rewards_to_go
            powers = (self.discount ** np.arange(len(later)))[:, None].astype(np.float32)
            total = np.sum(powers * later, axis=0, keepdims=True)
            self.transitions[place] = dataclasses.replace(picked, rewards_to_go=total)
        return self.transitions[place]


def dataset(path: Path, task: dict[str, Any]) -> MDPDataset:
    """The transitions of jsrl's file, all of them, with the rewards that the task asks for.

    d3rlpy has no successors of their own: it takes the next observation of the episode, and so
    drops the last step of an episode that a time limit cut. One more step behind it, which is
    never learnt from, holds that successor.
    """
    with h5py.File(path) as file:
        data = {name: file[name][:] for name in file if isinstance(file[name], h5py.Dataset)}
    scale, shift = task.get("rewards", (1.0, 0.0))
    cut, rows = data["timeouts"].astype(bool), len(data["rewards"])
    place = np.sort(np.concatenate([np.arange(rows), np.flatnonzero(cut)]))
    added = np.concatenate([[False], place[1:] == place[:-1]])
    observations, rewards = data["observations"][place], scale * data["rewards"][place] + shift
    observations[added] = data["next_observations"][cut]
    rewards[added] = shift
    picker = BasicTransitionPicker()
    if "failure_return" in task:
        picker = SparseRewardTransitionPicker(task["failure_return"], step_reward=shift)
    made = MDPDataset(
        observations.astype(np.float32),
        data["actions"][place].astype(np.float32),
        rewards.astype(np.float32),
        data["terminals"][place].astype(np.float32),
        added.astype(np.float32),
        transition_picker=Kept(picker, task["settings"].get("gamma", 1.0)),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )
    assert made.transition_count == rows
    return made


def learner(task: dict[str, Any]) -> Any:
    """A learner as the task describes it, without networks as yet."""
    kind = getattr(d3rlpy.algos, f"{task['theirs']}Config")
    settings = dict(task["settings"])
    for field in dataclasses.fields(kind):
        if field.name.endswith("encoder_factory"):
            settings[field.name] = VectorEncoderFactory(task["options"]["hidden"])
    if task.get("normalised"):
        settings["observation_scaler"] = StandardObservationScaler()
    return kind(**settings).create(device="cpu")


def train(folder: Path, name: str, seed: int, updates: int, variant: str | None) -> None:
    """One seed, whose policy becomes ``NAME_LIBRARY_SEED.pt``."""
    task = TASKS[name]
    policy = folder / f"{name}_{variant or 'd3rlpy'}_{seed}.pt".replace(" ", "_")
    if policy.exists():
        return
    d3rlpy.seed(seed)
    data, made = dataset(folder / "data.hdf5", task), learner(task)
    made.build_with_dataset(data)
    for parameter, value in (task["variants"][variant] if variant else {}).items():
        for tensor in getattr(made.impl.modules, parameter).parameters():
            tensor.data.fill_(value)
    start = time.perf_counter()
    made.fit(
        data,
        n_steps=updates,
        n_steps_per_epoch=updates,
        show_progress=False,
        logger_adapter=NoopAdapterFactory(),
    )
    made.save_policy(str(policy))
    print(name, variant or "d3rlpy", seed, f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="learners; without any, all of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--updates", type=int, default=3_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in (d3rlpy, torch, np)}
    (given.folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")
    for name in given.names or TASKS:
        for variant in (None, *TASKS[name].get("variants", {})):
            for seed in given.seeds:
                train(given.folder, name, seed, given.updates, variant)
