"""What a run left behind: its configuration, its policies, and what it says of the environment."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint, stored_policy
from jsrl.core.command_folder import folders_of_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.protocols import SavablePolicy
from jsrl.envs.make import describe_env
from jsrl.networks.deployment import DeployedPolicy, spec_values
from jsrl.networks.saved_policies import build_policy
from jsrl.run.build import env_settings
from jsrl.run.origin import anchor, command_folder
from jsrl.run.stored_config import complete
from jsrl.settings.schema import TrainConfig


def load_policy(run: str | Path, seed: int, which: str = "exploration") -> DeployedPolicy:
    """A trained policy, alone (S = 1).

    ``policy.predict(observation)`` answers in the environment's units, as in Stable-Baselines3;
    ``policy.act(observation, None)`` as policies do, for an ``Observation`` or vectors
    ``[1, E, O]``.

    Args:
        run: a run directory, or one of its checkpoints.
        seed: one of the run's seeds.
        which: ``exploration``, or the run's own ``guide``.

    Raises:
        UserError: if the run, the seed or the policy is not there.
    """
    state = load_checkpoint(newest_checkpoint(Path(run)))
    if seed not in state["seeds"]:
        raise UserError(f"{run} has no seed {seed}; it has {state['seeds']}")
    policy = saved_policy(run, state, which).select(state["seeds"].index(seed))
    return DeployedPolicy.of(policy, saved_environment(Path(run), state), seed)


def run_configuration(run: Path) -> TrainConfig:
    """The configuration of a run, as its folder holds it, with its relative paths made absolute.

    Raises:
        UserError: if the folder is no run's.
    """
    file = run / "config.yaml"
    if not file.exists():
        raise UserError(f"run={str(run)!r} is no run directory: it has no config.yaml")
    stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    config: Any = OmegaConf.to_object(complete(stored))
    assert isinstance(config, TrainConfig)
    anchor(config, command_folder(run, stored))
    return config


def saved_policy(run: str | Path, state: dict[str, Any], which: str) -> SavablePolicy:
    """A policy with the seed axis, as a checkpoint holds it.

    Args:
        run: the run directory, or the checkpoint's file.
        state: the checkpoint.
        which: ``exploration`` or ``guide``.

    Raises:
        UserError: if the checkpoint has no such policy, or its class is not there.
    """
    stored = stored_policy(state, which, str(run))
    folders = folders_of_checkpoint(Path(run))
    return build_policy(stored["description"], stored["state"], folders)


def saved_environment(run: Path, state: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint says of the environment.

    Those of an early version lack the bounds of actions: then the environment is made.
    """
    environment: dict[str, Any] = state["environment"]
    if "action_low" not in environment and (run / "config.yaml").exists():
        return spec_values(describe_env(env_settings(run_configuration(run).env)))
    return environment
