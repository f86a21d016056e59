"""The guide that acts from an image: what it sees, and how often it arrives."""

import numpy as np
import pytest

from jsrl.envs.lookup import make_registered
from jsrl.envs.registration import seen_maze_id
from jsrl.guides.seen_maze import SeenMazeGuide, seen_walls


def episode(env, guide, seed):
    """Whether the goal was reached, and after how many steps, in a plain loop of Gymnasium's."""
    observed, _ = env.reset(seed=seed)
    generator, steps, done = np.random.default_rng(seed), 0, False
    while not done:
        action = guide.act(observed, generator)
        observed, _, terminated, truncated, info = env.step(action)
        steps, done = steps + 1, terminated or truncated
    return info["success"], steps


@pytest.mark.parametrize("maze", ["umaze", "medium"])
@pytest.mark.parametrize("size", [64, 36, 47, 84])
def test_the_walls_are_those_of_the_maze(maze, size):
    env = make_registered(seen_maze_id(maze), {"image_size": size}, None)
    for seed in range(5):
        image = env.reset(seed=seed)[0]["image"]
        np.testing.assert_array_equal(seen_walls(image[..., 2]), env.unwrapped.maze.walls)
    env.close()


def test_a_picture_of_no_maze_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64))
    with pytest.raises(ValueError, match="shows no maze"):
        seen_walls(noise)


@pytest.mark.parametrize(("maze", "episodes"), [("umaze", 10), ("medium", 5)])
def test_without_noise_it_arrives_every_time(maze, episodes):
    env, guide = make_registered(seen_maze_id(maze), {}, None), SeenMazeGuide()
    outcomes = [episode(env, guide, seed) for seed in range(episodes)]
    assert all(success for success, _ in outcomes)
    env.close()


def test_noise_makes_it_slower_and_then_makes_it_fail():
    env, kind = make_registered(seen_maze_id("umaze"), {}, None), SeenMazeGuide
    runs = {
        noise: [episode(env, kind(noise=noise), seed) for seed in range(10)]
        for noise in (0.0, 1.0, 8.0)
    }
    lengths = {noise: np.mean([steps for _, steps in run]) for noise, run in runs.items()}
    assert lengths[0.0] < lengths[1.0] < lengths[8.0]
    assert all(success for success, _ in runs[1.0])
    # 20 of 100 episodes where this was written.
    assert sum(success for success, _ in runs[8.0]) <= 6
    env.close()


def test_rows_of_observations_are_answered_as_each_alone():
    env, guide = make_registered(seen_maze_id("umaze"), {}, None), SeenMazeGuide()
    seen = [env.reset(seed=seed)[0] for seed in range(4)]
    stacked = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    together = guide.act(stacked)
    assert together.shape == (4, 2) and together.dtype == np.float32
    for row, one in zip(together, seen, strict=True):
        np.testing.assert_array_equal(guide.act(one), row)
    env.close()


def test_it_pushes_towards_what_is_green_and_against_the_velocity():
    env, guide = make_registered(seen_maze_id("umaze"), {}, None), SeenMazeGuide()
    # In the right arm, the goal below, as at the end of the way.
    observed, _ = env.reset(seed=0, options={"reset_cell": (2, 3), "goal_cell": (3, 3)})
    resting = guide.act(observed)
    assert resting[1] < -0.5
    falling = guide.act({**observed, "velocity": np.array([0.0, -4.0])})
    assert falling[1] > resting[1] + 0.5
    env.close()
