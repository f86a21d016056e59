"""Faults: each one changes what it says, nothing else, and the same way again."""

import fakes
import gymnasium as gym
import numpy as np
import pytest

from jsrl.core.errors import UserError
from jsrl.envs.make import Environments, EnvSettings, make_env
from jsrl.monitor.studies.faults import (
    DYNAMICS,
    FALSIFIERS,
    SENSOR_FAULTS,
    Fault,
    SensorFault,
    mujoco_model,
    with_fault,
)

POINTMAZE = EnvSettings("PointMaze_UMaze-v3", {"continuing_task": False}, max_episode_steps=200)
ANTMAZE = EnvSettings("jsrl/antmaze-umaze-v0", max_episode_steps=200)


class Ramp(gym.Env):
    """Observes (1 + t, 10 + t, 100 + t, 1000 + t); pays its action, and ends after 50 steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self._observe(), {"start": True}

    def step(self, action):
        self.clock += 1
        over = self.clock >= 50
        return self._observe(), float(action[0]), over, False, {"clock": self.clock}

    def _observe(self):
        return np.array([1, 10, 100, 1000], np.float32) + np.float32(self.clock)


TRUTH = np.array([1, 10, 100, 1000]) + np.arange(8)[:, None]
"""What ``Ramp`` observes in its first eight steps."""


def shown(env, steps=7, seed=3):
    """Observations of an episode, the first included."""
    found = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        found.append(env.step(np.full(env.action_space.shape, 0.5, np.float32))[0])
    return np.array(found)


def faulty(kind, columns, strength=0.0, seed=0):
    return with_fault(Ramp(), Fault(kind, columns, strength, seed))


@pytest.mark.parametrize(
    "kind, columns, strength, falsified",
    [
        ("stuck", (2,), 7.5, lambda t: {2: 7.5}),
        ("stuck", (0, 3), -4.0, lambda t: {0: -4, 3: -4}),
        ("biased", (1,), 0.25, lambda t: {1: 10.25 + t}),
        ("biased", (3, 0), -3.0, lambda t: {3: 997 + t, 0: -2 + t}),
        ("rescaled", (1, 2), 2.0, lambda t: {1: 20 + 2 * t, 2: 200 + 2 * t}),
        ("rescaled", (0,), -2.5, lambda t: {0: -2.5 - 2.5 * t}),
        ("swapped", (0, 2), 0.0, lambda t: {0: 100 + t, 2: 1 + t}),
        ("delayed", (1,), 3.0, lambda t: {1: 10 + max(0, t - 3)}),
        ("delayed", (0, 3), 1.0, lambda t: {0: 1 + max(0, t - 1), 3: 1000 + max(0, t - 1)}),
        ("delayed", (0,), 0.0, lambda t: {}),
        ("dropped", (2, 1), 1.0, lambda t: {2: 0, 1: 0}),
        ("dropped", (2,), 0.0, lambda t: {}),
        ("noisy", (2,), 0.0, lambda t: {}),
    ],
)
def test_a_sensor_shows_what_its_fault_says_and_the_others_the_truth(
    kind, columns, strength, falsified
):
    expected = TRUTH.astype(np.float32)
    for t in range(8):
        for column, value in falsified(t).items():
            expected[t, column] = value
    env = faulty(kind, columns, strength)
    # The second episode begins anew: a delayed sensor remembers nothing of the first.
    for _ in range(2):
        found = shown(env)
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", SENSOR_FAULTS)
def test_a_sensor_fault_changes_nothing_but_the_observation(kind):
    env = faulty(kind, (0, 1), 1.0)
    assert isinstance(env, SensorFault)
    observation, info = env.reset(seed=1)
    assert info == {"start": True} and observation.shape == (4,)
    for clock in range(1, 51):
        _, reward, terminated, truncated, info = env.step(np.array([0.25], np.float32))
        assert (reward, terminated, truncated) == (0.25, clock == 50, False)
        assert info == {"clock": clock}


def test_the_environments_own_array_is_left_alone():
    class Same(Ramp):
        """Gives out the same array at every step."""

        def _observe(self):
            self.array = getattr(self, "array", np.zeros(4, np.float32))
            self.array[:] = super()._observe()
            return self.array

    env = Same()
    found = shown(with_fault(env, Fault("rescaled", (0,), 10.0)))
    assert np.array_equal(found[:, 0], 10 * TRUTH[:, 0])
    assert env.array.tolist() == TRUTH[-1].tolist()


def test_noise_has_its_standard_deviation_and_no_memory():
    env = faulty("noisy", (0, 3), 0.5)
    episodes = np.stack([shown(env, seed=i) for i in range(400)]) - TRUTH
    noise = episodes[:, :, [0, 3]].astype(np.float64)
    assert np.abs(noise.mean()) < 0.03
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    assert np.abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.07
    assert np.abs(np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]) < 0.07
    assert not episodes[:, :, [1, 2]].any()


def test_values_are_dropped_with_their_probability():
    env = faulty("dropped", (1, 2), 0.3)
    dropped = np.stack([shown(env, seed=i) for i in range(400)]) == 0
    assert dropped[:, :, [1, 2]].mean() == pytest.approx(0.3, abs=0.025)
    # Each sensor by itself.
    assert (dropped[..., 1] & dropped[..., 2]).mean() == pytest.approx(0.09, abs=0.015)
    assert not dropped[:, :, [0, 3]].any()


@pytest.mark.parametrize("kind", ["noisy", "dropped"])
def test_the_same_reset_seed_gives_the_same_noise(kind):
    env = faulty(kind, (0, 1), 0.5, seed=4)
    first, other, again = shown(env, seed=1), shown(env, seed=2), shown(env, seed=1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, shown(faulty(kind, (0, 1), 0.5, seed=4), seed=1))
    assert not np.array_equal(first, shown(faulty(kind, (0, 1), 0.5, seed=5), seed=1))
    # Without a reset seed it goes on, and does not repeat itself.
    assert not np.array_equal(shown(env, seed=None), shown(env, seed=None))


def test_a_sensor_of_a_real_maze_is_stuck_in_every_copy():
    fault = Fault("stuck", (0,), -3.0)
    environments = Environments(POINTMAZE, 2, wrap=lambda env: with_fault(env, fault))
    true = Environments(POINTMAZE, 2)
    everywhere, actions = np.ones(2, bool), np.full((2, 2), 0.5, np.float32)
    seen, was = (e.reset(everywhere, [1, 2]).vector.numpy() for e in (environments, true))
    for _ in range(5):
        assert (seen[:, 0] == -3).all()
        assert np.array_equal(seen[:, 1:], was[:, 1:])
        seen, was = (e.step(actions).observation.vector.numpy() for e in (environments, true))
    assert (was[:, 0] != -3).all()
    environments.close()
    true.close()


def trajectory(settings, fault=None, steps=40):
    """An episode with actions that do not depend on what is seen."""
    env = make_env(settings)
    if fault is not None:
        assert with_fault(env, fault) is env
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape))
    # On the whole into one direction, so that the point meets a wall.
    actions = np.clip(actions + (settings is POINTMAZE), -1, 1).astype(np.float32)
    found = [env.reset(seed=3)[0], *(env.step(action)[0] for action in actions)]
    env.close()
    return np.array(found)


@pytest.mark.parametrize(
    "settings, kind",
    [
        *((POINTMAZE, kind) for kind in ("mass", "gear")),
        *((ANTMAZE, kind) for kind in DYNAMICS),
    ],
    ids=lambda value: getattr(value, "id", value),
)
def test_another_body_moves_otherwise_under_the_same_actions(settings, kind):
    usual = trajectory(settings)
    assert np.array_equal(trajectory(settings), usual)
    assert np.array_equal(trajectory(settings, Fault(kind, (), 1.0)), usual)
    for factor in (0.2, 3.0):
        changed = trajectory(settings, Fault(kind, (), factor))
        assert np.array_equal(changed[0], usual[0])
        assert np.abs(changed - usual).max() > 0.01


def test_a_heavier_point_is_slower_by_the_factor():
    def first_velocity(fault):
        env = make_env(POINTMAZE)
        with_fault(env, fault)
        before = env.reset(seed=3)[0]
        after = env.step(np.array([0.1, 0.0], np.float32))[0]
        env.close()
        # Where the goals come first in the alphabet, the point's own state stands last.
        return (after - before)[-2]

    # Without the damping of the joint, force over mass; with it, nearly.
    light, heavy = (first_velocity(Fault("mass", (), factor)) for factor in (1.0, 4.0))
    assert light / heavy == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize(
    "kind, changed",
    [("mass", "body_mass"), ("friction", "geom_friction"), ("gear", "actuator_gear")],
)
def test_the_model_inside_of_a_maze_is_scaled_and_the_next_one_is_not(kind, changed):
    env, other = make_env(ANTMAZE), make_env(ANTMAZE)
    usual = {
        name: getattr(mujoco_model(other), name).copy()
        for name in ("body_mass", "body_inertia", "geom_friction", "actuator_gear")
    }
    with_fault(env, Fault(kind, (), 3.0))
    for name, before in usual.items():
        expected = before.copy()
        if name == changed or (kind, name) == ("mass", "body_inertia"):
            # Of friction, what resists sliding; turning and rolling stay.
            where = np.s_[:, 0] if kind == "friction" else np.s_[:]
            expected[where] *= 3
        np.testing.assert_allclose(getattr(mujoco_model(env), name), expected)
        assert np.array_equal(getattr(mujoco_model(other), name), before)
    env.close()
    other.close()


def test_friction_that_no_contact_has_is_refused():
    # All contacts of the point are frictionless (condim 1): a factor would change nothing.
    env = make_env(POINTMAZE)
    with pytest.raises(UserError, match="friction"):
        with_fault(env, Fault("friction", (), 3.0))
    env.close()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("loose", (0,)), r"fault\.kind='loose' is unknown; choose one of stuck"),
        (("stuck",), r"fault\.kind=stuck needs fault\.columns"),
        (("swapped", (0,)), r"swapped needs two columns, got \[0\]"),
        (("swapped", (0, 1, 2)), r"swapped needs two columns, got \[0, 1, 2\]"),
        (("dropped", (0,), 1.5), r"fault\.strength=1\.5 is a probability"),
        (("dropped", (0,), -0.1), r"fault\.strength=-0\.1 is a probability"),
        (("dropped", (0,), float("nan")), r"fault\.strength=nan must be a finite number"),
        (("delayed", (0,), 1.5), r"fault\.strength=1\.5 is a number of steps"),
        (("delayed", (0,), -1.0), r"fault\.strength=-1\.0 is a number of steps"),
        (("noisy", (0,), -1.0), r"fault\.strength=-1\.0 must be at least 0"),
        (("mass", (), -1.0), r"fault\.strength=-1\.0 must be at least 0"),
    ],
)
def test_what_does_not_go_together_is_explained(arguments, said):
    with pytest.raises(UserError, match=said):
        Fault(*arguments)


@pytest.mark.parametrize("columns", [(4,), (0, 9), (-1,)])
def test_columns_that_are_not_there_are_explained(columns):
    with pytest.raises(UserError, match=r"the observation has columns 0 to 3"):
        faulty("stuck", columns, 1.0)


def test_an_observation_that_is_not_flat_is_explained():
    env = gym.make(fakes.COUNTING, dictionary=True)
    with pytest.raises(UserError, match="flat"):
        with_fault(env, Fault("stuck", (0,), 1.0))


@pytest.mark.parametrize("kind", DYNAMICS)
def test_an_environment_without_a_simulated_body_is_explained(kind):
    env = make_env(EnvSettings("Pendulum-v1"))
    with pytest.raises(UserError, match=r"no MuJoCo model.*choose a sensor fault: stuck"):
        with_fault(env, Fault(kind, (), 2.0))
    env.close()


def test_every_sensor_fault_can_falsify():
    assert set(FALSIFIERS) == set(SENSOR_FAULTS)
