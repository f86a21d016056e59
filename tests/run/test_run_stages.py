"""The clock, by which a run's stages are told, and how a checkpoint of each stage goes on."""

import shutil
from dataclasses import asdict

import pytest
from small_runs import REACH, assert_same_run, train_here, write_reach_data

from jsrl.core.checkpoint import checkpoint_paths, load_checkpoint
from jsrl.run.state import STAGES, Clock

SHORT = (
    *REACH,
    *("dataset=d4rl", "guide=offline", "curriculum=jsrl", "online.critic_warmup_steps=40"),
    *("online.updates_per_step=0.3", "online.steps=120", "checkpoint.interval=20"),
    "checkpoint.keep=100",
)


def test_a_stage_is_past_where_a_later_one_is_under_way():
    for number, name in enumerate(STAGES):
        clock = Clock(name, 7, 8, 9)
        assert [clock.is_past(stage) for stage in STAGES] == [i < number for i in range(4)]


@pytest.mark.parametrize(
    ("stage", "position"),
    [
        ("offline", (7, "offline")),
        ("measure", (7, "offline")),
        ("warmup", (8, "critic_warmup")),
        ("online", (9, "online")),
    ],
)
def test_the_position_is_that_of_the_stage_under_way(stage, position):
    assert Clock(stage, 7, 8, 9).position() == position


def test_a_checkpoint_holds_the_clock_as_it_always_has():
    assert asdict(Clock()) == {
        "stage": "offline",
        "offline_updates": 0,
        "warmup_steps": 0,
        "steps": 0,
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run through all stages, and where its data are; all of its checkpoints are kept."""
    folder = tmp_path_factory.mktemp("stages")
    data = f"dataset.path={write_reach_data(folder / 'data.hdf5')}"
    train_here(folder / "run", *SHORT, data)
    return folder / "run", data


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_bitwise_from_a_checkpoint_of_any_stage(whole, tmp_path, stage):
    run, data = whole
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "summary.json").unlink()
    paths = checkpoint_paths(copy / "checkpoints")
    last = next(path for path in paths if load_checkpoint(path)["clock"]["stage"] == stage)
    for path in paths:
        if path > last:
            path.unlink()
    train_here(copy, *SHORT, data)
    assert_same_run(run, copy)
