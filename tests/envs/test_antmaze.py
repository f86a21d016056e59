"""The ant in the maze: D4RL's physics, coordinates, start and goal, in real simulation."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from policy_files import ANT, needs_policies

import jsrl
from jsrl.core.errors import UserError
from jsrl.envs.antmaze import MAPS, AntMazeEnv, antmaze_map, cell_centre
from jsrl.envs.registration import ANTMAZE_TASKS, antmaze_id
from jsrl.guides.ant import GoalReachingAnt, careful_points
from jsrl.guides.npz import read_npz


@pytest.fixture(scope="module")
def umaze():
    env = AntMazeEnv("umaze")
    yield env
    env.close()


@pytest.mark.parametrize("task", ANTMAZE_TASKS)
def test_importing_the_package_registers_the_tasks(task):
    assert jsrl.__version__
    spec = gym.spec(antmaze_id(task))
    assert spec.max_episode_steps == (700 if task.startswith("umaze") else 1000)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("maze", MAPS)
def test_passes_gymnasiums_checker(maze):
    env = AntMazeEnv(maze)
    check_env(env, skip_render_check=True)
    env.close()


def test_building_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for _ in range(2):
        gym.make(antmaze_id("large-play")).close()
    assert list(tmp_path.iterdir()) == []


def test_physics_are_d4rls(umaze):
    model = umaze.model
    assert model.opt.timestep == 0.02
    assert umaze.frame_skip == 5
    assert (model.nq, model.nv, model.nu) == (15, 14, 8)
    torso = model.geom("torso_geom") if "torso_geom" in _names(model) else model.geom(1)
    np.testing.assert_allclose(torso.solref, [0.02, 1])
    np.testing.assert_allclose(torso.solimp[:3], [0.8, 0.8, 0.01])
    np.testing.assert_allclose(model.actuator_ctrlrange, [[-30, 30]] * 8)
    np.testing.assert_allclose(model.actuator_gear[:, 0], 1)


def _names(model):
    return {model.geom(index).name for index in range(model.ngeom)}


def test_a_step_is_five_of_the_simulator_with_thirty_times_the_action(umaze):
    umaze.reset(seed=3)
    other = mujoco.MjData(umaze.model)
    other.qpos[:], other.qvel[:] = umaze.data.qpos, umaze.data.qvel
    mujoco.mj_forward(umaze.model, other)
    action = np.linspace(-1, 1, 8)
    observation, *_ = umaze.step(action)
    other.ctrl[:] = 30 * action
    for _ in range(5):
        mujoco.mj_step(umaze.model, other)
    np.testing.assert_allclose(observation, np.concatenate([other.qpos, other.qvel]), atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
def test_walls_are_gymnasium_robotics_of_the_row_flipped_map(name, tmp_path, monkeypatch):
    maze_module = pytest.importorskip("gymnasium_robotics.envs.maze.maze_v4")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    flipped = [[1 if c == "#" else 0 for c in row] for row in reversed(MAPS[name])]
    ant = Path(gym.__file__).parent / "envs/mujoco/assets/ant.xml"
    _, written = maze_module.Maze.make_maze(str(ant), flipped, 4.0, 0.5)
    theirs = np.array(
        [
            [float(x) for x in geom.get("pos").split()[:2]]
            for geom in ElementTree.parse(written).iter("geom")
            if (geom.get("name") or "").startswith("block")
        ]
    )
    env = AntMazeEnv(name)
    ours = np.array([env.model.geom(n).pos[:2] for n in _names(env.model) if n.startswith("block")])
    env.close()
    assert len(ours) == len(theirs) == sum(row.count("#") for row in MAPS[name])
    ours, theirs = (points[np.lexsort(points.T)] for points in (ours, theirs))
    np.testing.assert_allclose(ours - theirs, np.tile(ours[0] - theirs[0], (len(ours), 1)))


def test_start_cell_is_the_origin_and_goal_cells_are_d4rls():
    expected = {"umaze": (0, 8), "medium": (20, 20), "large": (32, 24)}
    for name, goal in expected.items():
        np.testing.assert_allclose(cell_centre(name, "R"), 0)
        np.testing.assert_allclose(cell_centre(name, "G"), goal)
        assert antmaze_map(name).walls.sum() == sum(row.count("#") for row in MAPS[name])


def test_start_noise_is_uniform_on_positions_and_normal_on_velocities(umaze):
    starts = np.array([umaze.reset(seed=seed)[0] for seed in range(300)])
    moved = starts[:, :15] - umaze.init_qpos
    assert np.abs(moved).max() <= 0.1 and np.abs(moved).max() > 0.095
    np.testing.assert_allclose(moved.std(), 0.2 / np.sqrt(12), rtol=0.03)
    np.testing.assert_allclose(starts[:, 15:].std(), 0.1, rtol=0.03)


def test_goals_are_drawn_at_each_reset_as_in_d4rls_second_version(umaze):
    goals = np.array([(umaze.reset(seed=seed), umaze.target_goal)[1] for seed in range(500)])
    offset = goals - cell_centre("umaze", "G")
    assert offset.min() >= 0 and offset.max() <= 1.5
    # The sum of uniforms on [0, 1) and [0, 0.5).
    np.testing.assert_allclose(offset.mean(0), 0.75, atol=0.05)
    np.testing.assert_allclose(offset.var(0), 1 / 12 + 0.25 / 12, rtol=0.15)


def test_a_fixed_goal_is_drawn_once_per_instance():
    env = gym.make(antmaze_id("umaze"), fixed_goal=True)
    env.reset(seed=0)
    first = env.unwrapped.target_goal.copy()
    env.reset(seed=1)
    np.testing.assert_array_equal(env.unwrapped.target_goal, first)
    env.close()


def test_reward_end_and_success_at_the_goal_alone(umaze):
    umaze.reset(seed=0, options={"start": (0.0, 0.0), "goal": (0.0, 0.3)})
    _, reward, terminated, truncated, info = umaze.step(np.zeros(8))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    umaze.reset(seed=0, options={"start": (0.0, 0.0), "goal": (2.0, 0.3)})
    _, reward, terminated, truncated, info = umaze.step(np.zeros(8))
    assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False)


def test_no_position_is_unhealthy(umaze):
    umaze.reset(seed=0)
    for _ in range(150):
        _, _, terminated, _, _ = umaze.step(umaze.action_space.sample())
        assert not terminated
    umaze.data.qpos[2] = 5.0
    assert not umaze.step(np.zeros(8))[2]


def test_the_same_seed_gives_the_same_episode():
    def episode():
        env = gym.make(antmaze_id("medium-play"))
        observation, _ = env.reset(seed=7)
        rows = [observation, env.unwrapped.target_goal]
        for index in range(20):
            rows.append(env.step(np.full(8, np.sin(index), np.float32))[0])
        env.close()
        return np.concatenate(rows)

    np.testing.assert_array_equal(episode(), episode())


def test_an_unknown_maze_and_a_wrong_action_are_told():
    with pytest.raises(UserError, match=r"no maze 'umase'; choose one of umaze, medium, large"):
        AntMazeEnv("umase")
    env = AntMazeEnv("umaze")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(3,\); expected \(8,\)"):
        env.step(np.zeros(3))
    env.close()


@needs_policies
def test_d4rls_ant_walks_from_the_origin_to_the_goal():
    env = gym.make(antmaze_id("umaze"))
    ant = GoalReachingAnt(read_npz(ANT))
    steps = []
    draws = np.random.default_rng(0)
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        goal = env.unwrapped.target_goal[None]
        for step in range(1, 701):
            row = observation[None]
            points = careful_points(env.unwrapped.maze, row[:, :2], goal)
            action = ant.act(row, points, draws.standard_normal((1, 8)))[0]
            observation, _, reached, _, _ = env.step(action)
            if reached:
                steps.append(step)
                break
    env.close()
    assert len(steps) >= 9
    assert 90 < np.median(steps) < 180
