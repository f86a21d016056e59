"""Episodes, successors, subsets and checks of ``jsrl.datasets.dataset``."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import box, box_spec, vector

from jsrl.core.errors import UserError
from jsrl.core.streams import seed_sequence
from jsrl.datasets.dataset import Dataset, make_dataset

Flags = list[tuple[bool, bool]]

FLAGS = st.lists(
    st.tuples(st.sampled_from([False, False, True]), st.sampled_from([False, False, True])),
    min_size=1,
    max_size=25,
)


def arrays_of(flags: Flags, with_successors: bool = False) -> dict[str, np.ndarray]:
    """Transition i has observation (i, -i), action i/1000 and reward i; successors are i + 0.5."""
    index = np.arange(len(flags), dtype=np.float32)
    arrays = {
        "observations": np.stack([index, -index], axis=1),
        "actions": index[:, None] / 1000,
        "rewards": index.copy(),
        "terminals": np.array([terminal for terminal, _ in flags]),
        "timeouts": np.array([timeout for _, timeout in flags]),
    }
    if with_successors:
        arrays["next_observations"] = arrays["observations"] + 0.5
    return arrays


def oracle(flags: Flags, with_successors: bool) -> list[list[tuple[int, float, bool, bool]]]:
    """Episodes as rows (index, first column of the successor, terminal, timeout), step by step."""
    episodes, episode = [], []
    for i, (terminal, timeout) in enumerate(flags):
        episode.append(i)
        if terminal or timeout or i == len(flags) - 1:
            episodes.append(episode)
            episode = []
    result = []
    for episode in episodes:
        if not with_successors and not flags[episode[-1]][0]:
            episode = episode[:-1]
        rows = []
        for i in episode:
            terminal = flags[i][0]
            successor = i + 0.5 if with_successors else i if terminal else i + 1
            rows.append((i, float(successor), terminal, i == episode[-1] and not terminal))
        if rows:
            result.append(rows)
    return result


def rows_of(dataset: Dataset) -> list[list[tuple[int, float, bool, bool]]]:
    """What a dataset holds, in the oracle's form."""
    data = dataset.data
    bounds = [*dataset.episode_starts.tolist(), len(dataset)]
    return [
        [
            (
                int(data.rewards[i]),
                float(data.next_observations[i, 0]),
                bool(data.terminals[i]),
                bool(data.timeouts[i]),
            )
            for i in range(start, stop)
        ]
        for start, stop in pairwise(bounds)
    ]


@given(FLAGS, st.booleans())
def test_episodes_and_successors_equal_a_step_by_step_split(
    flags: Flags, with_successors: bool
) -> None:
    expected = oracle(flags, with_successors)
    arrays = arrays_of(flags, with_successors)
    if not expected:
        with pytest.raises(UserError, match="no transition has a successor"):
            make_dataset(arrays, "made up")
        return
    dataset = make_dataset(arrays, "made up")
    assert rows_of(dataset) == expected
    assert dataset.num_episodes == len(expected)
    assert dataset.episode_lengths.tolist() == [len(episode) for episode in expected]
    assert dataset.num_successes == sum(episode[-1][2] for episode in expected)
    # Every column moved together.
    np.testing.assert_array_equal(dataset.data.observations[:, 0], dataset.data.rewards)
    np.testing.assert_array_equal(dataset.data.observations[:, 1], -dataset.data.rewards)
    np.testing.assert_allclose(dataset.data.actions[:, 0] * 1000, dataset.data.rewards, rtol=1e-6)


@given(FLAGS, st.integers(0, 5), st.data())
def test_take_episodes_equals_a_loop_over_shuffled_episodes(
    flags: Flags, seed: int, draw: st.DataObject
) -> None:
    dataset = make_dataset(arrays_of(flags, with_successors=True), "made up")
    count = draw.draw(st.integers(1, len(dataset)))
    episodes = oracle(flags, with_successors=True)
    order = np.random.default_rng(seed_sequence(seed, "dataset subset")).permutation(len(episodes))
    expected, left = [], count
    for k in order:
        if left == 0:
            break
        kept = episodes[k][:left]
        left -= len(kept)
        if left == 0:
            kept[-1] = (*kept[-1][:3], not kept[-1][2])
        expected.append(kept)
    before = dataset.fingerprint, rows_of(dataset)
    subset = dataset.take_episodes(count, seed)
    assert rows_of(subset) == expected
    assert len(subset) == count
    assert (dataset.fingerprint, rows_of(dataset)) == before
    assert make_dataset(vars(dataset.data), "again").fingerprint == dataset.fingerprint


def test_subsets_of_one_seed_are_nested_and_of_another_seed_differ() -> None:
    flags = [(i % 7 == 6, False) for i in range(70)]
    dataset = make_dataset(arrays_of(flags), "made up")
    small, large = dataset.take_episodes(20, 3), dataset.take_episodes(40, 3)
    np.testing.assert_array_equal(small.data.rewards, large.data.rewards[:20])
    assert small.data.timeouts[19] and not small.data.terminals[19]
    assert not large.data.timeouts[19]
    assert dataset.take_episodes(20, 3).fingerprint == small.fingerprint
    assert dataset.take_episodes(20, 4).fingerprint != small.fingerprint
    assert "20 of 70 transitions, dataset.seed=3" in small.summary()


@pytest.mark.parametrize("count", [-1, 0, 6])
def test_a_subset_of_impossible_size_is_refused(count: int) -> None:
    dataset = make_dataset(arrays_of([(False, False)] * 4 + [(True, False)]), "file.hdf5")
    with pytest.raises(UserError, match=rf"dataset.transitions={count}: expected 1 to 5.*file"):
        dataset.take_episodes(count, 0)


def test_summary_is_one_line_that_says_what_was_read() -> None:
    flags = [(False, False), (True, False), (False, False), (False, False), (False, True)]
    dataset = make_dataset(arrays_of(flags), "door.hdf5")
    # Rewards 0 + 1 and 2 + 3; the last transition has no successor.
    assert dataset.summary() == (
        "dataset door.hdf5: 4 transitions in 2 episodes, observation size 2, action size 1, "
        "1 episodes ended in a terminal state, mean return 3"
    )


def test_fingerprint_follows_the_contents_and_not_the_source() -> None:
    arrays = arrays_of([(False, False), (False, False), (True, False)])
    first = make_dataset(arrays, "here").fingerprint
    assert len(first) == 64 and int(first, 16) >= 0
    assert make_dataset(arrays, "elsewhere").fingerprint == first
    for name in ("observations", "actions", "rewards"):
        changed = {**arrays, name: arrays[name].copy()}
        changed[name].flat[0] += 0.25
        assert make_dataset(changed, "here").fingerprint != first, name


def test_without_timeouts_episodes_are_told_from_stored_successors() -> None:
    arrays = arrays_of([(False, False)] * 6)
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    arrays["next_observations"][2] += 10.0
    del arrays["timeouts"]
    dataset = make_dataset(arrays, "made up")
    assert dataset.episode_starts.tolist() == [0, 3]
    assert dataset.data.timeouts.tolist() == [False, False, True, False, False, True]


def test_without_timeouts_and_successors_only_terminals_end_episodes() -> None:
    arrays = arrays_of([(False, True), (False, True), (True, False), (False, True), (False, True)])
    del arrays["timeouts"]
    dataset = make_dataset(arrays, "made up")
    assert rows_of(dataset) == [
        [(0, 1.0, False, False), (1, 2.0, False, False), (2, 2.0, True, False)],
        [(3, 4.0, False, True)],
    ]


def test_columns_and_other_number_types_are_accepted() -> None:
    arrays = arrays_of([(False, False), (False, True), (True, False)])
    plain = make_dataset(arrays, "made up")
    columns = {
        "observations": arrays["observations"].astype(np.float64),
        "actions": arrays["actions"].astype(np.float64),
        "rewards": arrays["rewards"][:, None].astype(np.int64),
        "terminals": arrays["terminals"][:, None].astype(np.float32),
        "timeouts": arrays["timeouts"].astype(np.uint8),
        "metadata": "ignored",
    }
    dataset = make_dataset(columns, "made up")
    assert dataset.fingerprint == plain.fingerprint
    for name, array in dataset.data.arrays().items():
        assert array.dtype == (bool if name in ("terminals", "timeouts") else np.float32)


def test_actions_are_rescaled_by_the_bounds_and_rounding_is_clipped() -> None:
    arrays = arrays_of([(False, False)] * 3 + [(True, False)])
    arrays["actions"] = np.array([[-2.0, 0.0], [2.0, 10.0], [0.0, 5.0], [2.0001, 2.5]])
    dataset = make_dataset(arrays, "x", action_low=[-2, 0], action_high=np.array([2, 10]))
    np.testing.assert_allclose(
        dataset.data.actions, [[-1, -1], [1, 1], [0, 0], [1, -0.5]], atol=1e-6
    )
    assert np.abs(dataset.data.actions).max() == 1
    arrays["actions"] = np.array([[1.0005], [0.0], [-1.0005], [0.5]])
    assert make_dataset(arrays, "x").data.actions[:, 0].tolist() == [1, 0, -1, 0.5]


def test_actions_far_outside_are_clipped_only_when_asked() -> None:
    arrays = arrays_of([(False, False)] * 3 + [(True, False)])
    arrays["actions"] = np.array([[1.5], [0.0], [-3.0], [0.5]])
    dataset = make_dataset(arrays, "x", clip_actions=True)
    assert dataset.data.actions[:, 0].tolist() == [1, 0, -1, 0.5]
    with pytest.raises(UserError, match=r"actions holds 1.5 at index \[0, 0\].*clip_actions"):
        make_dataset(arrays, "x")


BAD_CHANGES = {
    "missing array": ({"rewards": None, "actions": None}, "actions and rewards not found"),
    "lengths": ({"rewards": np.zeros(3)}, "rewards has 3 rows, but observations has 5"),
    "no rows": (
        {
            "observations": np.zeros((0, 2)),
            "actions": np.zeros((0, 1)),
            "rewards": np.zeros(0),
            "terminals": np.zeros(0),
            "timeouts": np.zeros(0),
        },
        "0 transitions",
    ),
    "scalar": ({"rewards": np.float32(1)}, "rewards is a single value"),
    "rank": ({"observations": np.zeros(5)}, r"observations has shape \[5\]"),
    "reward rank": ({"rewards": np.zeros((5, 2))}, r"rewards has shape \[5, 2\]"),
    "no columns": ({"actions": np.zeros((5, 0))}, r"actions has shape \[5, 0\]"),
    "text": ({"rewards": np.array(["a"] * 5)}, "rewards has type <U1"),
    "NaN reward": (
        {"rewards": np.array([0, 1, np.nan, 3, np.nan])},
        "rewards holds nan at index 2",
    ),
    "infinite observation": (
        {"observations": np.array([[0, 0]] * 4 + [[1, -np.inf]])},
        r"observations holds -inf at index \[4, 1\]",
    ),
    "beyond float32": ({"rewards": np.array([0, 1e300, 0, 0, 0])}, r"rewards holds 1e\+300"),
    "NaN successor": (
        {"next_observations": np.full((5, 2), np.nan)},
        r"next_observations holds nan at index \[0, 0\]",
    ),
    "successor size": (
        {"next_observations": np.zeros((5, 3))},
        "next_observations have size 3, but observations have size 2",
    ),
    "action bounds": (
        {"actions": np.array([[0], [1.002], [0], [5], [0]])},
        r"actions holds 1.00.* at index \[1, 0\], outside \[-1, 1\]",
    ),
    "terminals": ({"terminals": np.array([0, 1, 0, 2, 0])}, "terminals holds 2 at index 3"),
    "timeouts": ({"timeouts": np.array([0, np.nan, 0, 0, 0])}, "timeouts holds nan at index 1"),
}


@pytest.mark.parametrize("case", BAD_CHANGES)
def test_bad_arrays_are_refused_in_one_line(case: str) -> None:
    changes, message = BAD_CHANGES[case]
    arrays = arrays_of([(False, False)] * 4 + [(True, False)])
    arrays.update({name: array for name, array in changes.items() if array is not None})
    for name in [name for name, array in changes.items() if array is None]:
        del arrays[name]
    with pytest.raises(UserError, match=message) as caught:
        make_dataset(arrays, "data/mine.hdf5")
    assert str(caught.value).startswith("dataset data/mine.hdf5: ")
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "the message does not say what to do"


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-1, None, "action_low is given without action_high"),
        (None, 1, "action_high is given without action_low"),
        ([-1, -1], 1, r"action_low has shape \[2\]"),
        (-np.inf, np.inf, r"dimension 0 are \[-inf, inf\]"),
        (1, 1, "expected finite ascending"),
        (0, 0.001, r"actions holds 0.002.* at index \[2, 0\], outside \[0, 0.001\]"),
    ],
)
def test_unusable_action_bounds_are_refused(low: object, high: object, message: str) -> None:
    arrays = arrays_of([(False, False)] * 4 + [(True, False)])
    with pytest.raises(UserError, match=message):
        make_dataset(arrays, "x", action_low=low, action_high=high)


def test_sizes_unlike_the_environments_are_refused() -> None:
    dataset = make_dataset(arrays_of([(False, False), (True, False)]), "mine.hdf5")
    spec = box_spec("Maze-v1", 2, (-1.0,), (1.0,), 100)
    dataset.validate(spec)
    with pytest.raises(
        UserError, match=r"mine.hdf5: the observation size is 2, but .*Maze-v1.* size 8"
    ):
        dataset.validate(replace(spec, observation=vector(8)))
    with pytest.raises(UserError, match=r"the action size is 1, but environment 'Maze-v1'.* 3"):
        dataset.validate(replace(spec, actions=box((-1.0,) * 3, (1.0,) * 3)))
