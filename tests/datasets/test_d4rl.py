"""Files in D4RL's layout: reading, finding by name, downloading, writing."""

import http.server
import resource
import socket
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest

from jsrl.datasets import load_d4rl, load_hdf5, save_hdf5
from jsrl.datasets.d4rl_files import D4RL_FILES
from jsrl.errors import UserError
from jsrl.types import TransitionData

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
    arrays = vars(transitions()) | {"next_observations": None} | changes
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
        file["infos/qpos"] = np.zeros((15, 5))
    return path


def assert_equal(left: TransitionData, right: TransitionData) -> None:
    for field in fields(TransitionData):
        a, b = getattr(left, field.name), getattr(right, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name)
        assert a.dtype == b.dtype


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
    with pytest.raises(UserError, match="no such file"):
        load_hdf5(tmp_path)


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "cut.hdf5")
    contents = path.read_bytes()
    path.write_bytes(contents[: int(keep * len(contents))])
    with pytest.raises(UserError, match=r"dataset.path=.*cut.hdf5: cannot be read") as caught:
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
        assert dict(file.attrs) == {"env": "Maze-v1", "seed": 7}
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


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        save_hdf5(tmp_path / "file" / "own.hdf5", transitions(), {}, {})
    assert (tmp_path / "file").read_text() == "in the way"


class Server:
    """A loopback server in place of D4RL's: ``replies`` maps a path to (status, length, body)."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[int, int, bytes]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                status, length, body = outer.replies.get(self.path, (404, 0, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/mirror"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server()
    monkeypatch.setenv("JSRL_D4RL_MIRROR", running.url + "/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield running
    running.close()


DOOR_PATH = "/mirror/hand_dapg/door-v0_demos_clipped.hdf5"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "downloads"))
    return tmp_path / "downloads"


def test_a_name_is_downloaded_once(server: Server, folder: Path, tmp_path: Path) -> None:
    body = write(tmp_path / "source.hdf5").read_bytes()
    server.replies[DOOR_PATH] = (200, len(body), body)
    first, second = load_d4rl("door-human-v0"), load_d4rl("door-human-v0")
    assert server.asked == [DOOR_PATH]
    assert [p.name for p in folder.iterdir()] == ["door-v0_demos_clipped.hdf5"]
    assert (
        first.fingerprint == second.fingerprint == load_hdf5(tmp_path / "source.hdf5").fingerprint
    )
    assert first.source == f"door-human-v0 ({folder / 'door-v0_demos_clipped.hdf5'})"


def test_a_file_that_is_there_needs_no_network(tmp_path: Path) -> None:
    write(tmp_path / "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5")
    assert len(load_d4rl("antmaze-umaze-v2", directory=tmp_path, download=False)) == 13


def test_the_default_folder_is_d4rls_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".d4rl" / "datasets" / "hopper_medium-v2.hdf5"
    with pytest.raises(UserError, match="downloading is off") as caught:
        load_d4rl("hopper-medium-v2", download=False)
    assert str(place) in str(caught.value)
    assert "offline_rl/gym_mujoco_v2/hopper_medium-v2.hdf5" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_failed_downloads_say_why_and_leave_nothing(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    body = write(tmp_path / "source.hdf5").read_bytes()
    page = b"<html>moved</html>"
    for reply, message in (
        ((200, len(body), body[:-100]), f"{len(body) - 100} of {len(body)} bytes|IncompleteRead"),
        ((404, 0, b""), "404"),
        ((200, len(page), page), "not an HDF5 file"),
    ):
        server.replies[DOOR_PATH] = reply
        with pytest.raises(UserError, match=message) as caught:
            load_d4rl("door-human-v0")
        assert str(folder / "door-v0_demos_clipped.hdf5") in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not folder.exists() or list(folder.iterdir()) == []
    server.replies[DOOR_PATH] = (200, len(body), body)
    assert len(load_d4rl("door-human-v0")) == 13


def test_without_a_network_the_user_is_told_where_to_put_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("JSRL_D4RL_MIRROR", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UserError, match=r"cannot be downloaded from http://127\.0\.0\.1") as caught:
        load_d4rl("maze2d-umaze-v1")
    assert f"put it at {folder / 'maze2d-umaze-sparse-v1.hdf5'}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [("door-binary-v0", "door-"), ("antmaze-umase-v2", "antmaze-umaze-v2"), ("?", "antmaze")],
)
def test_an_unknown_name_is_answered_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(UserError, match="is unknown; expected a name such as") as caught:
        load_d4rl(name)
    assert near in str(caught.value).split("such as")[1]


def test_names_lead_to_the_files_of_d4rls_tables() -> None:
    assert len(D4RL_FILES) == len(set(D4RL_FILES.values())) == 156
    for name, file in {
        "antmaze-large-play-v0": "ant_maze_new/Ant_maze_hardest-maze_noisy_multistart_True_"
        "multigoal_False_sparse.hdf5",
        "antmaze-umaze-v1": "ant_maze_v1/Ant_maze_umaze_noisy_multistart_False_"
        "multigoal_False_sparse.hdf5",
        "antmaze-medium-diverse-v2": "ant_maze_v2/Ant_maze_big-maze_noisy_multistart_True_"
        "multigoal_True_sparse_fixed.hdf5",
        "door-human-v1": "hand_dapg_v1/door-human-v1.hdf5",
        "pen-cloned-v0": "hand_dapg/pen-demos-v0-bc-combined.hdf5",
        "hopper-medium-v2": "gym_mujoco_v2/hopper_medium-v2.hdf5",
        "walker2d-medium-replay-v0": "gym_mujoco/walker_mixed.hdf5",
        "maze2d-umaze-v1": "maze2d/maze2d-umaze-sparse-v1.hdf5",
        "maze2d-large-dense-v1": "maze2d/maze2d-large-dense-v1.hdf5",
        "bullet-halfcheetah-medium-replay-v0": "bullet/bullet-halfcheetah_medium_replay.hdf5",
    }.items():
        assert D4RL_FILES[name] == file


def fake_d4rl(monkeypatch: pytest.MonkeyPatch, arrays: object) -> list[str]:
    """Modules ``gym`` and ``d4rl`` that note how they are called."""
    calls: list[str] = []

    class Env:
        def get_dataset(self) -> object:
            calls.append("get_dataset()")
            if isinstance(arrays, Exception):
                raise arrays
            return arrays

        def close(self) -> None:
            calls.append("close()")

    def make(name: str) -> Env:
        calls.append(f"make({name})")
        if name != "door-human-v1":
            raise LookupError(f"No registered env\nwith id {name}")
        return Env()

    gym = types.ModuleType("gym")
    gym.make = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gym", gym)
    monkeypatch.setitem(sys.modules, "d4rl", types.ModuleType("d4rl"))
    return calls


def test_the_d4rl_package_is_asked_when_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {**vars(transitions()), "infos/qpos": np.zeros(3)}
    calls = fake_d4rl(monkeypatch, arrays)
    dataset = load_d4rl("door-human-v1", backend="d4rl")
    assert calls == ["make(door-human-v1)", "get_dataset()", "close()"]
    np.testing.assert_array_equal(dataset.data.next_observations, arrays["next_observations"])
    with pytest.raises(UserError, match=r"gym.make failed \(No registered env with id door-x"):
        load_d4rl("door-x", backend="d4rl")
    calls = fake_d4rl(monkeypatch, OSError("no route"))
    with pytest.raises(UserError, match=r"get_dataset failed \(no route\)"):
        load_d4rl("door-human-v1", backend="d4rl")
    assert calls[-1] == "close()"


def test_the_d4rl_package_is_not_touched_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_d4rl(monkeypatch, {})
    write(tmp_path / "door-human-v1.hdf5")
    assert len(load_d4rl("door-human-v1", directory=tmp_path)) == 13
    assert calls == []


def test_a_backend_that_is_absent_or_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym", None)
    with pytest.raises(UserError, match=r"cannot be imported .*use backend hdf5"):
        load_d4rl("door-human-v1", backend="d4rl")
    with pytest.raises(UserError, match="back-end 'tfds' is unknown; expected hdf5 or d4rl"):
        load_d4rl("door-human-v1", backend="tfds")


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
