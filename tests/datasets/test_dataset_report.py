"""The report of a data set: which rows make up a trajectory, and which of them succeed."""

import numpy as np

from jsrl.datasets import Dataset
from jsrl.datasets.dataset import make_dataset
from jsrl.datasets.report import report_dataset, trajectories


def walks(*lengths_and_goal_steps: tuple[int, int]) -> dict[str, np.ndarray]:
    """Walks along x from 0 in steps of 1; the last few of each stand at the goal, rewarded.

    As in D4RL's AntMaze every step at the goal is a terminal, the walk goes on, and its last row is
    a timeout.
    """
    rows, rewards, timeouts = [], [], []
    for length, at_goal in lengths_and_goal_steps:
        rows += [[float(min(i, length - at_goal)), 1.0] for i in range(length)]
        rewards += [0.0] * (length - at_goal) + [1.0] * at_goal
        timeouts += [False] * (length - 1) + [True]
    return {
        "observations": np.array(rows),
        "actions": np.zeros((len(rows), 1)),
        "rewards": np.array(rewards),
        "terminals": np.array(rewards) > 0,
        "timeouts": np.array(timeouts),
    }


def made(arrays: dict[str, np.ndarray]) -> Dataset:
    return make_dataset(arrays, "walks")


def test_a_walk_goes_on_through_the_steps_at_its_goal_without_stored_successors() -> None:
    found = trajectories(made(walks((12, 4), (9, 0), (20, 6))))
    # A walk without success ends in a row whose successor nobody knows, which is dropped.
    assert found.lengths.tolist() == [12, 8, 20]
    assert found.returns.tolist() == [4, 0, 6]
    assert found.successes.tolist() == [True, False, True]
    assert found.knows_success and found.success_rate == "66.7%"


def test_so_it_does_with_stored_successors() -> None:
    arrays = walks((12, 4), (9, 0), (20, 6))
    observations = arrays["observations"]
    last = np.flatnonzero(arrays["timeouts"])
    successors = np.concatenate([observations[1:], observations[-1:]])
    successors[last] = observations[last] + [1.0, 0.0]
    found = trajectories(made(arrays | {"next_observations": successors}))
    assert found.lengths.tolist() == [12, 9, 20]
    assert found.returns.tolist() == [4, 0, 6]


def test_an_episode_that_ends_in_a_terminal_is_a_trajectory() -> None:
    arrays = walks((12, 1), (9, 1), (7, 1))
    arrays["timeouts"][:] = False
    found = trajectories(made(arrays))
    # From the goal back to the start is further than any step.
    assert found.lengths.tolist() == [12, 9, 7]
    assert found.successes.all()


def test_without_terminals_or_two_rewards_nothing_is_known_of_success(tmp_path) -> None:
    arrays = walks((12, 0), (9, 0))
    arrays["rewards"] = np.linspace(0, 1, 21)
    dataset = made(arrays)
    assert not trajectories(dataset).knows_success
    text = report_dataset(dataset, tmp_path / "report")
    assert "unknown" in text
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        *("report.md", "histograms.png", "trajectories.csv"),
    }
