"""AntMaze data sets in D4RL's manner: walks through the maze, relabelled against one goal.

Fu et al. 2020 (arXiv 2004.07219), appendix C. How the ant walks is told in ``antmaze_walks``.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.errors import UserError
from jsrl.core.streams import seed_sequence
from jsrl.core.transitions import TransitionData
from jsrl.datasets.antmaze_walks import (
    EPISODES_IN_BLOCK,
    SIDE_BY_SIDE,
    Behaviour,
    Plan,
    Walker,
    plan_of,
)
from jsrl.datasets.blocks import Block, BlockStore, MakeBlock, collect_blocks
from jsrl.datasets.d4rl import save_hdf5
from jsrl.datasets.hdf5 import parts_folder
from jsrl.envs.antmaze import GOAL_RADIUS, cell_centre, goal_noise
from jsrl.envs.registration import ANTMAZE_TASKS, antmaze_id


def collect_antmaze(
    path: Path,
    task: str,
    make_behaviour: Callable[[], Behaviour],
    transitions: int,
    noise: float,
    seed: int,
    workers: int,
    steps: int | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Collect a data set and write it in D4RL's HDF5 layout.

    The file depends on the seed and the policy, not on the number of workers. Blocks of episodes
    that are finished are kept in ``<path>.parts`` until the file is written, so that the same call
    goes on where one was stopped.

    Args:
        path: the file to write.
        task: a key of ``ANTMAZE_TASKS``.
        make_behaviour: gives who walks; picklable if there are several workers.
        transitions: N; the last episode is cut there.
        noise: standard deviation of the Gaussian noise on actions; D4RL's is 0.2.
        seed: of everything drawn.
        workers: processes.
        steps: the longest walk; None for the time limit of the task.
        report: called with the number of transitions collected so far.

    Raises:
        UserError: if the parts belong to other settings, something cannot be written, or the file
            is there by now.
        Interrupted: after SIGTERM or SIGINT.
    """
    settings: dict[str, bool | int | float | str] = {
        "env_id": antmaze_id(task),
        "seed": seed,
        "transitions": transitions,
        "action_noise": noise,
        "longest_walk": plan_of(task, steps).steps,
        "behaviour": make_behaviour().fingerprint,
    }
    # How many transitions are wanted changes no block: a data set can be made longer.
    content = {key: value for key, value in settings.items() if key != "transitions"}
    content |= {"episodes_in_block": EPISODES_IN_BLOCK, "side_by_side": SIDE_BY_SIDE}
    store = BlockStore(parts_folder(path), content)
    if path.exists():
        # Looked at once more, now that no other process can be about to write it.
        store.remove()
        raise UserError(f"{path} was written just now by another process; choose another path")
    try:
        prepare = partial(_make_walker, plan_of(task, steps), make_behaviour, noise, seed)
        numbers = collect_blocks(store, prepare, transitions, workers, report)
        columns = _first([store.load(number) for number in numbers], transitions)
        goal = evaluation_goal(task, seed)
        where = {"goal_x": float(goal[0]), "goal_y": float(goal[1])}
        save_hdf5(path, relabelled(columns, goal), _infos(columns), settings | where)
        store.remove()
    finally:
        store.close()


def evaluation_goal(task: str, seed: int) -> Float[NDArray[np.float64], " 2"]:
    """The one goal of a data set, metres: drawn as the environment draws it at a reset."""
    draws = np.random.default_rng(seed_sequence(seed, "antmaze evaluation goal"))
    return cell_centre(ANTMAZE_TASKS[task][0], "G") + goal_noise(draws)


def relabelled(columns: Block, goal: Float[NDArray[np.float64], " 2"]) -> TransitionData:
    """Reward 1 and a terminal wherever the next position is at the goal, as D4RL did.

    Args:
        columns: what ``Walker`` returns.
        goal: x and y in metres.
    """
    successors = columns["next_observations"]
    distance = np.linalg.norm(successors[:, :2] - goal, axis=-1)
    at_goal = distance <= GOAL_RADIUS
    return TransitionData(
        observations=columns["observations"],
        actions=columns["actions"],
        rewards=at_goal.astype(np.float32),
        next_observations=successors,
        terminals=at_goal,
        timeouts=columns["ends"] & ~at_goal,
    )


def _make_walker(
    plan: Plan, make_behaviour: Callable[[], Behaviour], noise: float, seed: int
) -> MakeBlock:
    # One thread each: the processes are as many as the cores.
    torch.set_num_threads(1)
    return Walker(plan, make_behaviour(), noise, seed)


def _first(blocks: list[Block], transitions: int) -> Block:
    """The first N transitions of all; the last one ends its episode."""
    columns = {
        name: np.concatenate([block[name] for block in blocks])[:transitions] for name in blocks[0]
    }
    columns["ends"][-1] = True
    return columns


def _infos(columns: Block) -> dict[str, np.ndarray]:
    """What D4RL writes beside the transitions; ``goal`` is the one that was walked to."""
    observations = columns["observations"]
    return {
        "goal": columns["goals"],
        "qpos": observations[:, :15],
        "qvel": observations[:, 15:],
    }
