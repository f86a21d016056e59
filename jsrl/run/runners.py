"""What steps the environments of a run and updates its learner, as the learner asks for it."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch

from jsrl.core.errors import UserError
from jsrl.core.nondeterminism import Sources
from jsrl.core.protocols import Consumes, Learner, OnPolicyLearner
from jsrl.core.specs import EnvSpec
from jsrl.envs.make import Environments, EnvSettings
from jsrl.rollout.collector import Collector
from jsrl.rollout.hindsight import Hindsight
from jsrl.rollout.offline_store import OfflineStore
from jsrl.rollout.on_policy import OnPolicyRunner
from jsrl.rollout.online import OnlineRunner
from jsrl.rollout.replay import Replay
from jsrl.rollout.runner import Runner
from jsrl.rollout.transition_store import TransitionStore
from jsrl.run.checks import offline_fraction
from jsrl.run.stores import online_store
from jsrl.settings.schema import TrainConfig


@dataclass(frozen=True)
class RunnerParts:
    """What a runner is put together from."""

    config: TrainConfig
    settings: EnvSettings
    spec: EnvSpec
    explorer_spec: EnvSpec
    """As the explorer sees the environment: with its share, where it observes that."""
    sources: Sources
    learner: Learner
    offline: OfflineStore | None
    foresees: bool
    """Whether the guide is asked after every step what it would do next."""
    goals_env: gym.Env[Any, Any] | None
    """What is asked for rewards under other goals; None without hindsight."""
    device: torch.device


def make_runner(parts: RunnerParts) -> Runner:
    """Put a runner together.

    Raises:
        UserError: if the learner needs rollouts and lacks some of what goes with them, or hindsight
            does not fit the environment.
    """
    config, learner, sources = parts.config, parts.learner, parts.sources
    num_envs = config.env.num_envs
    collector = Collector(
        Environments(parts.settings, len(config.seeds) * num_envs),
        parts.spec,
        num_envs,
        sources.streams("environment", "collector"),
        parts.device,
        observes_share=parts.explorer_spec is not parts.spec,
    )
    order = sources.streams("minibatch_order", "online")
    draws = sources.streams("learner", "online")
    if learner.needs.data is Consumes.ROLLOUTS:
        if not isinstance(learner, OnPolicyLearner):
            raise UserError(
                f"learner={config.learner.kind} needs {Consumes.ROLLOUTS.value}, but "
                f"{type(learner).__name__} lacks some of what OnPolicyLearner of "
                "jsrl.core.protocols asks for; give it rollouts, explore, values, draws and update"
            )
        return OnPolicyRunner(collector, learner, order, draws, parts.device)
    store = online_store(
        config, parts.explorer_spec, learner.needs, parts.device, next_guide=parts.foresees
    )
    return OnlineRunner(
        collector,
        store,
        _replay(parts, store),
        learner,
        order,
        draws,
        num_envs,
        config.online.updates_per_step,
        config.online.learning_starts,
    )


def _replay(parts: RunnerParts, store: TransitionStore) -> Replay:
    """Minibatches of offline and online transitions."""
    fraction = offline_fraction(parts.config.online.offline_fraction)
    offline = None if fraction == 0 else parts.offline
    size = parts.config.learner.batch_size
    return Replay(offline, store, size, fraction, parts.device, _hindsight(parts, store))


def _hindsight(parts: RunnerParts, store: TransitionStore) -> Hindsight | None:
    """What gives transitions other goals."""
    env, spec = parts.goals_env, parts.spec
    if env is None:
        return None
    return Hindsight(store, spec.observation, env.unwrapped, spec.id, parts.config.replay.goals)
