"""TensorBoard, read back with the tools that its readers use."""

import argparse
import errno
import io
import re
import warnings

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.backend.event_processing.plugin_event_multiplexer import (
    EventMultiplexer as PluginEventMultiplexer,
)
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from jsrl.core.errors import UserError
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


def runs_of(directory):
    """Every run that TensorBoard finds, by its name."""
    multiplexer = EventMultiplexer({}, size_guidance={"tensors": 0, "scalars": 0})
    multiplexer.AddRunsFromDirectory(str(directory)).Reload()
    return {name: multiplexer.GetAccumulator(name) for name in multiplexer.Runs()}


def log_everything(logger, seeds):
    values = [0.5] * seeds
    for policy in ("guide", "combined", "exploration"):
        for measure in ("success", "return", "length"):
            logger.log(0, "online", {f"evaluation/{policy}_{measure}": values})
    for policy in ("combined", "exploration"):
        logger.log(0, "online", {f"collect/{policy}_return": values})
    for name in ("loss/value", "loss/critic", "loss/actor", "value/v", "value/q"):
        logger.log(0, "online", {name: values})
    for name in ("advantage/mean", "advantage/std", "weight/mean", "weight/max"):
        logger.log(0, "online", {name: values})
    for name in ("curriculum/guide_steps", "curriculum/stage"):
        logger.log(0, "online", {name: values})
    for name in ("collect/guide_fraction", "collect/explorer_share"):
        logger.log(0, "online", {name: values})
    for name in ("updates_per_second", "env_steps_per_second"):
        logger.log(0, "online", {f"throughput/{name}": 100.0})


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_custom_scalars_page_shows_a_curve_in_each_run_and_one_for_each_policy(tmp_path, seeds):
    logger = TensorBoardLogger(tmp_path, list(range(seeds)))
    log_everything(logger, seeds)
    logger.close()
    runs = runs_of(tmp_path)
    layout = layout_of(runs["."])
    assert next(iter(layout)) == "Overview"
    # The colour of a curve is that of its run: a chart has one tag of each, but for a curriculum.
    shown = {}
    for charts in layout.values():
        for title, (pattern,) in charts.items():
            for run, accumulator in runs.items():
                tags = [t for t in accumulator.Tags()["scalars"] if re.match(pattern, t)]
                assert len(tags) <= (seeds if "curriculum" in pattern else 1)
                shown.setdefault(title, []).extend((run, tag) for tag in tags)
    assert all(shown.values())
    assert shown["success: guide, combined, exploration"] == [
        (policy, "evaluation/success") for policy in ("combined", "exploration", "guide")
    ]


def test_what_is_known_of_a_policy_has_a_run_of_its_own(tmp_path):
    logger = TensorBoardLogger(tmp_path, [3, 4])
    logger.log(0, "online", {"evaluation/guide_success": [0.25, 0.75]})
    logger.log(10, "online", {"collect/combined_return": [float("nan"), 2.0], "loss/value": 1.0})
    logger.log(10, "online", {"collect/guide_fraction": [1.0, 1.0]})
    logger.log(10, "online", {"curriculum/guide_steps": [1.0, 1.0]})
    logger.close()
    runs = runs_of(tmp_path)
    assert set(runs) == {".", "guide", "combined"}  # nothing is known of the third
    assert points(runs["guide"], "evaluation/success") == [(0, 0.5)]
    assert points(runs["combined"], "collect/return") == [(10, 2.0)]
    assert runs["guide"].Tags()["scalars"] == ["evaluation/success"]
    assert points(runs["."], "evaluation/guide_success/mean") == [(0, 0.5)]


def test_a_resumed_run_hides_what_it_writes_again_of_each_policy(tmp_path):
    first = TensorBoardLogger(tmp_path, [0])
    for step in (10, 20, 30):
        first.log(step, "online", {"evaluation/guide_success": [1.0]})
    first.close()
    resumed = TensorBoardLogger(tmp_path, [0], resume_from=(20, "online"))
    resumed.close()
    for run, tag in ((".", "evaluation/guide_success"), ("guide", "evaluation/success")):
        assert points(runs_of(tmp_path)[run], tag) == [(10, 1.0), (20, 1.0)]


@pytest.mark.parametrize("seeds", [[7], [0, 1]])
def test_the_hyperparameters_tab_is_filled(tmp_path, seeds):
    """Read as the tab itself reads it: by the backend of TensorBoard's plugin."""
    logger = TensorBoardLogger(tmp_path / "run", seeds, offline_updates=10)
    settings = {
        "seeds": seeds,
        "learner": {"rate": 3e-4, "kind": "iql", "layer_norm": False, "none": None},
    }
    logger.configuration("learner:\n  kind: iql", settings)
    logger.log(0, "online", {"evaluation/exploration_success": [0.0] * len(seeds)})
    logger.log(90, "final", {"evaluation/exploration_success": [0.5, 1.0][-len(seeds) :]})
    logger.close(finished=True)

    groups, experiment = hyperparameters_tab(tmp_path)
    (group,) = groups
    (session,) = group.sessions
    assert session.name == "run"  # and no run beside it
    assert api_pb2.Status.Name(session.status) == "STATUS_SUCCESS"
    assert group.hparams["learner.rate"].number_value == 3e-4
    assert group.hparams["learner.kind"].string_value == "iql"
    assert group.hparams["learner.layer_norm"].string_value == "false"
    assert group.hparams["seeds"].string_value == str(seeds)
    results = {value.name.tag: value.value for value in group.metric_values}
    assert results == {"hparam/exploration_success": 0.75 if len(seeds) == 2 else 1.0}
    assert [info.name for info in experiment.hparam_infos][:2] == ["learner.kind", "seeds"]
    assert experiment.metric_infos[0].name.tag == "hparam/exploration_success"


def hyperparameters_tab(logdir):
    """The rows of the tab, and its columns."""
    multiplexer = PluginEventMultiplexer().AddRunsFromDirectory(str(logdir)).Reload()
    flags = argparse.Namespace(generic_data="true")
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    tensorboard = base_plugin.TBContext(data_provider=provider, flags=flags)
    backend = backend_context.Context(tensorboard)
    context = RequestContext()
    found = backend.hparams_metadata(context, "")
    listed = backend.hparams_from_data_provider(context, "", None)
    experiment = backend.experiment_from_metadata(context, "", True, found, listed)
    columns = [api_pb2.ColParams(hparam=info.name) for info in experiment.hparam_infos]
    columns += [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    statuses = list(range(4))
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=9, allowed_statuses=statuses, col_params=columns
    )
    handler = list_session_groups.Handler(context, backend, "", request)
    return handler.run().session_groups, experiment


def test_configuration_as_text(tmp_path):
    logger = TensorBoardLogger(tmp_path, [0])
    logger.configuration("learner:\n  name: iql", {"learner": {"name": "iql"}})
    logger.close()
    (text,) = read_back(tmp_path).Tensors("config/text_summary")
    assert text.tensor_proto.string_val[0] == b"    learner:\n      name: iql\n"


def test_a_run_that_is_finished_after_it_was_resumed_is_marked_so(tmp_path):
    first = TensorBoardLogger(tmp_path, [0])
    first.configuration("a: 1", {"a": 1})
    first.close()
    resumed = TensorBoardLogger(tmp_path, [0], resume_from=(10, "online"))
    resumed.close(finished=True)
    (group,), _ = hyperparameters_tab(tmp_path)
    assert api_pb2.Status.Name(group.sessions[0].status) == "STATUS_SUCCESS"
    assert group.hparams["a"].number_value == 1


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
