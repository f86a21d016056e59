"""Collecting AntMaze data: how much of the simulator's own speed is left, on all cores at once."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import mujoco
import numpy as np
import torch

from jsrl.benchmark.results import Measurement
from jsrl.benchmark.timing import interleaved, typical
from jsrl.core.processes import available_cores
from jsrl.datasets.antmaze_walks import Walker, WalkingAnt, plan_of
from jsrl.envs.antmaze import FRAME_SKIP, TORQUE, AntMazeEnv
from jsrl.guides.ant import GoalReachingAnt
from jsrl.guides.npz import read_npz

SHORT_WALK = 40
LEAST_SHARE = 85.0
WIDTH = 256
CATEGORY = "AntMaze collection"

Rates = tuple[float, float]
"""Transitions a second: collected, and of the bare simulator on the same actions."""


def measure_collection(behaviour: Path | None) -> list[Measurement]:
    """Transitions a second, and those of the bare simulator on the same actions.

    The simulator repeats the walks that were collected, without policy, noise or storage.

    Args:
        behaviour: npz file of D4RL's goal-reaching ant, whose walks are as long as those of a data
            set; None for random weights of the same size, which know no way, and short walks.

    Raises:
        UserError: if the file cannot be read.
    """
    arrays = _random_ant() if behaviour is None else read_npz(behaviour)
    steps = SHORT_WALK if behaviour is None else None
    cores, spawn = available_cores(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, spawn) as pool:
        rates = list(pool.map(partial(_rates, arrays, steps), range(cores)))
    collected, raw = (sum(each) for each in zip(*rates, strict=True))
    share = Measurement(
        *(CATEGORY, "share of the simulator's", 100 * collected / raw, "%"), at_least=LEAST_SHARE
    )
    return [
        Measurement(CATEGORY, "collected", collected, "1/s"),
        Measurement(CATEGORY, "raw simulator", raw, "1/s"),
        share,
    ]


def describe_collection(behaviour: Path | None) -> str:
    """A note for the reader of the figures."""
    walks = "short walks of random weights" if behaviour is None else "whole walks of D4RL's ant"
    return (
        f"AntMaze collection, and the raw simulator: a process for each of {available_cores()} "
        f"cores, all at once; {walks}."
    )


def _rates(arrays: dict[str, np.ndarray], steps: int | None, block: int) -> Rates:
    """What one process reaches while the others measure too."""
    torch.set_num_threads(1)
    env = AntMazeEnv("umaze")
    plan = plan_of("umaze-diverse", steps)
    walker = Walker(plan, WalkingAnt(GoalReachingAnt(arrays), env.maze), 0.2, seed=0)
    walks = walker(block)
    functions = {"collected": lambda: walker(block), "raw": lambda: _replay(env, walks)}
    try:
        # One call is a whole block, many seconds: the fewest rounds there are.
        times = interleaved(functions, 0.0, calls=1)
    finally:
        env.close()  # type: ignore[no-untyped-call]
    transitions = len(walks["ends"])
    return transitions / typical(times["collected"]), transitions / typical(times["raw"])


def _replay(env: AntMazeEnv, block: dict[str, np.ndarray]) -> None:
    """Simulate the block's walks again: the simulator's steps and nothing else."""
    model, data = env.model, env.data
    begins = True
    for index, action in enumerate(block["actions"]):
        if begins:
            mujoco.mj_resetData(model, data)
            data.qpos[:] = block["observations"][index, :15]
            data.qvel[:] = block["observations"][index, 15:]
        data.ctrl[:] = action
        data.ctrl *= TORQUE
        mujoco.mj_step(model, data, nstep=FRAME_SKIP)
        begins = bool(block["ends"][index])


def _random_ant() -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)

    def layer(inputs: int, outputs: int) -> np.ndarray:
        return draws.standard_normal((outputs, inputs), dtype=np.float32) / np.sqrt(inputs)

    sizes = {"hidden_0": (29, WIDTH), "hidden_1": (WIDTH, WIDTH)}
    sizes |= {"mean": (WIDTH, 8), "log_std": (WIDTH, 8)}
    arrays = {f"{name}_weight": layer(*shape) for name, shape in sizes.items()}
    return arrays | {f"{n}_bias": np.zeros(s[1], np.float32) for n, s in sizes.items()}
