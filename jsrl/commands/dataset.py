"""``jsrl dataset FAMILY``: the job of each family."""

from functools import partial
from pathlib import Path

import torch

from jsrl.commands.collecting import (
    checked_path,
    collecting,
    doubts_printed,
    print_conversion_of_actions,
)
from jsrl.commands.dataset_schemas import (
    AntMazeDataConfig,
    DatasetReportConfig,
    PointMazeDataConfig,
    RolloutDataConfig,
)
from jsrl.commands.jobs import on_typed
from jsrl.core.errors import UserError
from jsrl.core.processes import available_cores
from jsrl.datasets.antmaze import collect_antmaze
from jsrl.datasets.antmaze_walks import Behaviour, WalkingAnt, WalkingGuide
from jsrl.datasets.load import load_named
from jsrl.datasets.reading import UNCHECKED
from jsrl.datasets.report import report_dataset
from jsrl.datasets.rollouts import collect_rollouts
from jsrl.datasets.waypoint import collect_with_waypoints
from jsrl.envs.antmaze import antmaze_map
from jsrl.envs.make import describe_env
from jsrl.envs.registration import ANTMAZE_TASKS, antmaze_id
from jsrl.guides import GuideOptions
from jsrl.guides.ant import GoalReachingAnt
from jsrl.guides.npz import NpzOptions, is_ant, read_npz
from jsrl.guides.waypoint import WaypointOptions
from jsrl.run.build import build_guide, env_settings, guide_environment
from jsrl.settings.schema import EnvConfig


@on_typed
def collect_pointmaze(config: PointMazeDataConfig) -> None:
    """``jsrl dataset pointmaze``."""
    path = checked_path(config)
    settings = env_settings(config.env)
    spec = describe_env(settings)
    controller = {
        "noise": config.noise,
        "proportional_gain": config.proportional_gain,
        "derivative_gain": config.derivative_gain,
    }
    with collecting(path, config.transitions) as report:
        collect_with_waypoints(
            path, settings, spec, config.transitions, config.seed, controller, report
        )


@on_typed
def collect_guide(config: RolloutDataConfig) -> None:
    """``jsrl dataset rollouts``."""
    path = checked_path(config)
    # Acting and stepping are small: more threads would only wait for one another.
    torch.set_num_threads(1)
    settings = guide_environment(config.guide, env_settings(config.env))
    spec = describe_env(settings)
    guide = build_guide(config.guide, config.env, spec, [0], torch.device("cpu"))
    if guide is None:
        raise UserError(
            f"guide={config.guide.kind} cannot act; jsrl dataset rollouts needs a behaviour "
            "policy: guide=run guide.path=DIR, or any other guide that exists already"
        )
    print_conversion_of_actions(guide)
    attributes = {"guide": config.guide.kind, "guide_sha256": guide.fingerprint}
    with collecting(path, config.transitions) as report:
        collect_rollouts(
            path, settings, spec, guide, config.transitions, config.seed, attributes, report
        )


@on_typed
def collect_ant(config: AntMazeDataConfig) -> None:
    """``jsrl dataset antmaze``."""
    path = checked_path(config)
    if not config.noise >= 0:
        raise UserError(f"noise={config.noise} must be 0 or more")
    if isinstance(config.guide, NpzOptions | WaypointOptions) and config.guide.noise != 0:
        raise UserError(
            f"guide.noise={config.guide.noise} has no place here; noise={config.noise} is the one "
            "on the actions of the walks"
        )
    if config.workers is not None and config.workers < 1:
        raise UserError(f"workers={config.workers} must be at least 1, or null for every core")
    tasks = {antmaze_id(task): task for task in ANTMAZE_TASKS}
    if config.env.id not in tasks:
        raise UserError(f"env.id={config.env.id!r} is no AntMaze; choose one of {', '.join(tasks)}")
    task = tasks[config.env.id]
    make = partial(make_ant_behaviour, config.guide, config.env, task)
    behaviour = make()
    if isinstance(behaviour, WalkingGuide):
        print_conversion_of_actions(behaviour.guide)
    with collecting(path, config.transitions) as report:
        collect_antmaze(
            *(path, task, make, config.transitions, config.noise, config.seed),
            *(config.workers or available_cores(), config.env.max_episode_steps, report),
        )


def make_ant_behaviour(guide: GuideOptions, env: EnvConfig, task: str) -> Behaviour:
    """Who walks: the goal-reaching ant of an npz file, or any guide that finds its own way.

    Raises:
        UserError: if there is no guide, or it does not fit.
    """
    if isinstance(guide, NpzOptions) and guide.path is not None:
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


@on_typed
def report_on(config: DatasetReportConfig) -> None:
    """``jsrl dataset report``."""
    with doubts_printed():
        # The report does not look at the scale of actions.
        dataset = load_named(config.path, key="path", action_units=UNCHECKED)
    path = Path(config.path).expanduser()
    if path.exists():
        folder = path.with_name(f"{path.stem}_report")
    else:
        folder = Path(f"{config.path.replace('/', '-')}_report")
    for line in dataset.notices():
        print(line)
    print(report_dataset(dataset, folder if config.output is None else Path(config.output)))
