"""The maze seen from above: its images, against a slow drawing, and its task, against PointMaze."""

import hashlib

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import jsrl
from jsrl.core.errors import UserError
from jsrl.envs.lookup import make_registered
from jsrl.envs.mazes import Maze
from jsrl.envs.registration import SEEN_MAZES, seen_maze_id
from jsrl.envs.seen_maze import GOAL, POINT, WALL, MazeDrawing, SeenMazeEnv

UMAZE = [
    [1, 1, 1, 1, 1],
    [1, "r", "r", 0, 1],
    [1, 1, 1, 0, 1],
    [1, "g", "g", 0, 1],
    [1, 1, 1, 1, 1],
]
TALL = [[1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 1, 1]]
SAMPLES = 32
"""Along each side of a pixel of the slow drawing."""


def slow_drawing(rows, size, point, goal, point_radius, goal_radius):
    """The parts that things cover of pixels, 0 to 1, counted in 32 by 32 samples of each."""
    cells = max(len(rows), len(rows[0]))
    # Metres from the middle of the image, x to the right and y up: cells are 1 m wide.
    line = ((np.arange(size * SAMPLES) + 0.5) / (size * SAMPLES) - 0.5) * cells
    x, y = line[None, :], -line[:, None]
    parts = np.zeros((3, size * SAMPLES, size * SAMPLES))
    parts[POINT] = np.hypot(x - point[0], y - point[1]) <= point_radius
    parts[GOAL] = np.hypot(x - goal[0], y - goal[1]) <= goal_radius
    walls = np.ones((size * SAMPLES, size * SAMPLES))
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if cell != 1:
                left, top = j - len(row) / 2, len(rows) / 2 - i
                inside = (x >= left) & (x < left + 1) & (y <= top) & (y > top - 1)
                walls[inside] = 0
    parts[WALL] = walls
    blocks = parts.reshape(3, size, SAMPLES, size, SAMPLES).mean((2, 4))
    return np.moveaxis(blocks, 0, -1)


def drawing(rows, size=64, point_radius=0.2, goal_radius=0.3):
    walls = np.array([[cell == 1 for cell in row] for row in rows])
    maze = Maze(walls, 1.0, walls.shape[1] / 2, walls.shape[0] / 2)
    return MazeDrawing(maze, size, point_radius, goal_radius)


def middle(channel):
    """The mean of what is bright: column and row, in pixels from the outer edges."""
    bright, places = channel.astype(float), np.arange(len(channel)) + 0.5
    return np.array([bright.sum(0) @ places, bright.sum(1) @ places]) / bright.sum()


@pytest.mark.parametrize("rows", [UMAZE, TALL])
@pytest.mark.parametrize("size", [64, 48])
def test_every_byte_is_the_part_of_its_pixel_that_is_covered(rows, size):
    rng = np.random.default_rng(0)
    ours = drawing(rows, size)
    for _ in range(4):
        point, goal = rng.uniform(-1.4, 1.4, (2, 2))
        expected = slow_drawing(rows, size, point, goal, 0.2, 0.3)
        drawn = ours.draw(point, goal) / 255
        # 32 by 32 samples miss the part that an edge leaves by up to a row of them.
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=1.5 / SAMPLES)
        assert np.abs(drawn - expected).mean() < 1e-3


@pytest.mark.parametrize("rows", [UMAZE, TALL])
def test_areas_of_discs_are_right_to_half_a_percent(rows):
    ours = drawing(rows)
    rng = np.random.default_rng(1)
    for point in rng.uniform(-1.0, 1.0, (50, 2)):
        image = ours.draw(point, point) / 255
        for channel, radius in ((POINT, 0.2), (GOAL, 0.3)):
            area = np.pi * (radius * ours.pixels_per_metre) ** 2
            assert image[..., channel].sum() == pytest.approx(area, rel=5e-3)


def test_a_position_is_read_off_the_image_to_a_fiftieth_of_a_pixel():
    ours = drawing(UMAZE)
    rng = np.random.default_rng(2)
    places = rng.uniform(-1.4, 1.4, (300, 2, 2))
    errors = []
    for point, goal in places:
        image = ours.draw(point, goal)
        for channel, xy in ((POINT, point), (GOAL, goal)):
            there = np.array([xy[0] + 2.5, 2.5 - xy[1]]) * 64 / 5
            errors.append(np.abs(middle(image[..., channel]) - there).max())
    assert max(errors) < 0.02


def test_a_hundredth_of_a_pixel_changes_the_image():
    ours = drawing(UMAZE)
    rng = np.random.default_rng(3)
    step = 0.01 / ours.pixels_per_metre
    for point in rng.uniform(-1, 1, (50, 2)):
        before = ours.draw(point, np.zeros(2))
        for shift in ((step, 0.0), (0.0, step)):
            assert (ours.draw(point + shift, np.zeros(2)) != before).any()


def test_a_cell_edge_between_pixels_is_drawn_by_its_part():
    # A cell is 12.8 pixels wide: column 12 is wall for 0.8 of its width, beside a free cell.
    image = drawing(UMAZE).draw(np.array([1.0, 1.0]), np.array([1.0, -1.0]))
    assert image[20, 11, WALL] == 255
    assert image[20, 12, WALL] == round(0.8 * 255)
    assert image[20, 13, WALL] == 0


def test_a_disc_beyond_the_edge_is_cut_off_and_one_outside_is_not_drawn():
    ours = drawing(UMAZE)
    corner = ours.draw(np.array([-2.5, 2.5]), np.array([9.0, 9.0]))
    area = np.pi * (0.2 * ours.pixels_per_metre) ** 2 / 4
    assert corner[..., POINT].sum() / 255 == pytest.approx(area, rel=0.01)
    assert corner[..., GOAL].sum() == 0


def test_images_have_the_bytes_that_they_had_when_this_was_written():
    # Where another machine or version of NumPy rounds otherwise, data and policies do not fit.
    ours, digest = drawing(UMAZE), hashlib.sha256()
    for number in range(200):
        angle = number / 7
        point = np.array([angle % 2.8 - 1.4, (2.3 * angle) % 2.8 - 1.4])
        digest.update(ours.draw(point, -point).tobytes())
    assert digest.hexdigest()[:16] == "95fccc1569ba8b0e"


@pytest.mark.parametrize("maze", SEEN_MAZES)
def test_importing_the_package_registers_the_mazes_with_pointmazes_limits(maze):
    assert jsrl.__version__
    plain = make_registered(f"PointMaze_{'UMaze' if maze == 'umaze' else 'Medium'}-v3", {}, None)
    assert gym.spec(seen_maze_id(maze)).max_episode_steps == plain.spec.max_episode_steps
    plain.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_passes_gymnasiums_checker():
    env = SeenMazeEnv(render_mode="rgb_array")
    check_env(env)
    env.close()


@pytest.mark.parametrize("continuing_task", [False, True])
def test_it_is_the_task_of_pointmaze_with_the_image_in_place_of_the_state(continuing_task):
    kwargs = {"continuing_task": continuing_task, "reset_target": continuing_task}
    seen = make_registered(seen_maze_id("umaze"), kwargs, 300)
    plain = make_registered("PointMaze_UMaze-v3", {"maze_map": UMAZE, **kwargs}, 300)
    rng, reached = np.random.default_rng(5), 0
    for episode in range(12):
        # A goal beside the start, so that some are reached by chance.
        options = {"reset_cell": (1, 3), "goal_cell": (2, 3)} if episode % 2 else None
        observed, told = seen.reset(seed=episode, options=options)
        state, expected = plain.reset(seed=episode, options=options)
        assert told == expected
        done = False
        while not done:
            assert set(observed) == {"image", "velocity"}
            assert seen.observation_space.contains(observed)
            np.testing.assert_array_equal(observed["velocity"], state["observation"][2:])
            for channel, place in ((POINT, state["achieved_goal"]), (GOAL, state_goal(plain))):
                there = np.array([place[0] + 2.5, 2.5 - place[1]]) * 64 / 5
                assert np.abs(middle(observed["image"][..., channel]) - there).max() < 0.02
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            observed, *rest = seen.step(action)
            state, *expected = plain.step(action)
            assert rest == expected
            reached += rest[3]["success"]
            done = rest[1] or rest[2]
    assert reached
    seen.close()
    plain.close()


def state_goal(env):
    """Where the goal is now: after it was reached it may be elsewhere than was observed."""
    return env.unwrapped.goal


def test_equal_seeds_give_equal_bytes_and_kept_images_stay_as_they_were():
    def images(env):
        env.action_space.seed(0)
        observed = [env.reset(seed=7)[0]]
        observed += [env.step(env.action_space.sample())[0] for _ in range(40)]
        return observed

    first, second = SeenMazeEnv(render_mode="rgb_array"), SeenMazeEnv()
    kept, again = images(first), images(second)
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["velocity"], other["velocity"])
    assert (kept[0]["image"] != kept[-1]["image"]).any()
    rendered = first.render()
    np.testing.assert_array_equal(rendered, kept[-1]["image"])
    rendered[:] = 0
    np.testing.assert_array_equal(first.render(), kept[-1]["image"])
    assert second.render() is None
    first.close()
    second.close()


def test_size_and_radii_can_be_chosen():
    env = SeenMazeEnv(image_size=84, point_radius=0.1, goal_radius=0.45)
    observed, _ = env.reset(seed=0)
    assert observed["image"].shape == (84, 84, 3)
    for channel, radius in ((POINT, 0.1), (GOAL, 0.45)):
        area = np.pi * (radius * 84 / 5) ** 2
        assert observed["image"][..., channel].sum() / 255 == pytest.approx(area, rel=0.01)
    env.close()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"maze": "huge"}, "env.kwargs.maze='huge'.*umaze, medium"),
        ({"image_size": 4}, "env.kwargs.image_size=4: at least 8 pixels"),
        ({"point_radius": 0.0}, "env.kwargs.point_radius=0.0: a length above 0"),
        ({"goal_radius": float("nan")}, "env.kwargs.goal_radius=nan: a length above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(kwargs, words):
    with pytest.raises(UserError, match=words) as caught:
        SeenMazeEnv(**kwargs)
    assert "\n" not in str(caught.value)
