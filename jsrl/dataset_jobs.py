"""``jsrl dataset FAMILY``: what is done for each family, from its configuration on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jsrl.build import build_guide, collect_with_waypoints, env_settings
from jsrl.config import EnvConfig, GuideConfig
from jsrl.dataset_config import (
    AdroitDataConfig,
    AntMazeDataConfig,
    DatasetReportConfig,
    PointMazeDataConfig,
)
from jsrl.datasets import Dataset, load_d4rl, load_hdf5, load_minari
from jsrl.datasets.adroit import cloned_guide, collect_adroit, relabel
from jsrl.datasets.antmaze import collect_antmaze
from jsrl.datasets.antmaze_walks import Behaviour, WalkingAnt, WalkingGuide
from jsrl.datasets.report import report_dataset
from jsrl.envs.adroit import AdroitBinaryEnv, BinaryTask
from jsrl.envs.antmaze import antmaze_map
from jsrl.envs.make import describe_env, make_env
from jsrl.envs.registration import ADROIT_TASKS, ANTMAZE_TASKS, adroit_id, antmaze_id
from jsrl.errors import UserError
from jsrl.guides.ant import GoalReachingAnt
from jsrl.guides.npz import is_ant, read_npz
from jsrl.loggers import Progress
from jsrl.processes import available_cores
from jsrl.summary import versions
from jsrl.types import EnvSpec, Guide, TransitionData


def collect_pointmaze(config: PointMazeDataConfig) -> None:
    """``jsrl dataset pointmaze``."""
    _check_numbers(config)
    path = _free_path(config.path)
    progress = Progress(config.transitions, "collecting")
    spec = describe_env(env_settings(config.env))
    controller = {
        "noise": config.noise,
        "proportional_gain": config.proportional_gain,
        "derivative_gain": config.derivative_gain,
    }
    collect_with_waypoints(
        path, config.env, spec, config.transitions, config.seed, controller, progress.update
    )
    progress.close()
    _finish(path)


def collect_ant(config: AntMazeDataConfig) -> None:
    """``jsrl dataset antmaze``."""
    _check_numbers(config)
    if not config.noise >= 0:
        raise UserError(f"noise={config.noise} must be 0 or more")
    if config.guide.noise != 0:
        raise UserError(
            f"guide.noise={config.guide.noise} has no place here; noise={config.noise} is the one "
            "on the actions of the walks"
        )
    if config.workers is not None and config.workers < 1:
        raise UserError(f"workers={config.workers} must be at least 1, or null for every core")
    tasks = {antmaze_id(task): task for task in ANTMAZE_TASKS}
    if config.env.id not in tasks:
        raise UserError(f"env.id={config.env.id!r} is no AntMaze; choose one of {', '.join(tasks)}")
    path, task = _free_path(config.path), tasks[config.env.id]
    make = partial(make_ant_behaviour, config.guide, config.env, task)
    progress = Progress(config.transitions, "collecting")
    collect_antmaze(
        path,
        task,
        make,
        config.transitions,
        config.noise,
        config.seed,
        config.workers or available_cores(),
        config.env.max_episode_steps,
        progress.update,
    )
    progress.close()
    _finish(path)


def make_ant_behaviour(guide: GuideConfig, env: EnvConfig, task: str) -> Behaviour:
    """Who walks: the goal-reaching ant of an npz file, or any guide that finds its own way.

    Raises:
        UserError: if there is no guide, or it does not fit.
    """
    if guide.kind == "npz" and guide.path is not None:
        arrays = read_npz(Path(guide.path))
        if is_ant(arrays):
            return WalkingAnt(GoalReachingAnt(arrays), antmaze_map(ANTMAZE_TASKS[task][0]))
    spec = describe_env(env_settings(env))
    built = build_guide(guide, env, spec, [0], torch.device("cpu"))
    if built is None:
        raise UserError(
            f"guide={guide.kind} cannot walk; jsrl dataset antmaze needs a behaviour policy: "
            "guide=npz guide.path=FILE, or any other guide that exists already"
        )
    return WalkingGuide(built)


def collect_hand(config: AdroitDataConfig) -> None:
    """``jsrl dataset adroit``."""
    _check_numbers(config)
    task, path = _binary_task(config.env), _free_path(config.path)
    # Training, acting and stepping are small: more threads would only wait for one another.
    torch.set_num_threads(1)
    settings = env_settings(config.env)
    spec = describe_env(settings)
    demonstrations = _demonstrations(config, task, spec)
    guide = _hand_guide(config, spec, demonstrations)
    attributes: dict[str, bool | int | float | str] = {
        "env_id": config.env.id,
        "seed": config.seed,
        "reward": task.reward,
        "end_on_success": task.end_on_success,
        "demonstrations": Path(config.demonstrations or "none").name,
        "guide": guide.fingerprint,
        **{f"version_{name}": number for name, number in versions().items()},
    }
    shown = 0 if demonstrations is None else len(demonstrations)
    progress = Progress(config.transitions, "collecting", initial=shown)
    collect_adroit(
        path,
        settings,
        spec,
        demonstrations,
        guide,
        config.transitions,
        config.seed,
        attributes,
        progress.update,
    )
    progress.close()
    _finish(path)


def _binary_task(env: EnvConfig) -> BinaryTask:
    example = make_env(env_settings(env))
    try:
        hand = example.unwrapped
        if not isinstance(hand, AdroitBinaryEnv):
            names = ", ".join(map(adroit_id, ADROIT_TASKS))
            raise UserError(f"env.id={env.id!r} is no Adroit task of jsrl; choose one of {names}")
        return hand.task
    finally:
        example.close()


def _demonstrations(
    config: AdroitDataConfig, task: BinaryTask, spec: EnvSpec
) -> TransitionData | None:
    """The demonstrations, relabelled."""
    name = config.demonstrations
    if name is None:
        return None
    if name.endswith((".hdf5", ".h5")) or Path(name).exists():
        # Human demonstrations hold raw actions, which the hand clips.
        recorded = load_hdf5(name, clip_actions=True, key="demonstrations")
    else:
        recorded = _named(name)
    recorded.validate(spec)
    data = relabel(recorded, task)
    if len(data) > config.transitions:
        raise UserError(
            f"transitions={config.transitions} are fewer than the demonstrations have, "
            f"{len(data)}; take at least as many (a part of them for training is "
            "dataset.transitions of jsrl train)"
        )
    return data


def _hand_guide(
    config: AdroitDataConfig, spec: EnvSpec, demonstrations: TransitionData | None
) -> Guide:
    """Who acts in the rollouts: the guide that is named, or else a clone of the demonstrations."""
    guide = build_guide(config.guide, config.env, spec, [0], torch.device("cpu"))
    if guide is not None:
        return guide
    if demonstrations is None or config.guide.kind != "none":
        raise UserError(
            f"jsrl dataset adroit has nobody to act: guide={config.guide.kind} and "
            f"demonstrations={config.demonstrations}; give demonstrations=FILE, or a guide that "
            "exists already, such as guide=npz guide.path=FILE"
        )
    cloning = config.behaviour_cloning
    if cloning.updates < 0 or not 0 <= cloning.dropout < 1 or not cloning.noise > 0:
        raise UserError(
            f"behaviour_cloning.updates={cloning.updates} must be 0 or more, "
            f"behaviour_cloning.dropout={cloning.dropout} in [0, 1) and "
            f"behaviour_cloning.noise={cloning.noise} above 0"
        )
    progress = Progress(cloning.updates, "behaviour cloning")
    clone = cloned_guide(
        demonstrations,
        spec,
        cloning.updates,
        cloning.dropout,
        cloning.noise,
        config.seed,
        progress.update,
    )
    progress.close()
    return clone


def report_on(config: DatasetReportConfig) -> None:
    """``jsrl dataset report``."""
    path = Path(config.path)
    if path.suffix in (".hdf5", ".h5") or path.exists():
        dataset = load_hdf5(path, clip_actions=config.clip_actions)
        folder = path.with_name(f"{path.stem}_report")
    else:
        dataset = _named(config.path)
        folder = Path(f"{config.path.replace('/', '-')}_report")
    print(report_dataset(dataset, folder if config.output is None else Path(config.output)))


JOBS: dict[str, Callable[[Any], None]] = {
    "pointmaze": collect_pointmaze,
    "antmaze": collect_ant,
    "adroit": collect_hand,
    "report": report_on,
}
"""What each word that may follow ``jsrl dataset`` does."""


def _finish(path: Path) -> None:
    """Print what was collected, and write its report beside it."""
    dataset = load_hdf5(path)
    print(dataset.summary())
    print(report_dataset(dataset, path.with_name(f"{path.stem}_report")))


def _named(name: str) -> Dataset:
    """A D4RL name has no slash, a Minari id has at least one."""
    return load_minari(name) if "/" in name else load_d4rl(name)


def _check_numbers(config: PointMazeDataConfig | AntMazeDataConfig | AdroitDataConfig) -> None:
    """See that what all families have is in range, before anything is written."""
    if config.transitions < 1:
        raise UserError(f"transitions={config.transitions} must be at least 1")
    if config.seed < 0:
        raise UserError(f"seed={config.seed} must be 0 or more")
    limit = config.env.max_episode_steps
    if limit is not None and limit < 1:
        raise UserError(f"env.max_episode_steps={limit} must be at least 1, or null")


def _free_path(path: str) -> Path:
    """Data that were collected once are never replaced."""
    if Path(path).exists():
        raise UserError(
            f"path={path} exists already; remove it, or choose another path (jsrl dataset report "
            f"path={path} says what is in it)"
        )
    return Path(path)
