"""TensorBoard, read back with the tools that its readers use."""

import errno
import io
import warnings

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from jsrl.errors import UserError
from jsrl.loggers import (
    JsonLinesLogger,
    Loggers,
    TensorBoardLogger,
    read_records,
)


def read_back(directory):
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def points(accumulator, tag):
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def png(width, height):
    """The bytes of a black picture."""
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, "png")
    return content.getvalue()


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

    for method in ("add_scalar", "add_histogram", "add_image", "flush"):
        monkeypatch.setattr(logger._writer, method, full)
    calls = (
        lambda: logger.log(0, "online", {"value/q": [1.0]}),
        lambda: logger.histogram("actions", np.zeros(2), 0),
        lambda: logger.image("picture", png(2, 3), 0),
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
        loggers.image("picture", png(5, 4), 3)
        loggers.flush()
        assert loggers.offset() == (tmp_path / "metrics.jsonl").stat().st_size > 0
        loggers.close(finished=True)
    assert capfd.readouterr() == ("", "")
    assert len(read_records(tmp_path / "metrics.jsonl")) == 2
    accumulator = read_back(tmp_path / "tensorboard")
    assert points(accumulator, "loss/value/mean") == [(3, 1.0)]
    assert accumulator.Tags()["histograms"] == ["actions"]
    (picture,) = accumulator.Images("picture")
    assert (picture.step, picture.width, picture.height) == (3, 5, 4)


def test_loggers_without_tensorboard_write_the_metrics_alone(tmp_path):
    loggers = Loggers(JsonLinesLogger(tmp_path / "metrics.jsonl", [0]))
    loggers.configuration("a: 1", {"a": 1})
    loggers.histogram("actions", np.zeros(3), 0)
    loggers.image("picture", png(5, 4), 0)
    loggers.log(0, "online", {"loss/value": [1.0]})
    loggers.flush()
    loggers.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
