"""Data that a run collects with a user's own callable: whose actions they hold, what is refused."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from small_runs import REACH, call, toward_goal, train_here

from jsrl.core.errors import UserError
from jsrl.datasets import DatasetInputs, datasets, load_hdf5
from jsrl.datasets.python import PythonDataOptions
from jsrl.envs.make import EnvSettings, describe_env

REACH_SETTINGS = EnvSettings("jsrl-tests/Reach-v0")

SOURCE = """
import numpy as np

class Pushes:
    def __init__(self, force, noise=0.0):
        self.force, self.noise = force, noise

    def act(self, observations, generator=None):
        actions = np.full((len(observations), 2), self.force)
        return actions if generator is None else generator.normal(actions, self.noise).clip(-1, 1)
"""


def collect(folder, **options):
    chosen = PythonDataOptions(kind="python", **{"collected": 90, **options})
    inputs = DatasetInputs(describe_env(REACH_SETTINGS), REACH_SETTINGS, folder / "dataset.hdf5")
    return datasets.build(chosen, inputs)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "pushes.py").write_text(SOURCE)
    return f"{tmp_path / 'pushes.py'}:Pushes"


def test_the_actions_are_those_of_the_callable(tmp_path):
    data = collect(tmp_path, target="small_runs:toward_goal").data
    assert len(data) == 90
    expected = toward_goal(data.observations)
    np.testing.assert_allclose(data.actions, expected, rtol=0, atol=1e-6)
    # Every episode of this one but the last, which is cut, reaches the goal.
    assert data.terminals.sum() >= 3
    assert data.timeouts.sum() <= 1


def test_arguments_reach_a_class_and_noise_follows_from_the_seed(tmp_path, source):
    def actions(name, **options):
        folder = tmp_path / name
        folder.mkdir()
        return collect(folder, target=source, **options).data.actions

    still = actions("still", arguments={"force": 0.25})
    np.testing.assert_array_equal(still, np.full((90, 2), 0.25, np.float32))
    noisy = {"force": 0.25, "noise": 0.1}
    first, again = actions("first", arguments=noisy), actions("again", arguments=noisy)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - 0.25).mean() == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.25)
    assert (actions("other", arguments=noisy, seed=1) != first).any()


def test_data_that_are_there_are_read_and_not_collected_again(tmp_path, source):
    first = collect(tmp_path, target=source, arguments={"force": 0.25})
    again = collect(tmp_path, target=source, arguments={"force": 0.75})
    assert again.fingerprint == first.fingerprint


def test_the_file_says_what_acted(tmp_path, source):
    collect(tmp_path, target=source, arguments={"force": 0.25})
    with h5py.File(tmp_path / "dataset.hdf5") as file:
        assert file.attrs["behaviour"] == source
        assert len(file.attrs["behaviour_sha256"]) == 64
        assert file.attrs["env_id"] == "jsrl-tests/Reach-v0"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "small_runs:nobody"}, "dataset.target='small_runs:nobody'"),
        ({"target": "small_runs:TINY"}, "dataset.target='small_runs:TINY' is a tuple"),
        ({"target": "SOURCE", "arguments": {"weight": 1}}, "dataset.arguments.*weight"),
        ({"target": "small_runs:toward_goal", "arguments": {"gain": 1}}, "dataset.arguments"),
    ],
)
def test_what_cannot_act_is_refused_by_the_names_of_its_keys(tmp_path, source, options, words):
    if options["target"] == "SOURCE":
        options = {**options, "target": source}
    with pytest.raises(UserError, match=words) as caught:
        collect(tmp_path, **options)
    assert "\n" not in str(caught.value) and "guide." not in str(caught.value)
    assert not (tmp_path / "dataset.hdf5").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "dataset.target is not set; dataset=python needs module:attribute"),
        ({"target": "a:b", "collected": 0}, "dataset.collected=0"),
    ],
)
def test_what_is_missing_or_out_of_range_is_told_before_anything_begins(options, words):
    with pytest.raises(UserError, match=words):
        replace(PythonDataOptions(kind="python"), **options).check()


def test_a_run_collects_its_data_and_learns_from_them(tmp_path):
    run = tmp_path / "run"
    train_here(
        run,
        "experiment=pointmaze_offline",
        *REACH,
        "dataset=python",
        "dataset.target=small_runs:toward_goal",
        "dataset.transitions=null",
    )
    assert len(load_hdf5(run / "dataset.hdf5")) == 300


def test_an_option_of_another_kind_of_data_is_refused(tmp_path, monkeypatch, capfd):
    outcome = call(
        monkeypatch,
        capfd,
        "train",
        "experiment=pointmaze_offline",
        "dataset=python",
        "dataset.target=small_runs:toward_goal",
        "dataset.noise=1.0",
        f"run_dir={tmp_path / 'run'}",
    )
    assert outcome.status == 2
    assert "dataset.noise=1.0" in outcome.err and "dataset.arguments.NAME=VALUE" in outcome.err
