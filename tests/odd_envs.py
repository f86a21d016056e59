"""An environment with whatever spaces and answers it is given, for tests."""

import copy

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from jsrl.envs.make import EnvSettings

BOX = spaces.Box(-1, 1, (2,), np.float32)


class Odd(gym.Env):
    """Keeps the actions that it is given.

    Args:
        observation_space: observations are samples of it.
        action_space: what it insists on.
        answer: called with the number of the step, for (reward, terminated, info); None for 0.0,
            False and nothing.
    """

    def __init__(self, observation_space=BOX, action_space=BOX, answer=None):
        # Each environment draws from a space of its own.
        self.observation_space = copy.deepcopy(observation_space)
        self.action_space = action_space
        self.answer = answer or (lambda step: (0.0, False, {}))
        self.taken = []

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        chooses = isinstance(self.action_space, spaces.Discrete)
        assert type(action) is (int if chooses else np.ndarray)
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.taken.append(copy.copy(action))
        if not chooses:
            # What an environment does to its action must not be seen outside.
            action[...] = 77
        self.steps += 1
        reward, terminated, info = self.answer(self.steps)
        return self.observation_space.sample(), reward, terminated, False, info


def wrapped(wrap=None, **arguments):
    environment = Odd(**arguments)
    return environment if wrap is None else wrap(environment)


def odd(observation_space=BOX, action_space=BOX, *, endless=False, wrap=None, answer=None, **rest):
    """Settings of such an environment, registered with a time limit of 10 unless ``endless``."""
    name = f"jsrl-tests/Odd{'Endless' if endless else ''}-v0"
    if name not in gym.registry:
        gym.register(name, wrapped, max_episode_steps=None if endless else 10)
    kwargs = {"observation_space": observation_space, "action_space": action_space}
    return EnvSettings(name, kwargs | {"wrap": wrap, "answer": answer}, **rest)


def odd_observations(settings, seed):
    """What such an environment itself gives at a reset with this seed, and after one step."""
    environment = gym.make(settings.id, disable_env_checker=True, **settings.kwargs)
    first, _ = environment.reset(seed=seed)
    space = environment.action_space
    action = int(space.start) if isinstance(space, spaces.Discrete) else space.sample()
    second = environment.step(action)[0]
    environment.close()
    return first, second
