"""The waypoint controller, in real point mazes and by hand-drawn ones."""

import gymnasium
import gymnasium_robotics
import numpy as np
import pytest
import torch
from specs import box_spec

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.mazes import Maze
from jsrl.guides import WaypointController, waypoint_guide

gymnasium.register_envs(gymnasium_robotics)

LAYOUT = (("achieved_goal", 0, 2), ("desired_goal", 2, 4), ("observation", 4, 8))
U_MAZE = np.array([list(row) for row in ("11111", "10001", "11101", "10001", "11111")]) == "1"


def spec(env_id):
    return box_spec(env_id, LAYOUT, (-1.0, -1.0), (1.0, 1.0), 300)


def u_maze():
    return Maze(U_MAZE, cell_size=1.0, x_center=2.5, y_center=2.5)


def controller(**settings):
    return WaypointController(u_maze(), (4, 5), (6, 7), (2, 3), **settings)


def observation(x, y, goal_x, goal_y, vx=0.0, vy=0.0):
    return [x, y, goal_x, goal_y, x, y, vx, vy]


def success(env_id, episodes, noise=0.0):
    """The part of episodes that reach the goal within the environment's own time limit."""
    env = gymnasium.make(env_id, continuing_task=False)
    guide = waypoint_guide(env, spec(env_id), 1, noise=noise)
    streams, mask = Streams([0]), torch.ones(1, 1, dtype=torch.bool)
    reached = 0
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        terminated = truncated = False
        while not (terminated or truncated):
            row = np.concatenate([obs[name] for name, _, _ in LAYOUT])
            seen = Observation(torch.tensor(row, dtype=torch.float32)[None, None])
            action = guide.act(seen, streams, mask)
            obs, _, terminated, truncated, _ = env.step(action[0, 0].numpy())
        reached += terminated
    env.close()
    return reached / episodes


@pytest.mark.parametrize("name", ["UMaze", "Medium", "Large"])
def test_it_solves_the_point_mazes(name):
    assert success(f"PointMaze_{name}-v3", 24) >= 0.95


def test_noise_makes_it_mediocre():
    assert 0.2 <= success("PointMaze_UMaze-v3", 16, noise=8.0) <= 0.9


def test_the_maps_coordinates_are_the_environments():
    env = gymnasium.make("PointMaze_Large-v3").unwrapped
    maze = Maze.from_env(env)
    for row, column in ((1, 1), (3, 6), (7, 10)):
        xy = env.maze.cell_rowcol_to_xy(np.array([row, column]))
        cell = row * maze.walls.shape[1] + column
        np.testing.assert_allclose(maze.centres(np.array([cell]))[0], xy)
        assert maze.cells(xy[None] + 0.3).tolist() == [cell]
        assert not maze.walls[row, column]


def test_every_way_is_shortest():
    maze = u_maze()
    cell = {(r, c): 5 * r + c for r in range(5) for c in range(5)}
    path = [cell[1, 1], cell[1, 2], cell[1, 3], cell[2, 3], cell[3, 3], cell[3, 2], cell[3, 1]]
    for i, here in enumerate(path):
        for j, there in enumerate(path):
            step = path[i + (j > i) - (j < i)]
            assert maze.next_cell[here, there] == step


def test_without_a_way_it_stays():
    maze = Maze(np.array([[False, True, False]]), 1.0, 0.0, 0.0)
    assert maze.next_cell[0, 2] == 0
    assert maze.nearest_free.tolist() == [0, 0, 2]


def test_targets_and_actions_by_hand():
    policy = controller(proportional_gain=0.5, derivative_gain=0.1, lane=0.5)
    rows = [
        observation(-1.0, 1.0, -1.0, -1.0),  # first cell of the way round: to the right
        observation(1.0, 0.9, -1.0, -1.0),  # at the corner: down
        observation(0.6, 1.0, -1.0, -1.0),  # there, but left of the lane down: first to its middle
        observation(-1.0, -1.2, -1.0, -1.3),  # in the goal's cell: to the goal
        observation(0.0, 1.0, 1.0, -1.0, vx=2.0),
    ]
    targets = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [-1.0, -1.3], [1.0, 1.0]]
    obs = np.array(rows, dtype=np.float32)
    np.testing.assert_allclose(policy.targets(obs), targets, atol=1e-6)
    actions = [[0.5, 0.0], [0.0, -0.45], [0.2, 0.0], [0.0, -0.05], [0.3, 0.0]]
    np.testing.assert_allclose(policy(obs, 0, None), actions, atol=1e-6)


def test_a_row_does_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    obs = rng.uniform(-2.4, 2.4, (50, 8)).astype(np.float32)
    together = controller()(obs, 0, None)
    assert np.abs(together).max() == 1
    for i in range(50):
        np.testing.assert_array_equal(controller()(obs[i : i + 1], 0, None)[0], together[i])


def test_noise_needs_a_generator_and_has_its_size():
    at_rest = np.tile(np.float32(observation(1.0, 1.0, 1.0, 1.0)), (20_000, 1))
    policy = controller(noise=0.2)
    assert np.abs(policy(at_rest, 0, None)).max() == 0
    noisy = policy(at_rest, 0, np.random.default_rng(0))
    assert noisy.std() == pytest.approx(0.2, rel=0.02)
    assert abs(noisy.mean()) < 0.01


def test_a_noisy_seed_alone_is_bitwise_the_seed_in_company():
    env = gymnasium.make("PointMaze_UMaze-v3")
    obs = Observation(torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0)) - 0.5)
    mask = torch.tensor([[True, True, True], [True, False, True]])
    both = waypoint_guide(env, spec("u"), 2, noise=0.5).act(obs, Streams([0, 1]), mask)
    one = waypoint_guide(env, spec("u"), 1, noise=0.5).act(obs[1:], Streams([1]), mask[1:])
    assert torch.equal(both[1], one[0])
    assert both[1, 1].tolist() == [0.0, 0.0]


def test_the_fingerprint_is_of_its_numbers():
    prints = {controller(noise=n).fingerprint for n in (0.0, 0.5)}
    prints |= {controller(proportional_gain=1.0).fingerprint, controller(noise=0.0).fingerprint}
    assert len(prints) == 3


def test_environments_that_are_no_point_maze_are_refused():
    with pytest.raises(UserError, match=r"Pendulum-v1 has none"):
        waypoint_guide(gymnasium.make("Pendulum-v1"), spec("Pendulum-v1"), 1)
    flat = box_spec("Ant", 27, (-1.0,) * 8, (1.0,) * 8, 700)
    with pytest.raises(UserError, match="two forces"):
        waypoint_guide(gymnasium.make("PointMaze_UMaze-v3"), flat, 1)
    with pytest.raises(UserError, match=r"guide\.noise=-1"):
        controller(noise=-1)
