"""AntMaze data: where the walks lead, D4RL's relabelling, and the file that comes of it."""

import inspect
import re
import signal
from functools import partial

import h5py
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from policy_files import ANT, ant_arrays, needs_policies
from small_runs import call, finish, run, start, wait_until

from jsrl.commands.dataset import collect_ant
from jsrl.commands.paths import config_directory
from jsrl.commands.schemas import register
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.datasets import load_hdf5
from jsrl.datasets.antmaze import collect_antmaze, evaluation_goal, relabelled
from jsrl.datasets.antmaze_walks import (
    EPISODES_IN_BLOCK,
    PLAY_GOALS,
    SIDE_BY_SIDE,
    Plan,
    Walker,
    WalkingAnt,
    WalkingGuide,
    plan_of,
)
from jsrl.envs.antmaze import MAPS, AntMazeEnv, antmaze_map, cell_centre
from jsrl.guides.ant import GoalReachingAnt
from jsrl.guides.npz import read_npz


def random_ant(maze="umaze"):
    return WalkingAnt(GoalReachingAnt(ant_arrays()), antmaze_map(maze))


def cells_of(maze, letters):
    rows = MAPS[maze]
    count = len(rows[0])
    return {r * count + c for r, row in enumerate(rows) for c, x in enumerate(row) if x in letters}


def test_plain_leads_from_one_start_to_one_goal():
    plan = plan_of("umaze")
    assert plan == Plan("umaze", 700, (), tuple(cells_of("umaze", "G")))


@pytest.mark.parametrize("maze", ["medium", "large"])
def test_play_leads_from_anywhere_else_to_chosen_goals(maze):
    plan = plan_of(f"{maze}-play")
    columns = len(MAPS[maze][0])
    assert plan.goals == tuple(row * columns + column for row, column in PLAY_GOALS[maze])
    assert set(plan.goals) <= cells_of(maze, ".GR")
    assert set(plan.starts) == cells_of(maze, ".GR") - set(plan.goals)


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_diverse_leads_from_anywhere_to_anywhere(maze):
    plan = plan_of(f"{maze}-diverse")
    assert set(plan.starts) == set(plan.goals) == cells_of(maze, ".GR")


@pytest.fixture(scope="module")
def block():
    return Walker(plan_of("umaze-diverse", 40), random_ant(), 0.2, seed=1)(0)


def test_a_block_holds_whole_walks_that_the_simulator_repeats(block):
    ends = np.flatnonzero(block["ends"])
    assert len(ends) == EPISODES_IN_BLOCK
    starts = np.concatenate([[0], ends[:-1] + 1])
    assert (ends - starts < 40).all()
    inside = np.setdiff1d(np.arange(len(block["ends"])), ends)
    np.testing.assert_array_equal(
        block["next_observations"][inside], block["observations"][inside + 1]
    )
    env = AntMazeEnv("umaze")
    env.reset(seed=0)
    for first in starts[:4]:
        row = block["observations"][first].astype(np.float64)
        env.set_state(row[:15], row[15:])
        observation, *_ = env.step(block["actions"][first])
        np.testing.assert_allclose(observation, block["next_observations"][first], atol=2e-3)
    env.close()


def test_walks_begin_and_lead_where_the_plan_says(block):
    ends = np.flatnonzero(block["ends"])
    starts = np.concatenate([[0], ends[:-1] + 1])
    maze = antmaze_map("umaze")
    for name, points, most in (
        ("start", block["observations"][starts, :2], 1.0),
        ("goal", block["goals"][starts], 1.5),
    ):
        offset = points - maze.centres(maze.cells(points))
        assert (offset >= -0.001).all() and (offset < most).all(), name
        assert len(np.unique(maze.cells(points))) > 3, name
    assert np.abs(block["actions"]).max() == 1  # noise is clipped


def test_plain_walks_begin_with_the_noise_of_the_environment():
    walker = Walker(plan_of("umaze", 2), random_ant(), 0.2, seed=0)
    found = walker(0)
    first = found["observations"][::2]
    assert len(first) == EPISODES_IN_BLOCK
    assert 0.05 < np.abs(first[:, :2]).max() <= 0.1


def test_blocks_depend_on_seed_and_number_alone(block):
    walker = Walker(plan_of("umaze-diverse", 40), random_ant(), 0.2, seed=1)
    other = walker(1)
    assert len(other["ends"]) != len(block["ends"]) or (other["actions"] != block["actions"]).any()
    again = walker(0)
    for name, array in block.items():
        np.testing.assert_array_equal(again[name], array)


def test_any_guide_can_walk_and_is_not_told_the_goal():
    class Still:
        fingerprint = "still"
        calls: list[torch.Tensor] = []  # noqa: RUF012

        def act(self, obs, streams, mask):
            assert isinstance(streams, Streams)
            self.calls.append(mask)
            return torch.zeros(*obs.leading, 8)

        def reset(self, mask):
            assert mask.all()

    guide = Still()
    found = Walker(plan_of("umaze", 5), WalkingGuide(guide), 0.0, seed=0)(0)
    assert len(found["ends"]) == 5 * EPISODES_IN_BLOCK
    assert len(guide.calls) == 5 * EPISODES_IN_BLOCK // SIDE_BY_SIDE
    assert (found["actions"] == 0).all()


def test_rewards_and_terminals_follow_one_goal_whatever_the_walk_led_to():
    successors = np.zeros((5, 29), np.float32)
    successors[:, 0] = [0.0, 0.6, 1.0, 1.4, 1.6]
    columns = {
        "observations": np.zeros((5, 29), np.float32),
        "actions": np.zeros((5, 8), np.float32),
        "next_observations": successors,
        "goals": np.full((5, 2), 9, np.float32),
        "ends": np.array([False, False, True, False, True]),
    }
    data = relabelled(columns, np.array([1.0, 0.0]))
    np.testing.assert_array_equal(data.rewards, [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(data.terminals, [False, True, True, True, False])
    np.testing.assert_array_equal(data.timeouts, [False, False, False, False, True])


def test_the_evaluation_goal_is_drawn_as_the_environment_draws_it():
    goals = np.array([evaluation_goal("medium-play", seed) for seed in range(400)])
    offset = goals - cell_centre("medium", "G")
    assert offset.min() >= 0 and offset.max() <= 1.5
    np.testing.assert_allclose(offset.mean(0), 0.75, atol=0.06)


TRANSITIONS = 5000
"""With walks of 30 steps these are two blocks."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "walks.hdf5"
    collect_antmaze(path, "umaze-diverse", random_ant, TRANSITIONS, 0.2, 0, workers=1, steps=30)
    return path


def test_the_file_has_d4rls_layout(file):
    with h5py.File(file) as read:
        shapes = {name: read[name].shape for name in read if name != "infos"}
        infos = {name: read["infos"][name].shape for name in read["infos"]}
        observations = read["observations"][()]
        np.testing.assert_array_equal(
            observations, np.concatenate([read["infos/qpos"], read["infos/qvel"]], axis=1)
        )
        assert read["terminals"].dtype == bool and read["rewards"].dtype == np.float32
        goal = [read.attrs["goal_x"], read.attrs["goal_y"]]
    np.testing.assert_allclose(goal, evaluation_goal("umaze-diverse", 0))
    assert shapes == {
        "observations": (TRANSITIONS, 29),
        "next_observations": (TRANSITIONS, 29),
        "actions": (TRANSITIONS, 8),
        "rewards": (TRANSITIONS,),
        "terminals": (TRANSITIONS,),
        "timeouts": (TRANSITIONS,),
    }
    assert infos == {"goal": (TRANSITIONS, 2), "qpos": (TRANSITIONS, 15), "qvel": (TRANSITIONS, 14)}


def test_the_file_passes_our_reader_and_nothing_is_left_beside_it(file):
    dataset = load_hdf5(file)
    assert len(dataset) == TRANSITIONS
    assert dataset.num_episodes > EPISODES_IN_BLOCK
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_file_does_not_depend_on_the_number_of_workers(file, tmp_path):
    np.savez(tmp_path / "ant.npz", **ant_arrays())
    other = tmp_path / "walks.hdf5"
    make = partial(ant_of_file, tmp_path / "ant.npz")
    collect_antmaze(other, "umaze-diverse", make, TRANSITIONS, 0.2, 0, workers=2, steps=30)
    assert other.read_bytes() == file.read_bytes()


def ant_of_file(path):
    return WalkingAnt(GoalReachingAnt(read_npz(path)), antmaze_map("umaze"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed=-1 must be 0 or more"),
        ("env.max_episode_steps=0", "env.max_episode_steps=0 must be at least 1"),
        ("guide.noise=0.3", "guide.noise=0.3 has no place here"),
        ("guide.path=ant.npy", "is no npz file"),
        ("guide.path=nowhere.npz", "does not exist"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(override, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("ant.npy", np.zeros(3))
    np.savez("ant.npz", **ant_arrays())
    before = sorted(tmp_path.iterdir())
    register()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = OmegaConf.to_object(compose("dataset_antmaze", [*COMMAND[2:], override]))
    with pytest.raises(UserError, match=re.escape(message)):
        inspect.unwrap(collect_ant)(config)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_another_process_wrote_meanwhile_stays(file, tmp_path):
    path = tmp_path / "walks.hdf5"
    path.write_bytes(b"whole")
    with pytest.raises(UserError, match="was written just now by another process"):
        collect_antmaze(path, "umaze-diverse", random_ant, 10, 0.2, 0, workers=1, steps=2)
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]


COMMAND = (
    "dataset",
    "antmaze",
    "path=walks.hdf5",
    "transitions=10000",
    "env.max_episode_steps=20",
    "guide.path=ant.npz",
)


def blocks_in(folder):
    return len(list(folder.glob("*.parts/block-*")))


@pytest.mark.slow
def test_a_collection_that_is_killed_goes_on_where_it_was(tmp_path, monkeypatch, capfd):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "ant.npz", **ant_arrays())
    outcome = run(tmp_path / "whole", *COMMAND, "workers=1")
    assert outcome.status == 0, outcome.err
    folder = tmp_path / "killed"
    for number, workers in ((signal.SIGTERM, 2), (signal.SIGKILL, 1)):
        before = blocks_in(folder)
        process = start(folder, *COMMAND, f"workers={workers}")
        wait_until(lambda before=before: blocks_in(folder) > before, process)
        process.send_signal(number)
        finish(process)
        assert not (folder / "walks.hdf5").exists()
    monkeypatch.chdir(folder)
    assert "half-collected" in call(monkeypatch, capfd, *COMMAND, "seed=1").err
    outcome = run(folder, *COMMAND, "workers=1")
    assert outcome.status == 0, outcome.err
    assert "trajectories" in outcome.out
    assert (folder / "walks.hdf5").read_bytes() == (tmp_path / "whole/walks.hdf5").read_bytes()
    again = call(monkeypatch, capfd, *COMMAND)
    assert again.status == 2 and "exists already" in again.err


@needs_policies
def test_d4rls_ant_reaches_most_of_its_goals():
    behaviour = WalkingAnt(GoalReachingAnt(read_npz(ANT)), antmaze_map("umaze"))
    found = Walker(plan_of("umaze"), behaviour, 0.2, seed=0)(0)
    ends = np.flatnonzero(found["ends"])
    arrived = np.linalg.norm(found["next_observations"][ends, :2] - found["goals"][ends], axis=1)
    assert len(ends) == EPISODES_IN_BLOCK
    assert (arrived <= 0.501).mean() >= 0.75


@needs_policies
def test_walks_that_end_early_make_room_for_the_next_in_their_order():
    behaviour = WalkingAnt(GoalReachingAnt(read_npz(ANT)), antmaze_map("umaze"))
    found = Walker(plan_of("umaze-diverse", 60), behaviour, 0.2, seed=0)(0)
    ends = np.flatnonzero(found["ends"])
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    assert len(ends) == EPISODES_IN_BLOCK
    assert lengths.max() == 60 and (lengths < 60).sum() > SIDE_BY_SIDE
    arrived = np.linalg.norm(found["next_observations"][ends, :2] - found["goals"][ends], axis=1)
    # Who stopped early is at the goal; nobody's goal changed on the way.
    assert (arrived[lengths < 60] <= 0.501).all()
    for first, last in zip(starts, ends, strict=True):
        assert (found["goals"][first : last + 1] == found["goals"][first]).all()
        np.testing.assert_array_equal(
            found["next_observations"][first:last], found["observations"][first + 1 : last + 1]
        )
