"""Weights & Biases without a network: what its files hold, read record by record."""

import io
import json
import math
import struct

import numpy as np
import pytest
from PIL import Image

from jsrl.core.errors import UserError
from jsrl.loggers import LoggerInputs, loggers
from jsrl.loggers.wandb import WandbOptions

pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path_factory):
    """Nothing of this machine: no account, no settings of the environment.

    A home there has to be: without one the package's own process has nowhere to put its log, and
    says all of it on standard error.
    """
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_X_DISABLE_STATS", "true")


def opened(folder, seeds=(4, 9), resume_from=None, **options):
    settings = WandbOptions("wandb", mode="offline", **options)
    return loggers["wandb"].make(settings, LoggerInputs(folder, seeds, 10, resume_from))


HEADER, BLOCK = 7, 32_768


def payloads(data):
    """What is in a file of LevelDB's log format, after a header of the package's own.

    Blocks of 32 KiB hold pieces: four bytes of a checksum, two of a length, one that says whether
    a record is whole (1), begins (2), goes on (3) or ends (4) with the piece.
    """
    position, found, begun = HEADER, [], b""
    while position + 7 <= len(data):
        rest = BLOCK - position % BLOCK
        if rest < 7:
            position += rest
            continue
        length, part = struct.unpack_from("<HB", data, position + 4)
        if part == 0:
            position += rest
            continue
        begun += data[position + 7 : position + 7 + length]
        position += 7 + length
        if part in (1, 4):
            found.append(begun)
            begun = b""
    return found


def records(folder):
    """The records of every start of a run, in order."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # waits for the process that writes the files
    return [
        Record.FromString(payload)
        for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))
        for payload in payloads(path.read_bytes())
    ]


def history(folder):
    """The points that were logged: those of each call, without what the package adds."""
    points = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            points.append({k: v for k, v in items.items() if not k.startswith("_")})
    return points


def runs(folder):
    return [record.run for record in records(folder) if record.WhichOneof("record_type") == "run"]


def png():
    file = io.BytesIO()
    Image.new("RGB", (5, 4)).save(file, "PNG")
    return file.getvalue()


def test_values_settings_and_pictures_are_in_the_files_of_the_run(tmp_path, capfd):
    logger = opened(tmp_path / "maze", project="hills")
    logger.configuration("learner:\n  kind: iql", {"learner": {"kind": "iql"}, "seeds": [4, 9]})
    logger.log(3, "offline", {"loss/value": [1.0, 3.0], "throughput/x": 2.0})
    logger.log(7, "online", {"loss/value": [math.nan, 5.0]})
    logger.histogram("actions", np.array([-1.0, 1.0, math.inf]), 7)
    logger.image("picture", png(), 7)
    logger.embedding("layer", np.zeros((2, 2)), ["a", "b"], 7)
    logger.flush()
    logger.close(finished=True)
    assert capfd.readouterr() == ("", "")
    points = history(tmp_path / "maze")
    assert points[0] == {
        "step": -7, "loss/value/seed_4": 1.0, "loss/value/seed_9": 3.0, "loss/value/mean": 2.0,
        "throughput/x": 2.0,
    }  # fmt: skip
    assert points[1] == {"step": 7, "loss/value/seed_9": 5.0, "loss/value/mean": 5.0}
    assert points[2]["actions/_type"] == "histogram"
    assert sum(points[2]["actions/values"]) == 2
    assert (points[3]["picture/width"], points[3]["picture/height"]) == (5, 4)
    assert len(points) == 4
    (run,) = runs(tmp_path / "maze")
    assert (run.display_name, run.project) == ("maze", "hills")
    kept = {
        item.key: json.loads(item.value_json)
        for record in records(tmp_path / "maze")
        if record.WhichOneof("record_type") == "config"
        for item in record.config.update
    }
    assert kept["learner"] == {"kind": "iql"}
    assert kept["seeds"] == [4, 9]
    (end,) = (r for r in records(tmp_path / "maze") if r.WhichOneof("record_type") == "exit")
    assert end.exit.exit_code == 0


def test_a_resumed_run_goes_on_under_its_id_and_a_new_one_has_another(tmp_path):
    first = opened(tmp_path)
    first.log(1, "online", {"loss/value": [1.0, 2.0]})
    first.close()
    second = opened(tmp_path, resume_from=(1, "online"))
    second.log(2, "online", {"loss/value": [3.0, 4.0]})
    second.close(finished=True)
    one, same = {run.run_id for run in runs(tmp_path)}, (tmp_path / "wandb" / "run_id").read_text()
    assert one == {same.strip()}
    assert [point["step"] for point in history(tmp_path)] == [1, 2]
    exits = [r.exit.exit_code for r in records(tmp_path) if r.WhichOneof("record_type") == "exit"]
    assert exits == [1, 0]
    opened(tmp_path).close()
    assert len({run.run_id for run in runs(tmp_path)}) == 2


def test_without_an_account_the_way_out_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"wandb login, or choose logger\.mode=offline") as raised:
        loggers["wandb"].make(WandbOptions("wandb"), LoggerInputs(tmp_path / "run", [0]))
    assert "\n" not in str(raised.value)


def test_an_unknown_mode_is_refused():
    with pytest.raises(UserError, match=r"logger\.mode='on' is unknown; .* online, offline"):
        WandbOptions("wandb", mode="on").check()
