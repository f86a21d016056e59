"""Metrics, read back with the tools that their readers use."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jsrl.core.errors import UserError
from jsrl.core.files import write_whole
from jsrl.loggers import (
    JsonLinesLogger,
    Record,
    TensorBoardLogger,
    flatten,
    read_records,
)

FULL = Path("/dev/full")


def test_records_have_the_documented_fields(tmp_path):
    logger = JsonLinesLogger(tmp_path / "metrics.jsonl", [7, 3])
    logger.log(5, "offline", {"loss/value": [0.5, float("nan")], "throughput/x": 2})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 5, "phase": "offline", "seed": 7, "name": "loss/value", "value": 0.5},
        {"step": 5, "phase": "offline", "seed": 3, "name": "loss/value", "value": None},
        {"step": 5, "phase": "offline", "seed": None, "name": "throughput/x", "value": 2.0},
    ]


def test_records_of_tensors_and_infinities_read_back(tmp_path):
    logger = JsonLinesLogger(tmp_path / "metrics.jsonl", [0, 1])
    logger.log(1, "online", {"value/q": torch.tensor([1.5, float("inf")]), "a/b": np.float32(2)})
    assert read_records(tmp_path / "metrics.jsonl") == [
        Record(1, "online", 0, "value/q", 1.5),
        Record(1, "online", 1, "value/q", None),
        Record(1, "online", None, "a/b", 2.0),
    ]


def test_a_value_for_the_wrong_number_of_seeds_is_refused(tmp_path):
    logger = JsonLinesLogger(tmp_path / "metrics.jsonl", [0, 1])
    with pytest.raises(ValueError, match="loss/value"):
        logger.log(0, "online", {"loss/value": [1.0]})


def test_metrics_are_cut_back_to_a_checkpoint_and_go_on_bit_for_bit(tmp_path):
    def write(logger, steps):
        for step in steps:
            logger.log(step, "online", {"value/q": [step / 3]})

    whole = JsonLinesLogger(tmp_path / "whole.jsonl", [0])
    write(whole, range(6))

    killed = JsonLinesLogger(tmp_path / "killed.jsonl", [0])
    write(killed, range(3))
    offset = killed.offset()
    write(killed, range(3, 5))
    killed.close()
    resumed = JsonLinesLogger(tmp_path / "killed.jsonl", [0])
    resumed.truncate(offset)
    write(resumed, range(3, 6))
    assert resumed.offset() == whole.offset()
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_metrics_shorter_than_the_checkpoint_are_refused(tmp_path):
    logger = JsonLinesLogger(tmp_path / "metrics.jsonl", [0])
    logger.log(0, "online", {"value/q": [1.0]})
    size = logger.offset()
    with pytest.raises(UserError, match=f"has {size} bytes, expected at least the {size + 1}"):
        logger.truncate(size + 1)
    assert logger.offset() == size


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_a_user_error_and_closing_is_quiet(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to(FULL)
    logger = JsonLinesLogger(tmp_path / "metrics.jsonl", [0])
    with pytest.raises(UserError, match=r"metrics\.jsonl: .*No space left.*free space"):
        logger.log(0, "online", {"value/q": [1.0]})
    logger.close()


def test_an_unwritable_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        JsonLinesLogger(tmp_path / "file" / "metrics.jsonl", [0])
    with pytest.raises(UserError, match="cannot be written"):
        TensorBoardLogger(tmp_path / "file" / "tensorboard", [0])


def test_an_unfinished_last_line_is_skipped_and_a_corrupt_one_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = '{"step": 1, "phase": "online", "seed": 0, "name": "a/b", "value": 1.0}\n'
    path.write_text(good + '{"step": 2, "pha')
    assert read_records(path) == [Record(1, "online", 0, "a/b", 1.0)]
    for bad in ("nonsense\n", "[1]\n", '{"step": 1}\n'):
        path.write_text(good + bad)
        with pytest.raises(UserError, match="line 2"):
            read_records(path)
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read"):
        read_records(tmp_path / "none.jsonl")


def test_a_wrong_line_is_named_wherever_it_stands(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = '{"step": 1, "phase": "online", "seed": null, "name": "a/b", "value": null}'
    lines = [good] * 9000
    path.write_text("\n".join([*lines, ""]))
    assert read_records(path) == [Record(1, "online", None, "a/b", None)] * 9000
    # Each of them is part of a list that could be read.
    for bad in ("", f"{good},{good}", "[1, 2]"):
        path.write_text("\n".join([*lines[:8191], bad, *lines[:7], ""]))
        with pytest.raises(UserError, match="line 8192"):
            read_records(path)


def test_settings_are_flattened():
    nested = {"learner": {"hidden": [256, 256], "rate": 3e-4}, "flag": True, "path": None, "n": 1}
    assert flatten(nested) == {
        "learner.hidden": "[256, 256]",
        "learner.rate": 3e-4,
        "flag": "true",
        "path": None,
        "n": 1,
    }


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_whole(path, b"old")

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
