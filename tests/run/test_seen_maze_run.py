"""A task that is seen from above, from data to export: images through every command."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from small_runs import assert_same_run, call, train_here

import jsrl
from jsrl.core.checkpoint import checkpoint_paths, load_checkpoint
from jsrl.datasets import load_hdf5
from jsrl.envs.make import EnvSettings, describe_env

SMALL = (
    *("learner.hidden=[8,8]", "learner.batch_size=4"),
    *("learner/encoder=drq", "learner.encoder.channels=3", "learner.encoder.features=6"),
    *("env.kwargs.image_size=24", "env.max_episode_steps=23", "monitor=on"),
    *("monitor.reference=2", "monitor.window=2", "monitor.stride=1"),
)
CLONE = ("experiment=seen_maze_bc", *SMALL, "dataset.collected=60", "offline.updates=6")
JUMP = (
    *("experiment=seen_maze_jsrl", *SMALL, "online.steps=90", "online.learning_starts=20"),
    *("online.updates_per_step=0.1", "curriculum.interval=40", "evaluation.interval=40"),
    *("checkpoint.interval=30", "checkpoint.keep=10", "offline.updates=0"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone from images, and a jump-start from them."""
    folder = tmp_path_factory.mktemp("seen")
    train_here(folder / "clone", *CLONE, "online.steps=0")
    train_here(folder / "jump", *JUMP)
    return folder


def observation(count: int | None = None) -> dict[str, np.ndarray]:
    """What the environment gives, once or so often."""
    draws = np.random.default_rng(0)
    leading = () if count is None else (count,)
    return {
        "image": draws.integers(0, 256, (*leading, 24, 24, 3), dtype=np.uint8),
        "velocity": draws.normal(size=(*leading, 2)),
    }


def test_data_hold_each_image_once_and_the_true_successors(runs: Path) -> None:
    settings = EnvSettings("jsrl/pointmaze-umaze-seen-v0", {"image_size": 24}, 23)
    dataset = load_hdf5(runs / "clone" / "dataset.hdf5", spec=describe_env(settings))
    data = dataset.data
    assert data.frames is not None
    images = data.frames.images["image"]
    ends = data.terminals | data.timeouts
    assert images.shape == (60 + ends.sum(), 3, 24, 24)
    # The successor is the next observation within an episode, and a further image at its end.
    assert (data.frames.after[:-1] == data.frames.at[1:])[~ends[:-1]].all()
    assert (data.frames.after[:-1] != data.frames.at[1:])[ends[:-1]].all()
    assert "images image" in dataset.summary()


def test_a_run_is_resumed_in_the_middle_of_an_episode_bit_by_bit(
    runs: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs / "jump", copy)
    (copy / "summary.json").unlink()
    paths = checkpoint_paths(copy / "checkpoints")
    steps = {path: load_checkpoint(path)["clock"]["steps"] for path in paths}
    assert 30 in steps.values()
    for path in paths:
        if steps[path] > 30:
            path.unlink()
    # 30 is no multiple of an episode's 23 steps.
    train_here(copy, *JUMP)
    assert_same_run(runs / "jump", copy)


def test_policies_are_loaded_exported_and_agree(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("clone", "jump"):
        policy = jsrl.load_policy(runs / name, seed=0)
        actions, _ = policy.predict(observation(5))
        alone, _ = policy.predict(observation())
        assert actions.shape == (5, 2) and alone.shape == (2,)
        assert call(monkeypatch, capfd, "export", f"run={runs / name}").status == 0
        folder = runs / name / "export"
        given = observation(5)
        vector = given["velocity"].astype(np.float32)
        session: Any = onnxruntime.InferenceSession(
            str(folder / "exploration_seed0.onnx"), providers=["CPUExecutionProvider"]
        )
        assert [node.type for node in session.get_inputs()] == ["tensor(float)", "tensor(uint8)"]
        (exported,) = session.run(None, {"vector": vector, "image": given["image"]})
        np.testing.assert_allclose(exported, actions, atol=1e-5)
        load: Any = torch.jit.load
        module = load(str(folder / "exploration_seed0.torchscript.pt"))
        scripted = module(torch.from_numpy(vector), torch.from_numpy(given["image"]))
        np.testing.assert_allclose(scripted.numpy(), actions, atol=1e-5)


def test_it_is_evaluated_reported_and_used_as_a_guide(
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, capfd, "evaluate", f"run={runs / 'jump'}", "episodes=2").status == 0
    report = ("report", f"output={tmp_path / 'report'}", str(runs / "jump"))
    assert call(monkeypatch, capfd, *report).status == 0
    summary = train_here(
        tmp_path / "guided", *JUMP, "guide=run", f"guide.path={runs / 'clone'}",
        "online.steps=30", "guide.which=exploration",
    )  # fmt: skip
    assert summary["failed_seeds"] == []


def test_the_monitor_watches_its_layers_in_training_and_afterwards(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert list((runs / "jump" / "monitor" / "recording").glob("*"))
    outcome = call(
        monkeypatch, capfd, "monitor", f"run={runs / 'jump'}", f"output={tmp_path}",
        "episodes=3", "monitor.reference=6", "monitor.window=1", "monitor.rate_tests=5",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "the policy sees images (image), which are not compared" in outcome.out
    found = json.loads((tmp_path / "violations.json").read_text())
    assert {layer["layer"] for layer in found["layers"]} == {
        *("inputs", "mlp.activation_0", "mlp.activation_1", "outputs")
    }


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("learner/encoder=none",), "learner.encoder is not set; choose learner.encoder=drq"),
        (("replay.relabel=her",), "needs an environment with compute_reward"),
        (("replay.directory=/proc/none",), "replay.directory='/proc/none' cannot hold"),
        (("learner=dqn", "learner/encoder=drq"), "which learner=dqn cannot learn"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(
    tmp_path: Path, overrides: tuple[str, ...], words: str
) -> None:
    kept = [word for word in JUMP if not word.startswith("learner")]
    with pytest.raises(jsrl.core.errors.UserError) as caught:
        train_here(tmp_path / "run", *kept, *overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
