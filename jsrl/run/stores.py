"""Where the transitions of a run are kept, as its configuration and its learner ask for it."""

from pathlib import Path

import torch

from jsrl.core.errors import UserError
from jsrl.core.observed_share import data_with_share
from jsrl.core.protocols import DataNeeds
from jsrl.core.specs import EnvSpec
from jsrl.datasets import Dataset
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.transition_store import TransitionStore
from jsrl.settings.schema import TrainConfig


def offline_store(
    config: TrainConfig,
    spec: EnvSpec,
    dataset: Dataset | None,
    needs: DataNeeds,
    device: torch.device,
) -> OfflineStore | None:
    """The offline transitions, as ``spec`` says they are observed; None without a dataset."""
    if dataset is None:
        return None
    has_share = spec.observation.size > dataset.observation_size
    return OfflineStore(
        data_with_share(dataset.data) if has_share else dataset.data,
        spec.observation,
        spec.actions,
        discount=needs.discount,
        n_step=needs.n_step,
        device=device,
        action_clip=config.learner.data_action_clip,
        returns_to_go=needs.returns_to_go,
        members=config.guide.is_several,
    )


def online_store(
    config: TrainConfig,
    spec: EnvSpec,
    needs: DataNeeds,
    device: torch.device,
    *,
    next_guide: bool = False,
) -> TransitionStore:
    """Room for the transitions that are collected, for no more than there can be.

    With ``next_guide`` each holds what the guide would do in its successor.
    """
    num_envs, online = config.env.num_envs, config.online
    # Up to the surplus of one step.
    at_most = online.steps + online.critic_warmup_steps + 2 * num_envs
    return TransitionStore(
        spec.observation,
        spec.actions,
        num_seeds=len(config.seeds),
        num_envs=num_envs,
        capacity=max(2 * num_envs, min(online.buffer_size, at_most)),
        discount=needs.discount,
        n_step=needs.n_step,
        device=device,
        directory=image_folder(config.replay.directory, spec),
        returns_to_go=needs.returns_to_go,
        members=config.guide.is_several,
        next_guide=next_guide,
    )


def image_folder(directory: str | None, spec: EnvSpec) -> Path | None:
    """The folder of ``replay.directory``; None keeps images in memory.

    Raises:
        UserError: if the environment observes no image.
    """
    if directory is None:
        return None
    if not spec.observation.images:
        raise UserError(
            f"replay.directory={directory!r} is for images, and {spec.id} observes none; leave "
            "replay.directory out"
        )
    return Path(directory).expanduser()
