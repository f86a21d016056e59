"""Collecting AntMaze data: how much of the simulator's own speed is left."""

import mujoco
import numpy as np

from jsrl.benchmark.results import Measurement
from jsrl.benchmark.timing import interleaved, ratio, typical
from jsrl.datasets.antmaze_walks import Walker, WalkingAnt, plan_of
from jsrl.envs.antmaze import FRAME_SKIP, TORQUE, AntMazeEnv
from jsrl.guides.ant import GoalReachingAnt

STEPS = 100
LEAST_SHARE = 85.0
WIDTH = 256
CATEGORY = "AntMaze collection"


def measure_collection(seconds: float) -> list[Measurement]:
    """Transitions a second of one process, and those of the bare simulator on the same actions.

    The policy has the size of D4RL's ant and random weights: it costs the same, and knows no way.
    The simulator repeats the walks that were collected, without policy, noise or storage.
    """
    env = AntMazeEnv("umaze")
    plan = plan_of("umaze-diverse", STEPS)
    walker = Walker(plan, WalkingAnt(GoalReachingAnt(_random_ant()), env.maze), 0.2, seed=0)
    block = walker(0)
    transitions = len(block["ends"])
    functions = {"collected": lambda: walker(0), "raw simulator": lambda: _replay(env, block)}
    try:
        times = interleaved(functions, seconds, calls=1)
    finally:
        env.close()  # type: ignore[no-untyped-call]
    rates = [Measurement(CATEGORY, n, transitions / typical(times[n]), "1/s") for n in times]
    share = 100 * ratio(times["raw simulator"], times["collected"])
    bound = Measurement(CATEGORY, "share of the simulator's", share, "%", at_least=LEAST_SHARE)
    return [*rates, bound]


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
