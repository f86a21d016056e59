"""The scripted guide of the pendulum: what it does, and what its quality means."""

import gymnasium as gym
import numpy as np
import pytest

from jsrl.guides.pendulum import SwingUp


def observed(angle, velocity):
    return np.array([[np.cos(angle), np.sin(angle), velocity]])


def test_it_balances_at_the_top_and_swings_with_too_little_energy():
    guide = SwingUp()
    assert guide(observed(0.1, 0)) == pytest.approx(-10 * np.sin(0.1))
    # E = 4.5 - 15 is below 15: along with the motion, and against it with too much.
    assert guide(observed(np.pi, 3)) == 2 and guide(observed(np.pi, -3)) == -2
    assert guide(observed(np.pi, 9)) == -2


def test_its_quality_is_the_share_of_steps_that_are_the_controllers():
    rows = np.repeat(observed(np.pi, 1.0), 4_000, 0)
    for quality in (0.0, 0.3, 1.0):
        torques = SwingUp(quality)(rows, np.random.default_rng(0))
        assert set(np.unique(torques)) <= {2.0, -2 * np.tanh(1.0)}
        assert (torques == 2).mean() == pytest.approx(quality, abs=0.03)
    drawn = SwingUp(None)(rows, np.random.default_rng(0))
    assert abs(drawn.mean()) < 0.1 and drawn.min() < -1.9 and drawn.max() > 1.9


def test_it_swings_up():
    env = gym.make("Pendulum-v1")
    observation, _ = env.reset(seed=4)
    for _ in range(200):
        observation, reward, *_ = env.step(SwingUp()(observation[None])[0])
    assert reward > -0.01
