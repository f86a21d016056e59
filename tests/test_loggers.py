"""Loggers, read back with the tools that their readers use."""

import errno
import io
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from jsrl.errors import UserError
from jsrl.files import write_whole
from jsrl.loggers import (
    JsonLinesLogger,
    Loggers,
    Progress,
    Record,
    TensorBoardLogger,
    flatten,
    read_records,
)


class FullDisk:
    """Stands for a file whose disk holds no more bytes."""

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        pass


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Time that passes when told to."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


def read_back(directory):
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def points(accumulator, tag):
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


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


def test_a_full_disk_is_a_user_error_and_closing_is_quiet(tmp_path):
    logger = JsonLinesLogger(tmp_path / "metrics.jsonl", [0])
    logger._file.close()
    logger._file = FullDisk()
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


def test_tensorboard_scalars_of_several_seeds(tmp_path):
    logger = TensorBoardLogger(tmp_path, [4, 9, 11])
    logger.log(10, "online", {"loss/critic": [1.0, 3.0, float("nan")], "memory/peak_mib": 50})
    logger.close()
    accumulator = read_back(tmp_path)
    assert points(accumulator, "loss/critic/seed_4") == [(10, 1.0)]
    assert points(accumulator, "loss/critic/seed_9") == [(10, 3.0)]
    assert points(accumulator, "loss/critic/mean") == [(10, 2.0)]
    assert points(accumulator, "memory/peak_mib") == [(10, 50.0)]
    assert sorted(accumulator.Tags()["scalars"]) == [
        "loss/critic/mean",
        "loss/critic/seed_4",
        "loss/critic/seed_9",
        "memory/peak_mib",
    ]


def test_tensorboard_scalars_of_one_seed_have_plain_tags(tmp_path):
    logger = TensorBoardLogger(tmp_path, [4])
    logger.log(10, "online", {"loss/critic": [1.0]})
    logger.close()
    assert read_back(tmp_path).Tags()["scalars"] == ["loss/critic"]


def test_pre_training_stands_before_step_0_in_tensorboard(tmp_path):
    logger = TensorBoardLogger(tmp_path, [0], offline_updates=100)
    for step in (50, 100):
        logger.log(step, "offline", {"loss/value": [float(step)]})
    for step in (50, 100):
        logger.log(step, "online", {"loss/value": [float(-step)]})
    logger.close()
    expected = [(-50, 50.0), (0, 100.0), (50, -50.0), (100, -100.0)]
    assert points(read_back(tmp_path), "loss/value") == expected


@pytest.mark.parametrize(
    ("resume_from", "kept"),
    [((20, "online"), [-50, 10, 20]), ((50, "offline"), [-50]), ((40, "offline"), [])],
)
def test_tensorboard_hides_what_a_resumed_run_writes_again(tmp_path, resume_from, kept):
    first = TensorBoardLogger(tmp_path, [0], offline_updates=100)
    first.log(50, "offline", {"loss/value": [1.0]})
    for step in (10, 20, 30):
        first.log(step, "online", {"loss/value": [1.0]})
    first.close()
    resumed = TensorBoardLogger(tmp_path, [0], offline_updates=100, resume_from=resume_from)
    resumed.log(40, "online", {"loss/value": [2.0]})
    resumed.close()
    expected = [(step, 1.0) for step in kept] + [(40, 2.0)]
    assert points(read_back(tmp_path), "loss/value") == expected


def layout_of(accumulator):
    (event,) = accumulator.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout()
    layout.ParseFromString(event.tensor_proto.string_val[0])
    return {c.title: {x.title: list(x.multiline.tag) for x in c.chart} for c in layout.category}


def test_the_custom_scalars_page_shows_tags_that_are_written(tmp_path):
    for seeds in ([0], [0, 1]):
        directory = tmp_path / str(len(seeds))
        logger = TensorBoardLogger(directory, seeds)
        for policy in ("guide", "combined", "exploration"):
            for measure in ("success", "return", "length"):
                logger.log(0, "online", {f"evaluation/{policy}_{measure}": [0.5] * len(seeds)})
        for name in ("loss/value", "loss/critic", "loss/actor", "value/v", "value/q"):
            logger.log(0, "online", {name: [1.0] * len(seeds)})
        for name in ("advantage/mean", "advantage/std", "weight/mean", "weight/max"):
            logger.log(0, "online", {name: [1.0] * len(seeds)})
        for name in ("curriculum/guide_steps", "curriculum/stage", "collect/guide_fraction"):
            logger.log(0, "online", {name: [1.0] * len(seeds)})
        for name in ("updates_per_second", "env_steps_per_second"):
            logger.log(0, "online", {f"throughput/{name}": 100.0})
        logger.close()
        accumulator = read_back(directory)
        written = accumulator.Tags()["scalars"]
        layout = layout_of(accumulator)
        assert next(iter(layout)) == "Overview"
        for charts in layout.values():
            for tags in charts.values():
                for tag in tags:
                    assert any(name.startswith(tag) for name in written), tag
        suffix = "" if len(seeds) == 1 else "/mean"
        assert layout["Overview"]["success: guide, combined, exploration"] == [
            f"evaluation/{policy}_success{suffix}"
            for policy in ("guide", "combined", "exploration")
        ]


def test_configuration_as_text_and_hyperparameters_in_the_same_run(tmp_path):
    logger = TensorBoardLogger(tmp_path, [0, 1], offline_updates=10)
    settings = {"seeds": [0, 1], "learner": {"rate": 3e-4, "name": "iql", "layer_norm": False}}
    logger.configuration("learner:\n  name: iql", settings)
    logger.log(0, "online", {"evaluation/exploration_success": [0.0, 1.0]})
    logger.close(finished=True)

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert list(multiplexer.Runs()) == ["."]
    (text,) = multiplexer.Tensors(".", "config/text_summary")
    assert text.tensor_proto.string_val[0] == b"    learner:\n      name: iql\n"

    contents = {}
    for tag, content in multiplexer.GetAccumulator(".").PluginTagToContent("hparams").items():
        data = plugin_data_pb2.HParamsPluginData()
        data.ParseFromString(content)
        contents[tag] = data
    session = contents["_hparams_/session_start_info"].session_start_info.hparams
    assert session["learner.rate"].number_value == 3e-4
    assert session["learner.name"].string_value == "iql"
    assert session["learner.layer_norm"].string_value == "false"
    assert session["seeds"].string_value == "[0, 1]"
    metrics = contents["_hparams_/experiment"].experiment.metric_infos
    assert "evaluation/exploration_success/mean" in [info.name.tag for info in metrics]
    assert "_hparams_/session_end_info" in contents


def test_an_interrupted_run_is_not_marked_as_finished(tmp_path):
    logger = TensorBoardLogger(tmp_path, [0])
    logger.configuration("a: 1", {"a": 1})
    logger.close()
    tags = read_back(tmp_path).PluginTagToContent("hparams")
    assert "_hparams_/session_start_info" in tags
    assert "_hparams_/session_end_info" not in tags


def test_histogram_counts_the_finite_actions(tmp_path):
    logger = TensorBoardLogger(tmp_path, [0])
    actions = np.array([[[-1.0, 0.25], [float("nan"), 1.0]]], dtype=np.float32)
    logger.histogram("actions", actions, 30)
    logger.histogram("nothing", np.array([float("nan")]), 30)
    logger.close()
    accumulator = read_back(tmp_path)
    (event,) = accumulator.Histograms("actions")
    assert event.step == 30
    assert event.histogram_value.num == 3
    assert (event.histogram_value.min, event.histogram_value.max) == (-1.0, 1.0)
    assert accumulator.Tags()["histograms"] == ["actions"]


def test_a_full_disk_under_tensorboard_is_a_user_error(tmp_path, monkeypatch):
    logger = TensorBoardLogger(tmp_path, [0])

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    for method in ("add_scalar", "add_histogram", "flush"):
        monkeypatch.setattr(logger._writer, method, full)
    calls = (
        lambda: logger.log(0, "online", {"value/q": [1.0]}),
        lambda: logger.histogram("actions", np.zeros(2), 0),
        logger.flush,
    )
    for call in calls:
        with pytest.raises(UserError, match="No space left on device"):
            call()


def test_loggers_pass_everything_on_and_are_quiet(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = JsonLinesLogger(tmp_path / "metrics.jsonl", [0, 1])
        loggers = Loggers(metrics, TensorBoardLogger(tmp_path / "tensorboard", [0, 1]))
        loggers.configuration("a: 1", {"a": 1})
        loggers.log(3, "online", {"loss/value": [1.0, float("nan")]})
        loggers.histogram("actions", np.zeros((2, 1, 2)), 3)
        loggers.flush()
        assert loggers.offset() == (tmp_path / "metrics.jsonl").stat().st_size > 0
        loggers.close(finished=True)
    assert capfd.readouterr() == ("", "")
    assert len(read_records(tmp_path / "metrics.jsonl")) == 2
    accumulator = read_back(tmp_path / "tensorboard")
    assert points(accumulator, "loss/value/mean") == [(3, 1.0)]
    assert accumulator.Tags()["histograms"] == ["actions"]


def test_loggers_without_tensorboard_write_the_metrics_alone(tmp_path):
    loggers = Loggers(JsonLinesLogger(tmp_path / "metrics.jsonl", [0]))
    loggers.configuration("a: 1", {"a": 1})
    loggers.histogram("actions", np.zeros(3), 0)
    loggers.log(0, "online", {"loss/value": [1.0]})
    loggers.flush()
    loggers.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_progress_prints_plain_lines_now_and_then(capsys):
    clock = Clock()
    progress = Progress(1000, "online", clock=clock)
    progress.update(1)
    clock.seconds = 0.5
    progress.update(100)  # 10 % done, but half a second after the start
    assert capsys.readouterr().out == ""
    clock.seconds = 2.0
    progress.update(200, h=30, stage=2, **{"return": 0.123456})
    clock.seconds = 5.0
    progress.update(210, h=20)  # 1 %, three seconds
    clock.seconds = 12.0
    progress.update(220, h=10)
    progress.say("a line")
    progress.update(221)
    progress.close()
    progress.close()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "online 200/1000 (20 %), h 30, stage 2, return 0.123, 00:08 left",
        "online 220/1000 (22 %), h 10, stage 2, return 0.123, 00:42 left",
        "a line",
        "online 221/1000 (22 %), h 10, stage 2, return 0.123, 00:42 left",
    ]
    assert captured.err == ""


def test_time_left_of_a_resumed_run_counts_its_own_steps_only(capsys):
    clock = Clock()
    progress = Progress(1000, "online", initial=900, clock=clock)
    clock.seconds = 10.0
    progress.update(950, value=None)
    assert capsys.readouterr().out == "online 950/1000 (95 %), value -, 00:10 left\n"


def test_progress_switched_off_prints_only_what_it_is_told(capsys):
    clock = Clock()
    progress = Progress(10, "online", enabled=False, clock=clock)
    clock.seconds = 100.0
    progress.update(10)
    progress.say("saved")
    progress.close()
    assert capsys.readouterr() == ("saved\n", "")


def test_progress_is_a_bar_on_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(100, "online", initial=40)
    progress.update(60, stage=2)
    progress.say("a line")
    progress.update(100, stage=3)
    progress.close()
    shown = terminal.getvalue()
    assert "100/100, stage 3" in shown
    assert "40/100" in shown
    assert capsys.readouterr().out == "a line\n"


def test_an_empty_stage_divides_by_nothing(capsys):
    progress = Progress(0, "offline")
    progress.update(0)
    progress.close()
    assert capsys.readouterr().out == ""
