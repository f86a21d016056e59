"""``jsrl dataset adroit``: demonstrations of a hand, relabelled, and rollouts after them."""

from pathlib import Path

import torch

from jsrl.commands.collecting import (
    checked_path,
    collecting,
    doubts_printed,
    print_conversion_of_actions,
)
from jsrl.commands.dataset_schemas import AdroitDataConfig
from jsrl.commands.jobs import on_typed
from jsrl.core.errors import UserError
from jsrl.core.protocols import Guide
from jsrl.core.specs import EnvSpec
from jsrl.core.transitions import TransitionData
from jsrl.datasets import Reading
from jsrl.datasets.adroit import cloned_guide, collect_adroit, relabel
from jsrl.datasets.load import load_named
from jsrl.envs.adroit import AdroitBinaryEnv, BinaryTask
from jsrl.envs.make import describe_env, make_env
from jsrl.envs.registration import ADROIT_TASKS, adroit_id
from jsrl.loggers import Progress
from jsrl.run.build import build_guide, env_settings
from jsrl.run.summary import versions
from jsrl.settings.schema import EnvConfig


@on_typed
def collect_hand(config: AdroitDataConfig) -> None:
    """``jsrl dataset adroit``."""
    path, task = checked_path(config), _binary_task(config.env)
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
    with collecting(path, config.transitions, shown) as report:
        collect_adroit(
            *(path, settings, spec, demonstrations, guide),
            *(config.transitions, config.seed, attributes, report),
        )


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
    # Human demonstrations hold raw actions, which the hand clips.
    reading = Reading(spec=spec, clip_actions=True)
    with doubts_printed():
        recorded = load_named(name, reading, key="demonstrations")
    recorded.validate(spec)
    for line in recorded.notices():
        print(line, flush=True)
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
        print_conversion_of_actions(guide)
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
        *(demonstrations, spec, cloning.updates, cloning.dropout, cloning.noise),
        *(config.seed, progress.update),
    )
    progress.close()
    return clone
