"""Files in D4RL's layout: reading and writing."""

import errno
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest

from jsrl.core.errors import UserError
from jsrl.core.transitions import TransitionData
from jsrl.datasets import load_hdf5, save_hdf5

DOOR_HUMAN = Path(__file__).parents[2] / "../shared/data/adroit_door_human.hdf5"


def transitions(count: int = 15, seed: int = 0) -> TransitionData:
    """Episodes of four steps, ending in turn in a terminal and a timeout."""
    rng = np.random.default_rng(seed)
    index = np.arange(count)
    return TransitionData(
        observations=rng.normal(size=(count, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(count, 2)).astype(np.float32),
        rewards=rng.normal(size=count).astype(np.float32),
        next_observations=rng.normal(size=(count, 3)).astype(np.float32),
        terminals=index % 8 == 3,
        timeouts=index % 8 == 7,
    )


def write(path: Path, **changes: np.ndarray | None) -> Path:
    """A D4RL file without successors, with some arrays changed or, if None, left out."""
    arrays = transitions().arrays() | {"next_observations": None} | changes
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
        file["infos/qpos"] = np.zeros((15, 5))
    return path


def assert_equal(left: TransitionData, right: TransitionData) -> None:
    assert left.frames is None and right.frames is None
    others = right.arrays()
    for name, array in left.arrays().items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)
        assert array.dtype == others[name].dtype


def test_a_d4rl_file_is_read_and_its_successors_derived(tmp_path: Path) -> None:
    dataset = load_hdf5(write(tmp_path / "door.hdf5"))
    # Of 0-3 (terminal), 4-7 (timeout), 8-11 (terminal) and 12-14 (end of file) the second and
    # the last lose their last row.
    kept = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13]
    raw = transitions()
    np.testing.assert_array_equal(dataset.data.observations, raw.observations[kept])
    np.testing.assert_array_equal(
        dataset.data.next_observations,
        raw.observations[[1, 2, 3, 3, 5, 6, 7, 9, 10, 11, 11, 13, 14]],
    )
    assert dataset.episode_starts.tolist() == [0, 4, 7, 11]
    assert np.flatnonzero(dataset.data.timeouts).tolist() == [6, 12]
    assert dataset.source == str(tmp_path / "door.hdf5")


def test_actions_on_the_environments_scale_are_rescaled(tmp_path: Path) -> None:
    path = write(tmp_path / "torque.hdf5", actions=transitions().actions * 30)
    with pytest.raises(UserError, match=r"torque.hdf5: actions holds .* outside \[-1, 1\]"):
        load_hdf5(path)
    dataset = load_hdf5(path, action_low=-30, action_high=30)
    plain = load_hdf5(write(tmp_path / "plain.hdf5"))
    np.testing.assert_allclose(dataset.data.actions, plain.data.actions, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, "rewards not found"),
        ({"observations": None, "terminals": None}, "observations and terminals not found"),
        ({"rewards": np.full(15, np.nan)}, "rewards holds nan at index 0"),
        ({"actions": np.zeros((7, 2))}, "actions has 7 rows, but observations has 15"),
        ({"terminals": np.full(15, 0.5)}, "terminals holds 0.5 at index 0"),
    ],
)
def test_bad_files_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    path = write(tmp_path / "bad.hdf5", **changes)
    with pytest.raises(UserError, match=message) as caught:
        load_hdf5(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_in_place_of_an_array_counts_as_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.hdf5", rewards=None)
    with h5py.File(path, "a") as file:
        file.create_group("rewards")
    with pytest.raises(UserError, match="rewards not found"):
        load_hdf5(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.path=.*nothing.hdf5: no such file"):
        load_hdf5(tmp_path / "nothing.hdf5")
    with pytest.raises(UserError, match=r"is a folder; expected an HDF5 file"):
        load_hdf5(tmp_path)


def test_a_half_collected_file_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "walks.hdf5.parts").mkdir()
    with pytest.raises(UserError, match=r"walks.hdf5: half collected.*goes on from there"):
        load_hdf5(tmp_path / "walks.hdf5")


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "cut.hdf5")
    contents = path.read_bytes()
    path.write_bytes(contents[: int(keep * len(contents))])
    with pytest.raises(
        UserError, match=r"dataset.path=.*cut.hdf5: (cannot be read|is empty)"
    ) as caught:
        load_hdf5(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.hdf5").write_text("<html>not here</html>")
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        load_hdf5(tmp_path / "page.hdf5")


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    data = transitions(16)
    path = tmp_path / "new" / "folder" / "own.hdf5"
    save_hdf5(path, data, {"qpos": np.eye(3), "goal/xy": np.ones(2)}, {"env": "Maze-v1", "seed": 7})
    dataset = load_hdf5(path)
    assert_equal(dataset.data, data)
    assert dataset.episode_starts.tolist() == [0, 4, 8, 12]
    with h5py.File(path) as file:
        assert dict(file.attrs) == {"env": "Maze-v1", "seed": 7, "action_units": "normalised"}
        np.testing.assert_array_equal(file["infos/qpos"], np.eye(3))
        np.testing.assert_array_equal(file["infos/goal/xy"], np.ones(2))
    assert [p.name for p in path.parent.iterdir()] == ["own.hdf5"]


def test_equal_data_are_saved_as_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.hdf5", "b.hdf5"):
        save_hdf5(tmp_path / name, transitions(), {"x": np.ones(3)}, {"seed": 1})
    assert (tmp_path / "a.hdf5").read_bytes() == (tmp_path / "b.hdf5").read_bytes()


@pytest.mark.parametrize("there_before", [False, True])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, there_before: bool) -> None:
    path = tmp_path / "own.hdf5"
    if there_before:
        save_hdf5(path, transitions(seed=1), {}, {})
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    large = {"pixels": np.zeros(1 << 20, dtype=np.uint8)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to let a file grow beyond the limit: a real failure half-way.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))
    try:
        with pytest.raises(UserError, match=r"dataset file .*own.hdf5 cannot be written") as caught:
            save_hdf5(path, transitions(), large, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_file_takes_its_place_only_once_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(UserError, match="No space left on device"):
        save_hdf5(tmp_path / "own.hdf5", transitions(), {}, {})
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        save_hdf5(tmp_path / "file" / "own.hdf5", transitions(), {}, {})
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(not DOOR_HUMAN.exists(), reason="the door demonstrations are not beside us")
def test_the_human_door_demonstrations_are_read() -> None:
    with pytest.raises(UserError, match=r"actions holds 1\.011"):
        load_hdf5(DOOR_HUMAN)
    dataset = load_hdf5(DOOR_HUMAN, clip_actions=True)
    with h5py.File(DOOR_HUMAN) as file:
        ends = np.flatnonzero(file["timeouts"][()] | file["terminals"][()])
        lengths = np.diff(ends, prepend=-1)
        dropped = ~file["terminals"][()][ends]
        assert dataset.episode_lengths.tolist() == (lengths - dropped).tolist()
        rewards = file["rewards"][()]
    assert (dataset.num_episodes, dataset.observation_size, dataset.action_size) == (25, 39, 28)
    assert dataset.episode_returns[0] == pytest.approx(
        rewards[: ends[0] + 1 - int(dropped[0])].sum(), rel=1e-5
    )
    assert len(dataset.take_episodes(100, seed=0)) == 100
