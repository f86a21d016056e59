"""Record what a policy sees and computes while it acts alone in fresh episodes."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch

from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.observer import Observer, Sink
from jsrl.networks.deployment import DeployedPolicy
from jsrl.rollout.evaluator import Evaluator

Wrap = Callable[[gym.Env], gym.Env]


def roll_out(
    env: EnvSettings,
    spec: EnvSpec,
    policy: DeployedPolicy,
    capture: LayerCapture,
    streams: Streams,
    episodes: int,
    num_envs: int,
    sink: Sink,
    *,
    interval: int,
    wrap: Wrap | None = None,
) -> None:
    """Let a policy of one seed act alone, by its mode.

    Args:
        env: the environment.
        spec: its spaces.
        policy: S = 1.
        capture: of its layers.
        streams: of its seed: the start states are drawn from them.
        episodes: how many.
        num_envs: how many environments are stepped at a time, at most.
        sink: takes what is recorded.
        interval: steps between two that are.
        wrap: what is put around every environment, such as a fault.
    """
    num_envs = min(num_envs, episodes)
    evaluator = Evaluator(
        Environments(env, num_envs, wrap), spec, streams.child("evaluator"), torch.device("cpu")
    )
    observer = Observer(
        *(capture, list(streams.seeds), "deployed", interval, 1.0),
        *(streams.child("recorded"), num_envs, sink),
    )
    evaluator.observer = observer
    try:
        evaluator.evaluate(policy, None, np.zeros((1, episodes), np.int64), "monitor")
    finally:
        evaluator.close()
    observer.flush()
