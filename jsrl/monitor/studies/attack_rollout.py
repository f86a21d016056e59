"""Episodes of a policy whose observations are under attack."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.observer import Observer
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.monitor.studies.attacks import Attack, Ball, Objective
from jsrl.networks.seed_policy import SeedPolicy
from jsrl.rollout.evaluator import Evaluation, Evaluator


@dataclass(frozen=True)
class Attacker:
    """An attack that is ready.

    Args:
        attack: fitted.
        objective: what it wants.
        ball: what it may change.
        seed: of its draws.
    """

    attack: Attack
    objective: Objective
    ball: Ball
    seed: int


class AttackedObservations(gym.Wrapper[Any, Any, Any, Any]):
    """Shows an environment's observations as an attacker changes them; nothing else is touched.

    Args:
        env: an environment of ``make_env`` without images.
        attacker: who changes them.
    """

    def __init__(self, env: gym.Env[Any, Any], attacker: Attacker) -> None:
        super().__init__(env)
        self._attacker = attacker
        self._streams = Streams([attacker.seed], ("attack",))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; with a seed, the attacker's draws follow from it too."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._streams = Streams([self._attacker.seed], ("attack", seed))
        return self._shown(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step, and change what is seen of it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._shown(observation), reward, terminated, truncated, info

    def _shown(self, raw: Any) -> Any:
        by = self._attacker
        # The environments may be stepped where tensors carry no gradients.
        with torch.inference_mode(False):
            # What ``make_env`` gives is one vector, where there are no images.
            clean = torch.tensor(np.asarray(raw), dtype=torch.float32).reshape(1, -1)
            change = by.attack.perturbation(by.objective, clean, by.ball, self._streams)
            return (clean + change).numpy().reshape(np.shape(raw))


def attacked_episodes(
    policy: SeedPolicy,
    capture: LayerCapture,
    env: EnvSettings,
    spec: EnvSpec,
    streams: Streams,
    episodes: int,
    num_envs: int,
    interval: int,
    attacker: Attacker | None = None,
) -> tuple[list[Sample], Evaluation]:
    """Let a policy act alone, by its mode.

    Args:
        policy: S = 1.
        capture: of its layers.
        env: the environment.
        spec: its spaces.
        streams: of its seed: the start states are drawn from them, the same with every attacker.
        episodes: how many.
        num_envs: how many environments are stepped at a time, at most.
        interval: steps from one that is watched to the next.
        attacker: who changes what the policy sees; None: nobody.

    Returns:
        Each episode as the monitor sees it, in the order in which they began, and how they went.
    """
    num_envs = min(num_envs, episodes)
    wrap = None
    if attacker is not None:
        wrap = partial(AttackedObservations, attacker=attacker)
    # In this process, where the policy is.
    environments = Environments(replace(env, vectorisation="sync"), num_envs, wrap)
    evaluator = Evaluator(environments, spec, streams.child("evaluator"), torch.device("cpu"))
    watched: list[Sample] = []

    def sink(_: int, steps: WatchedSteps, layers: dict[str, Tensor]) -> None:
        watched.append(Sample(steps, layers))

    observer = Observer(
        *(capture, list(streams.seeds), "deployed", interval, 1.0),
        *(streams.child("recorded"), num_envs, sink),
    )
    evaluator.observer = observer
    try:
        none = np.zeros((1, episodes), np.int64)
        evaluation = evaluator.evaluate(policy, None, none, "attack")
    finally:
        evaluator.close()
    observer.flush()
    whole = Sample.concatenate(watched)
    numbers = np.unique(whole.steps.episode)
    found = [whole.take(np.flatnonzero(whole.steps.episode == number)) for number in numbers]
    return found, evaluation
