"""D4RL's names: finding files, downloading them, and the ``d4rl`` package as a back-end."""

import http.server
import socket
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jsrl.core.errors import UserError
from jsrl.core.transitions import TransitionData
from jsrl.datasets import load_d4rl, load_hdf5, save_hdf5
from jsrl.datasets.d4rl_files import D4RL_FILES
from jsrl.datasets.readers import D4RLOptions


def transitions() -> TransitionData:
    """Thirteen transitions of one episode that ends in a timeout."""
    rng = np.random.default_rng(0)
    return TransitionData(
        observations=rng.normal(size=(13, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(13, 2)).astype(np.float32),
        rewards=rng.normal(size=13).astype(np.float32),
        next_observations=rng.normal(size=(13, 3)).astype(np.float32),
        terminals=np.zeros(13, dtype=bool),
        timeouts=np.arange(13) == 12,
    )


def write(path: Path) -> Path:
    save_hdf5(path, transitions(), {}, {})
    return path


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
    options = D4RLOptions("d4rl", path="x.h5", backend="d4rl")
    with pytest.raises(UserError, match=r"dataset.backend=d4rl is for names .*dataset.path=x.h5"):
        options.check()
    D4RLOptions("d4rl", path="door-human-v1", backend="d4rl").check()
    D4RLOptions("d4rl", path="x.h5").check()
