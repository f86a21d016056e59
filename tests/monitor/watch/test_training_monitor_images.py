"""A run with monitor=on whose policy sees images, and the watches of a policy of choices."""

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
import torch
from disturbances import FINISH, STEP, Disturbance, kill, terminate, train_disturbed
from fakes import CHOICES, CHOOSING, FakeGuide, FixedSteps
from monitor.watches import FEW
from small_runs import Reach, call, leaves, metrics, newest_state, train_here

from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.loggers import JsonLinesLogger, Loggers, read_records
from jsrl.monitor import Recording
from jsrl.monitor.capture.recording_files import chunk_paths
from jsrl.monitor.capture.steps import FIELDS
from jsrl.monitor.detectors.rates import RateSettings
from jsrl.monitor.watch.settings import WatchSettings
from jsrl.monitor.watch.training import TrainingMonitor
from jsrl.monitor.watch.training_settings import TrainingMonitorSettings
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.layers import INITIALISATIONS
from jsrl.rollout.collector import Collector

SIDE = 16


class SeenReach(Reach):
    """The same task, whose goal is seen in a picture alone."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space: gym.Space[Any] = gym.spaces.Dict(
            {
                "point": gym.spaces.Box(-2, 2, (2,), np.float64),
                "picture": gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
            }
        )

    def _observe(self) -> Any:
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        for channel, place in enumerate((self.position, self.goal)):
            row, column = ((place + 1) / 2 * (SIDE - 1)).round().astype(int)
            picture[row, column, channel] = 255
        return {"point": self.position.copy(), "picture": picture}


gym.register("jsrl-tests/SeenReach-v0", SeenReach, max_episode_steps=24)

SEEN = (
    *("env=gymnasium", "env.id=jsrl-tests/SeenReach-v0", "env.score_range=[0,1]"),
    *("dataset=none", "guide=none", "curriculum=none", "learner=sac", "learner/encoder=drq"),
    *("learner.encoder.channels=4", "learner.encoder.features=6", "env.max_episode_steps=24"),
    *("seeds=[0,3]", "env.num_envs=2", "online.steps=280", "evaluation.interval=100"),
    *("monitor=on", "monitor.interval=2", "monitor.reference=3", "monitor.window=2"),
    *("monitor.stride=2", "monitor.trusted=4", "monitor.chunk_rows=70", "monitor.rate_tests=10"),
    "monitor.permutations=200",
)
ONE_LINE = "the policy sees images (picture), which are not compared"
RECORDED = ("inputs", "mlp.activation_0", "mlp.activation_1", "outputs")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seen") / "run"
    train_here(folder, *SEEN)
    return folder


def test_a_monitor_changes_nothing_that_is_learnt_from_images(
    watched: Path, tmp_path: Path
) -> None:
    train_here(tmp_path / "alone", *SEEN, "monitor=off")
    with_it, without = newest_state(watched), newest_state(tmp_path / "alone")
    for part in ("learner", "runner", "policies"):
        found, expected = (dict(leaves(state[part])) for state in (with_it, without))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert value.numpy().tobytes() == found[name].numpy().tobytes(), name
    own = [record for record in metrics(watched) if not record.name.startswith("monitor/")]
    assert own == metrics(tmp_path / "alone")


def test_layers_are_recorded_and_images_are_not(watched: Path) -> None:
    for name in ("recording", "reference"):
        recording = Recording(watched / "monitor" / name)
        assert {"inputs", "mlp.activation_0", "outputs"} <= set(recording.sizes)
        # What convolutions give has thousands of numbers, and is left out unless it is asked for.
        assert not any("convolutions" in layer for layer in recording.sizes)
        assert recording.sizes["inputs"] == 6 + 2
        for path in chunk_paths(watched / "monitor" / name):
            with h5py.File(path) as file:
                assert set(file) == {*FIELDS, "layers"}
        record = recording.layer("inputs", seed=3)
        # The vector stands behind the features of the image.
        assert np.array_equal(record.values[:, 6:], record.steps.observations)
    names = {record.name for record in metrics(watched)}
    assert "monitor/p_value/exploration/mlp.activation_0" in names
    assert "monitor/twin_disagreement/exploration" in names


def test_images_are_kept_with_the_episodes_that_are_tested(watched: Path) -> None:
    state = newest_state(watched)["monitor"]
    kept = [(name, v) for name, v in leaves(state["watches"]) if name.endswith("images.picture")]
    assert kept
    for _, image in kept:
        assert image.dtype == torch.uint8
        assert tuple(image.shape[1:]) == (3, SIDE, SIDE)
        # A point and a goal in every picture.
        assert ((image > 0).sum((-1, -2)) == torch.tensor([1, 1, 0])).all()
    assert "images" not in state["recording"].get("rows", {})


def test_a_run_that_sees_images_and_is_watched_resumes_exactly(
    watched: Path, tmp_path: Path
) -> None:
    disturbances: list[Disturbance] = [(STEP, 33, kill), (STEP, 41, terminate), (FINISH, 1, kill)]
    for disturbance in disturbances:
        train_disturbed(tmp_path / "parts", disturbance, *SEEN)
    train_here(tmp_path / "parts", *SEEN)
    assert metrics(tmp_path / "parts") == metrics(watched)
    for name in ("recording", "reference"):
        whole, parts = (Recording(run / "monitor" / name) for run in (watched, tmp_path / "parts"))
        for layer in whole.sizes:
            one, other = whole.layer(layer), parts.layer(layer)
            assert np.array_equal(one.values, other.values)
            for column in FIELDS:
                assert np.array_equal(getattr(one.steps, column), getattr(other.steps, column))


def audited(watched: Path, output: Path, *overrides: str) -> tuple[str, ...]:
    """The words of a command that audits the run, of which few episodes are tested."""
    few = ("episodes=4", "monitor.interval=2", "monitor.reference=4", "monitor.window=1")
    return (
        "monitor",
        f"run={watched}",
        f"output={output}",
        *few,
        "monitor.rate_tests=5",
        *overrides,
    )


@pytest.mark.parametrize("of", ["fresh", "recording"])
def test_layers_are_audited_where_recordings_hold_no_images(
    watched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    of: str,
) -> None:
    data = () if of == "fresh" else (f"data={watched / 'monitor' / 'recording'}",)
    outcome = call(monkeypatch, capfd, *audited(watched, tmp_path, *data))
    assert outcome.status == 0, outcome.err
    lines = [line for line in outcome.out.splitlines() if ONE_LINE in line]
    assert len(lines) == 1
    found = json.loads((tmp_path / "violations.json").read_text())
    assert {layer["layer"] for layer in found["layers"]} == set(RECORDED)
    assert (tmp_path / "report.html").read_text().count("mlp.activation_0") > 0


def test_a_policy_that_has_changed_is_noticed_by_its_layers_alone(
    watched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "reference"
    shutil.copytree(watched / "monitor" / "reference", folder)
    for path in chunk_paths(folder):
        with h5py.File(path, "r+") as file:
            file["layers/mlp.activation_1"][()] += 100
    words = audited(watched, tmp_path, f"reference={folder}", "monitor.reference=4")
    outcome = call(monkeypatch, capfd, *words, "monitor.level=0.9", "monitor.horizon=4")
    assert outcome.status == 1, outcome.err
    found = json.loads((tmp_path / "violations.json").read_text())
    by_layer = {layer["layer"]: layer["detection_rate"] for layer in found["layers"]}
    assert by_layer["mlp.activation_1"] == 1.0


def test_layers_that_were_not_recorded_are_refused_by_name(
    watched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcome = call(monkeypatch, capfd, *audited(watched, tmp_path, "monitor.layers=mlp.output"))
    assert outcome.status == 2
    (line,) = outcome.err.strip().splitlines()
    assert "has no layer 'mlp.output'; it has inputs, mlp.activation_0" in line


def choosing(folder: Path) -> tuple[TrainingMonitor, Collector, CategoricalPolicy, Streams]:
    """A monitor of a policy of choices that is asked in every step."""
    env, streams = EnvSettings(CHOOSING, {"lengths": (4, 9)}), Streams([0])
    spec = describe_env(env)
    policy = CategoricalPolicy(1, spec.observation.size, CHOICES, (8,))
    policy.mlp.initialise(INITIALISATIONS["pytorch"], streams, "policy")
    collector = Collector(
        Environments(env, 2), spec, 2, streams.child("collector"), torch.device("cpu")
    )
    watch = WatchSettings(
        level=0.5, horizon=20, window=3, stride=3, reference=6, detector=FEW, shared_by=2
    )
    monitor = TrainingMonitor(
        TrainingMonitorSettings(".*", 1, 1.0, 4096, 4, 5, watch, RateSettings(2, 20)),
        policy,
        *([0], (2, 1), streams.child("monitor"), folder),
        spec,
    )
    collector.observer = monitor.online
    return monitor, collector, policy, streams


def p_values(folder: Path, resumed: bool) -> list[tuple[int, str, float | None]]:
    """What 120 steps log of the watches, at every 20th of them; gone on from a state or not."""
    monitor, collector, policy, _ = choosing(folder)
    loggers = Loggers(JsonLinesLogger(folder / "metrics.jsonl", [0]))
    guide, curricula = FakeGuide(chooses=True), [FixedSteps(2)]
    for step in range(1, 121):
        collector.step(policy, guide, curricula)
        if resumed and step == 70:
            state = monitor.state_dict()
            again, _, _, _ = choosing(folder)
            again.load_state_dict(state)
            # It watches the very policy that acts.
            again.capture.module.load_state_dict(policy.state_dict())
            policy = again.capture.module  # type: ignore[assignment]
            monitor, collector.observer = again, again.online
        if step % 20 == 0:
            monitor.check(step, loggers)
    monitor.flush()
    collector.close()
    loggers.close()
    return [(r.step, r.name, r.value) for r in read_records(folder / "metrics.jsonl")]


def test_a_policy_of_choices_is_watched_and_goes_on_exactly(tmp_path: Path) -> None:
    whole = p_values(tmp_path / "whole", resumed=False)
    tested = [value for _, name, value in whole if name.endswith("p_value/exploration/outputs")]
    assert len(tested) > 2
    assert all(value is not None and 0 < value <= 1 for value in tested)
    # A choice has no bounds that it could be at.
    assert not any("saturated_actions" in name for _, name, _ in whole)
    assert p_values(tmp_path / "parts", resumed=True) == whole
    assert list(Recording(tmp_path / "parts" / "recording").sizes) == [
        *("inputs", "mlp.hidden_0", "mlp.activation_0", "mlp.output", "outputs")
    ]
