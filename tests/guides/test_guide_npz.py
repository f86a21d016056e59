"""Behaviour policies from npz files: against a second implementation, and what is refused."""

import numpy as np
import pytest
import torch
from policy_files import ANT, PEN_EXPERT, ant_arrays, expert_arrays, needs_policies

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.antmaze import AntMazeEnv
from jsrl.envs.make import EnvSettings, describe_env, make_env
from jsrl.envs.mazes import Maze
from jsrl.guides import GuideView, npz_guide
from jsrl.guides.ant import GoalReachingAnt, careful_points, next_points
from jsrl.guides.npz import ExpertPolicy, is_ant, read_npz


@pytest.fixture
def umaze():
    env = AntMazeEnv("umaze")
    yield env
    env.close()


UMAZE = EnvSettings("jsrl/antmaze-umaze-v0")


def guide(tmp_path, arrays, settings=UMAZE, view=None, noise=0.0):
    path = tmp_path / "policy.npz"
    np.savez(path, **arrays)
    env = make_env(settings)
    try:
        return npz_guide(path, env, view or GuideView(), describe_env(settings), 1, noise)
    finally:
        env.close()


def test_the_ant_is_the_network_that_the_file_describes():
    arrays, rng = ant_arrays(), np.random.default_rng(2)
    observations, points = rng.normal(size=(5, 29)), rng.normal(size=(5, 2))
    normal = rng.normal(size=(5, 8))
    relative = points - observations[:, :2]
    relative = 10 * relative / np.linalg.norm(relative, axis=1, keepdims=True)
    x = np.concatenate([observations[:, 2:], relative], axis=1)
    for index in range(2):
        x = np.maximum(x @ arrays[f"hidden_{index}_weight"].T + arrays[f"hidden_{index}_bias"], 0)
    mean = x @ arrays["mean_weight"].T + arrays["mean_bias"]
    std = np.exp(x @ arrays["log_std_weight"].T + arrays["log_std_bias"])
    ant = GoalReachingAnt(arrays)
    np.testing.assert_allclose(ant.act(observations, points), np.tanh(mean), atol=1e-5)
    sampled = ant.act(observations, points, normal)
    np.testing.assert_allclose(sampled, np.tanh(mean + std * normal), atol=1e-5)


def test_the_expert_acts_by_its_mean_and_with_its_own_noise():
    arrays, rng = expert_arrays(), np.random.default_rng(3)
    observations = rng.normal(size=(400, 45)).astype(np.float32)
    x = (observations - arrays["observation_shift"]) / arrays["observation_scale"]
    x = np.tanh(x @ arrays["hidden_0_weight"].T + arrays["hidden_0_bias"])
    mean = 0.3 * (x @ arrays["mean_weight"].T + arrays["mean_bias"]) + 0.1
    expert = ExpertPolicy(arrays)
    np.testing.assert_allclose(expert(observations, 0, None), mean.clip(-1, 1), atol=1e-5)
    inside = np.abs(mean) < 0.4
    noisy = expert(observations, 0, np.random.default_rng(0)) - mean
    assert noisy[inside].std() == pytest.approx(np.exp(-2), rel=0.03)


def test_points_follow_the_shortest_path_and_end_at_the_goal(umaze):
    maze, goal = umaze.maze, np.array([[0.4, 8.6]])
    offsets = np.array([[0.25, 0.75]])
    expected = {
        (0.0, 0.0): (4.25, 0.75),
        (4.0, 0.0): (8.25, 0.75),
        (8.0, 0.5): (8.25, 4.75),
        (8.0, 8.0): (4.25, 8.75),
        (4.1, 8.0): (0.4, 8.6),
        (0.0, 8.0): (0.4, 8.6),
    }
    for position, point in expected.items():
        found = next_points(maze, np.array([position]), goal, offsets)
        np.testing.assert_allclose(found, [point])


def test_a_careful_walk_returns_to_the_middle_of_the_corridor(umaze):
    expected = {
        (1.0, 0.3): (4.0, 0.0),  # near the middle: the next cell
        (1.0, 0.8): (3.0, 0.0),  # off it: slantwise back
        (7.0, 1.5): (8.0, 3.5),  # to the right of the way up, too early at the corner
        (8.2, 1.5): (8.0, 4.0),
        (1.5, 8.5): (0.4, 8.6),
    }
    for position, point in expected.items():
        found = careful_points(umaze.maze, np.array([position]), np.array([[0.4, 8.6]]))
        np.testing.assert_allclose(found, [point])


def test_the_guide_acts_in_the_maze_and_noise_is_its_own(tmp_path):
    plain, noisy = (guide(tmp_path, ant_arrays(), noise=noise) for noise in (0.0, 0.2))
    observations = Observation(torch.randn(1, 6, 29, generator=torch.Generator()))
    mask = torch.ones(1, 6) > 0
    mode = plain.act(observations, None, mask)
    assert torch.equal(mode, noisy.act(observations, None, mask))
    sampled = plain.act(observations, Streams([0]), mask)
    assert not torch.equal(mode, sampled)
    assert torch.equal(sampled, plain.act(observations, Streams([0]), mask))
    assert not torch.equal(sampled, noisy.act(observations, Streams([0]), mask))
    assert plain.fingerprint != noisy.fingerprint


def changed(**arrays):
    return ant_arrays() | arrays


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({}, r"has no .*hidden_0_weight.*it has none"),
        ({"weights": np.zeros(3)}, r"expected the arrays of an Adroit expert.*it has weights"),
        (
            changed(mean_weight=np.zeros((8, 7))),
            r"mean_weight has shape \(8, 7\); expected \(8, 16",
        ),
        (changed(hidden_0_weight=np.zeros((16, 27))), r"\(16, 27\); expected \(16, 29\)"),
        (changed(mean_bias=np.full(8, np.nan)), r"mean_bias holds a number that is not finite"),
        (expert_arrays(), r"takes 45 observations and gives 24 actions.* has 29 and 8"),
    ],
)
def test_files_of_another_layout_or_size_are_refused(tmp_path, arrays, says):
    with pytest.raises(UserError, match=says):
        guide(tmp_path, arrays)


def test_missing_and_broken_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.npz' does not exist; expected an npz file"):
        read_npz(tmp_path / "nowhere.npz")
    broken = tmp_path / "broken.npz"
    np.savez(broken, **ant_arrays())
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(UserError, match=r"is no npz file, or truncated"):
        read_npz(broken)


def test_the_ant_needs_an_antmaze(tmp_path):
    with pytest.raises(UserError, match=r"goal-reaching ant.*choose env=antmaze_umaze"):
        guide(tmp_path, ant_arrays(), EnvSettings("Ant-v5"))


def test_unreachable_goals_leave_the_ant_where_it_is():
    maze = Maze(np.array([[False, True, False]]), 4.0, 2.0, 2.0, 1)
    found = next_points(maze, np.zeros((1, 2)), np.array([[8.0, 0.0]]), np.zeros((1, 2)))
    np.testing.assert_allclose(found, [[0, 0]])


@needs_policies
def test_real_files_are_told_apart():
    assert is_ant(read_npz(ANT))
    assert not is_ant(read_npz(PEN_EXPERT))
