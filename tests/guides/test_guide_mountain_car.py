"""The scripted guides of both mountain cars on the real environments."""

import gymnasium as gym
import numpy as np

from jsrl.guides.mountain_car import choose_along, push_along


def test_it_reaches_the_flag_from_every_start_and_pays_for_full_force() -> None:
    env = gym.make("MountainCarContinuous-v0")
    returns = []
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        rewards, ended = [], False
        while not ended:
            action = push_along(observation[None])[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(float(reward))
            ended = terminated or truncated
        assert terminated
        # 100 at the flag, and 0.1 for each step at full force.
        assert np.isclose(sum(rewards), 100 - 0.1 * len(rewards))
        returns.append(sum(rewards))
    env.close()
    assert 85 < np.mean(returns) <= 90


def test_its_choices_reach_the_flag_well_within_the_time_limit() -> None:
    env = gym.make("MountainCar-v0")
    lengths = []
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        steps, ended = 0, False
        while not ended:
            choice = choose_along(observation[None])[0]
            observation, _, terminated, truncated, _ = env.step(choice)
            steps, ended = steps + 1, terminated or truncated
        assert terminated
        lengths.append(steps)
    env.close()
    assert max(lengths) < 180
