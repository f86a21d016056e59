"""The table of ``logger=csv``: read back by Python's own reader."""

import csv
import math

import numpy as np
import pytest

from jsrl.core.errors import UserError
from jsrl.loggers import JsonLinesLogger, LoggerInputs, LoggerOptions, Loggers, loggers


def opened(folder, seeds=(7, 3), resume_from=None):
    metrics = JsonLinesLogger(folder / "metrics.jsonl", seeds)
    inputs = LoggerInputs(folder, seeds, resume_from=resume_from)
    return Loggers(metrics, loggers["csv"].make(LoggerOptions("csv"), inputs))


def table(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_every_number_is_a_line_of_the_table(tmp_path):
    both = opened(tmp_path)
    both.log(5, "offline", {"loss/value": [0.1, math.nan], "throughput/x": 2})
    both.log(6, "online", {'odd,"name"': np.float32(1e-30)})
    both.histogram("actions", np.zeros(3), 6)
    both.image("picture", b"", 6)
    both.configuration("a: 1", {"a": 1})
    both.close(finished=True)
    header, *rows = table(tmp_path)
    assert header == ["step", "phase", "seed", "name", "value"]
    assert rows[:3] == [
        ["5", "offline", "7", "loss/value", "0.1"],
        ["5", "offline", "3", "loss/value", ""],
        ["5", "offline", "", "throughput/x", "2.0"],
    ]
    assert rows[3][:4] == ["6", "online", "", 'odd,"name"']
    assert np.float32(rows[3][4]) == np.float32(1e-30)


def test_a_resumed_table_is_cut_back_and_goes_on_bit_for_bit(tmp_path):
    def write(both, steps):
        for step in steps:
            both.log(step, "online", {"value/q": [step / 3, -step]})

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    both = opened(whole)
    write(both, range(6))
    both.flush()
    first = opened(killed)
    write(first, range(3))
    offset = first.offset()
    write(first, range(3, 5))
    first.close()
    with (killed / "metrics.csv").open("a") as file:
        file.write("a line that was cut o")
    metrics = JsonLinesLogger(killed / "metrics.jsonl", (7, 3))
    metrics.truncate(offset)
    metrics.close()
    write(opened(killed, resume_from=(2, "online")), range(3, 6))
    assert (killed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_what_came_before_the_logger_was_chosen_is_in_the_table_too(tmp_path):
    JsonLinesLogger(tmp_path / "metrics.jsonl", (7, 3)).log(1, "offline", {"loss/value": [1, 2]})
    opened(tmp_path, resume_from=(1, "offline")).log(2, "offline", {"loss/value": [3, 4]})
    assert [row[4] for row in table(tmp_path)] == ["value", "1.0", "2.0", "3.0", "4.0"]


def test_a_run_that_begins_anew_begins_a_new_table(tmp_path):
    (tmp_path / "metrics.csv").write_text("of an earlier start")
    opened(tmp_path).flush()
    assert table(tmp_path) == [["step", "phase", "seed", "name", "value"]]


def test_a_table_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"metrics\.csv.* cannot be written"):
        loggers["csv"].make(LoggerOptions("csv"), LoggerInputs(tmp_path / "file", [0]))
