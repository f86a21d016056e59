"""Steps of numbered observations, and what a minibatch of them has to be, worked out one by one."""

from dataclasses import dataclass

import numpy as np
import torch

from jsrl.core.observations import Observation
from jsrl.core.specs import (
    BoxActions,
    DiscreteActions,
    ImagePart,
    ObservationSpec,
    VectorPart,
)
from jsrl.core.transitions import Moment
from jsrl.envs import make

IMAGE = (1, 2, 3)
VECTOR = ObservationSpec((VectorPart(("a",), (2,)),))
PIXELS = ObservationSpec((VectorPart(("a",), (2,)),), (ImagePart(("i",), (2, 3), None, IMAGE),))
ONLY_PIXELS = ObservationSpec((), (ImagePart((), (2, 3), None, IMAGE),))
BOX = BoxActions((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), (3,))
CHOICE = DiscreteActions(50)
CPU = torch.device("cpu")


def numbered(spec, numbers):
    """Observations that say which ones they are, in the vector as in the image."""
    numbers = np.asarray(numbers)
    vector = np.zeros((*numbers.shape, spec.size), np.float32)
    if spec.size:
        vector[..., 0], vector[..., 1] = numbers, -numbers
    images = {}
    for part in spec.images:
        pixels = np.zeros((*numbers.shape, *IMAGE), np.uint8)
        pixels[..., 0, 0, 0], pixels[..., 0, 1, 2] = numbers % 256, numbers // 256
        images[part.name] = torch.from_numpy(pixels)
    return Observation(torch.from_numpy(vector), images)


def numbers_of(observation):
    """The numbers of observations, after a check that vector and images agree."""
    images = list(observation.images.values())
    found = []
    if observation.vector.shape[-1]:
        found.append(observation.vector[..., 0].long())
    for image in images:
        found.append(image[..., 0, 0, 0].long() + 256 * image[..., 0, 1, 2].long())
    assert all(torch.equal(one, found[0]) for one in found)
    return found[0].numpy()


@dataclass
class Step:
    """One step of one environment."""

    observation: int
    action: int
    reward: float
    successor: int
    terminated: bool
    truncated: bool
    by_guide: bool
    stage: int
    goes_on: bool = False


class Walk:
    """Environments whose episodes end at random, and which at times jump without an end."""

    def __init__(self, seed, envs, chance_of_end=0.25, chance_of_jump=0.05):
        self.generator = np.random.default_rng(seed)
        self.chances = (chance_of_end, chance_of_jump)
        self.next_number = 0
        self.steps = [[] for _ in range(envs)]
        self.standing = [self._new() for _ in range(envs)]

    def _new(self):
        self.next_number += 1
        return self.next_number

    def step(self):
        return [self._step(env) for env in range(len(self.steps))]

    def _step(self, env):
        draw = self.generator.random
        end, jump = self.chances
        terminated, truncated = draw() < end / 2, draw() < end / 2
        one = Step(
            observation=self.standing[env],
            action=int(self.generator.integers(50)),
            reward=float(np.float32(draw())),
            successor=self._new(),
            terminated=terminated,
            truncated=truncated,
            by_guide=draw() < 0.5,
            stage=int(self.generator.integers(4)),
        )
        one.goes_on = not terminated and not truncated and draw() >= jump
        self.standing[env] = one.successor if one.goes_on else self._new()
        self.steps[env].append(one)
        return one


def add(store, spec, actions, steps):
    """Store ``steps[s][e]``."""

    def column(name, kind):
        return np.array([getattr(one, name) for row in steps for one in row], kind)

    chosen = column("action", np.int64)
    share = chosen.astype(np.float32) / 50
    moment = Moment(
        observation=numbered(spec, column("observation", float)),
        actions=chosen if actions is CHOICE else np.stack([share, -share, share * 0], -1),
        episodes=np.zeros(len(chosen), np.int64),
        times=np.zeros(len(chosen), np.int64),
        by_guide=column("by_guide", bool),
        stages=column("stage", np.int64),
        counts=np.ones(len(chosen), bool),
    )
    step = make.Step(
        observation=numbered(spec, column("successor", float)),
        rewards=column("reward", np.float32),
        terminated=column("terminated", bool),
        truncated=column("truncated", bool),
        successes=np.full(len(chosen), np.nan, np.float32),
    )
    store.add(moment, step)


def expected(steps, index, n, discount):
    """The n-step transition that begins at ``steps[index]`` of one environment."""
    total, factor = 0.0, 1.0
    for one in steps[index : index + n]:
        total += factor * one.reward
        factor *= discount
        if not one.goes_on:
            break
    first = steps[index]
    return {
        "observation": first.observation,
        "action": first.action,
        "reward": total,
        "discount": 0.0 if one.terminated else factor,
        "next_observation": one.successor,
        "terminated": one.terminated,
        "truncated": one.truncated,
        "by_guide": first.by_guide,
        "share": not first.by_guide,
        "stage": first.stage,
    }
