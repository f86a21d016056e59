"""A collector and an evaluator whose policies are watched, and what an observer passed on."""

import fakes
import numpy as np
import torch
from fakes import FakeGuide, FixedSteps

from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.observer import Observer
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy
from jsrl.rollout.collector import Collector
from jsrl.rollout.evaluator import Evaluator

SEEDS, ENVS = (4, 9), 2


def gaussian():
    policy = GaussianPolicy(2, 3, 2, (8, 8))
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams(range(2)), "policy")
    return policy


class Watched:
    """A collector and an evaluator of two seeds, and what an observer of them passed on."""

    def __init__(
        self,
        phase=None,
        interval=1,
        share=1.0,
        draw=0,
        lengths=(2, 5),
        env_id=fakes.COUNTING,
        policy=None,
    ):
        env, self.policy = EnvSettings(env_id, {"lengths": lengths}), policy or gaussian()
        self.steps, self.said = ([], []), ([], [])
        count, spec, streams = len(SEEDS) * ENVS, describe_env(env), Streams(SEEDS)
        environments, cpu = Environments(env, count), torch.device("cpu")
        self.collector = Collector(environments, spec, ENVS, streams.child("collector"), cpu)
        self.evaluator = Evaluator(environments, spec, streams.child("evaluator"), cpu)
        self.observer = Observer(
            LayerCapture(self.policy, ".*"),
            *(SEEDS, phase, interval, share, streams.child("share", draw), ENVS, self._sink),
        )

    def _sink(self, index, steps, activations):
        self.steps[index].append(steps)
        self.said[index].append(activations)

    def collect(self, steps, guide_steps=2, chooses=False):
        """What was done in so many steps and what came of it, by name ``[steps, S, E, ...]``."""
        guide, curricula = FakeGuide(chooses=chooses), [FixedSteps(guide_steps, stage=3)] * 2
        taken = []
        for _ in range(steps):
            moment, step, _ = self.collector.step(self.policy, guide, curricula)
            images = {name: image.numpy() for name, image in moment.observation.images.items()}
            now = {
                "observations": moment.observation.vector.numpy(),
                "actions": moment.actions,
                "by_guide": moment.by_guide,
                "ended": step.terminated | step.truncated,
                "rewards": step.rewards,
                "next_observations": step.observation.vector.numpy(),
                **images,
            }
            taken.append({name: values.copy() for name, values in now.items()})
        by_name = {name: np.stack([step[name] for step in taken]) for name in taken[0]}
        shape = (steps, len(SEEDS), ENVS)
        return {name: v.reshape(*shape, *v.shape[2:]) for name, v in by_name.items()}

    def recorded(self, index):
        """For each episode of a seed that was recorded, the times of its steps."""
        self.observer.flush()
        if not self.steps[index]:
            return {}
        episodes = WatchedSteps.concatenate(self.steps[index]).episodes()
        return {int(steps.episode[0]): steps.time.tolist() for steps in episodes}

    def moments(self, index):
        """The steps of a seed and the activations in them, by moments of all environments."""
        self.observer.flush()
        steps = WatchedSteps.concatenate(self.steps[index])
        said = {n: torch.cat([s[n] for s in self.said[index]]) for n in self.said[index][0]}
        for start in range(0, len(steps), ENVS):
            own = np.arange(start, start + ENVS)
            yield steps.take(own), {name: values[own] for name, values in said.items()}
