"""A run with monitor=on: it learns the same as without, resumes exactly, leaves a reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from disturbances import FINISH, STEP, Disturbance, kill, terminate, train_disturbed
from PIL import Image
from small_runs import REACH, metrics, newest_state, train_here, write_reach_data
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jsrl.core.checkpoint import checkpoint_paths
from jsrl.core.errors import UserError
from jsrl.monitor import Recording
from jsrl.monitor.capture.recording_files import chunk_paths

WATCHED = (
    *REACH,
    "dataset=d4rl",
    "guide=offline",
    "curriculum=jsrl",
    "curriculum.initial_guide_steps=20",
    "curriculum.stages=2",
    "seeds=[0,3]",
    "env.num_envs=2",
    "online.steps=600",
    "evaluation.interval=100",
    "monitor=on",
    "monitor.interval=2",
    "monitor.reference=3",
    "monitor.window=2",
    "monitor.stride=2",
    "monitor.trusted=6",
    "monitor.chunk_rows=200",
    "monitor.rate_tests=10",
    "monitor.permutations=200",
)


def data(folder: Path) -> str:
    return f"dataset.path={write_reach_data(folder / 'data.hdf5')}"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    train_here(folder / "run", *WATCHED, data(folder), "logger=tensorboard")
    return folder / "run"


def test_a_monitor_changes_nothing_that_is_learnt(watched: Path, tmp_path: Path) -> None:
    train_here(tmp_path / "alone", *WATCHED, data(tmp_path), "monitor=off")
    with_it, without = newest_state(watched), newest_state(tmp_path / "alone")
    for part in ("learner", "runner", "curricula", "policies"):
        for name, value in flat(without[part]).items():
            assert torch.equal(flat(with_it[part])[name], value), name
    records = [r for r in metrics(watched) if not r.name.startswith("monitor/")]
    assert records == metrics(tmp_path / "alone")


def flat(value, name=""):
    """Tensors and numbers of a nested state."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{name}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, e in enumerate(value) for k, v in flat(e, f"{name}.{i}").items()}
    if isinstance(value, bool | int | float):
        return {name: torch.tensor(value)}
    return {name: value.nan_to_num()} if isinstance(value, torch.Tensor) else {}


def test_a_run_that_is_watched_resumes_exactly(watched: Path, tmp_path: Path) -> None:
    overrides = (*WATCHED, data(tmp_path), "logger=tensorboard")
    disturbances: list[Disturbance] = [
        (STEP, 33, kill),
        (STEP, 61, terminate),
        (STEP, 70, kill),
        (FINISH, 1, kill),
    ]
    for disturbance in disturbances:
        train_disturbed(tmp_path / "parts", disturbance, *overrides)
    train_here(tmp_path / "parts", *overrides)
    assert metrics(tmp_path / "parts") == metrics(watched)
    for name in ("recording", "reference"):
        whole, parts = (Recording(run / "monitor" / name) for run in (watched, tmp_path / "parts"))
        for layer in whole.sizes:
            one, other = whole.layer(layer), parts.layer(layer)
            assert np.array_equal(one.values, other.values)
            for column in ("observations", "step", "episode", "time", "phase", "stage", "seed"):
                assert np.array_equal(getattr(one.steps, column), getattr(other.steps, column))


def test_every_phase_is_recorded_with_who_acted(watched: Path) -> None:
    recording = Recording(watched / "monitor" / "recording")
    assert set(recording.sizes) == {"inputs", "mlp.activation_0", "mlp.activation_1", "outputs"}
    for phase, actors in (
        ("offline", {2}),
        ("guide", {0}),
        ("exploration", {1}),
        ("evaluation", {0, 1}),
    ):
        steps = recording.steps(phase, seed=3)
        assert set(steps.actor) == actors, phase
    guided, later = recording.steps("guide", 0, 0), recording.steps("exploration", 0, 0)
    # In a stage the guide acts first, the exploration-policy after it.
    assert guided.time.max() <= 20
    assert later.time.min() >= guided.time.max()
    assert (recording.steps("exploration", 0).stage == 0).all()
    values = recording.layer("inputs", "exploration", seed=3)
    assert np.array_equal(values.values, values.steps.observations)


def test_it_writes_p_values_rates_and_units_and_draws_them(watched: Path) -> None:
    names = {record.name for record in metrics(watched) if record.name.startswith("monitor/")}
    for wanted in (
        "monitor/p_value/exploration",
        "monitor/p_value/exploration/mlp.activation_0",
        "monitor/detection_rate/exploration/outputs",
        "monitor/detection_rate_null/exploration/outputs",
        "monitor/dead_units/exploration/mlp.activation_1",
        "monitor/twin_disagreement/exploration",
        "monitor/saturated_actions/exploration",
    ):
        assert wanted in names
    values = [r.value for r in metrics(watched) if r.name.startswith("monitor/p_value/")]
    assert all(value is None or 0 < value <= 1 for value in values)
    assert (watched / "monitor" / "embedding.png").stat().st_size > 1000
    projector = (watched / "tensorboard" / "projector_config.pbtxt").read_text()
    assert "monitor_inputs" in projector
    events = EventAccumulator(str(watched / "tensorboard"), size_guidance={"images": 0}).Reload()
    (shown,) = events.Images("monitor/embedding")
    assert (shown.width, shown.height) == Image.open(watched / "monitor" / "embedding.png").size


def test_the_reference_is_of_the_final_policy_alone(watched: Path) -> None:
    steps = Recording(watched / "monitor" / "reference").steps(seed=3)
    assert set(steps.actor) == {1}
    assert len(steps.episodes()) == 6


def test_layers_that_are_not_there_are_told_before_anything_is_learnt(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"monitor\.layers='nothing'"):
        train_here(tmp_path / "run", *WATCHED, data(tmp_path), "monitor.layers=nothing")
    assert not checkpoint_paths(tmp_path / "run" / "checkpoints")


def test_a_learner_with_one_critic_is_watched_without_a_disagreement(tmp_path: Path) -> None:
    alone = ("learner=sac", "learner.critics=1", "dataset=none", "guide=none", "curriculum=none")
    kept = [word for word in WATCHED if not word.startswith(("dataset", "guide", "curriculum"))]
    train_here(tmp_path / "run", *kept, *alone, "offline.updates=0")
    names = {record.name for record in metrics(tmp_path / "run")}
    assert any(name.startswith("monitor/p_value/exploration") for name in names)
    assert not any("twin_disagreement" in name for name in names)


def test_the_recording_does_not_outgrow_its_files(tmp_path: Path) -> None:
    overrides = ("monitor.chunk_rows=50", "monitor.chunks=3", "online.steps=400")
    train_here(tmp_path / "run", *WATCHED, data(tmp_path), *overrides)
    assert len(chunk_paths(tmp_path / "run" / "monitor" / "recording")) == 3
