"""Demonstrations in robomimic's layout, in files written here as its documentation describes."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_runs import composed
from specs import box_spec

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.datasets import Dataset, load_hdf5
from jsrl.run.build import build_dataset

LENGTHS = {"demo_0": 3, "demo_2": 4, "demo_10": 5}
SIZES = {"eef_pos": 3, "object": 2}
LAYOUT = (("object", 0, 2), ("eef_pos", 2, 5))
LIFT = box_spec("Lift-v0", LAYOUT, (-1.0, -1.0), (1.0, 1.0), 50)


def flat(size: int) -> EnvSpec:
    """An environment with one plain observation."""
    return box_spec("Flat-v0", size, (-1.0,) * 2, (1.0,) * 2, 50)


def demonstrations() -> dict[str, dict[str, np.ndarray]]:
    """Smooth demonstrations of which the second is solved at its end."""
    draws, found = np.random.default_rng(0), {}
    for name, length in LENGTHS.items():
        arrays: dict[str, np.ndarray] = {
            "actions": draws.uniform(-1, 1, (length, 2)),
            "rewards": np.zeros(length),
            "dones": np.zeros(length, np.int64),
            "states": draws.normal(size=(length, 7)),
        }
        for part, size in SIZES.items():
            walk = 0.1 * draws.normal(size=(length + 1, size)).cumsum(0)
            arrays[f"obs/{part}"], arrays[f"next_obs/{part}"] = walk[:-1], walk[1:]
        arrays["obs/agentview_image"] = np.zeros((length, 8, 8, 3), np.uint8)
        found[name] = arrays
    found["demo_2"]["rewards"][-1] = 1
    found["demo_2"]["dones"][-1] = 1
    return found


def write(path: Path, demos: dict[str, dict[str, np.ndarray]], **masks: list[str]) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_type": 1, "env_kwargs": {}})
        data.attrs["total"] = sum(len(next(iter(arrays.values()))) for arrays in demos.values())
        for name, arrays in demos.items():
            for key, array in arrays.items():
                data[f"{name}/{key}"] = array
            data[name].attrs["num_samples"] = LENGTHS[name]
        for name, names in masks.items():
            file[f"mask/{name}"] = np.array(names, dtype="S8")
    return path


def without(*keys: str) -> dict[str, dict[str, np.ndarray]]:
    """The demonstrations without arrays whose names begin so."""
    return {
        name: {key: array for key, array in arrays.items() if not key.startswith(keys)}
        for name, arrays in demonstrations().items()
    }


def column(part: str, demos: Any = ("demo_0", "demo_2", "demo_10")) -> np.ndarray:
    return np.concatenate([demonstrations()[name][part] for name in demos])


def test_observations_follow_the_environments_dictionary(tmp_path: Path) -> None:
    dataset = load_hdf5(write(tmp_path / "lift.hdf5", demonstrations()), spec=LIFT)
    expected = np.concatenate([column("obs/object"), column("obs/eef_pos")], 1)
    following = np.concatenate([column("next_obs/object"), column("next_obs/eef_pos")], 1)
    np.testing.assert_allclose(dataset.data.observations, expected, rtol=1e-6)
    np.testing.assert_allclose(dataset.data.next_observations, following, rtol=1e-6)
    np.testing.assert_allclose(dataset.data.actions, column("actions"), rtol=1e-6)
    np.testing.assert_array_equal(dataset.data.rewards, column("rewards"))
    # Demonstration 2 comes before demonstration 10, and alone ends in a terminal state.
    assert dataset.episode_lengths.tolist() == [3, 4, 5]
    assert np.flatnonzero(dataset.data.terminals).tolist() == [6]
    assert np.flatnonzero(dataset.data.timeouts).tolist() == [2, 11]
    first, dones = dataset.lines
    assert "recorded in Lift: 3 of 3 demonstrations; observations are object, eef_pos" in first
    assert "agentview_image left out (of them images: agentview_image)" in first
    assert "dones is read as a terminal state, in 1 rows" in dones
    assert dataset.doubts == ()


def test_a_run_reads_such_a_file_under_either_kind_and_only_what_the_mask_names(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path / "lift.hdf5", demonstrations(), train=["demo_10", "demo_0"], valid=["demo_2"]
    )

    def read(*keys: str) -> Dataset:
        config, _ = composed("experiment=pointmaze_jsrl", f"dataset.path={path}", *keys)
        found = build_dataset(config.dataset, config.env, LIFT, Path("none"))
        assert found is not None
        return found

    whole, train = read("dataset=d4rl"), read("dataset=robomimic", "dataset.mask=train")
    assert len(whole) == 12
    assert "dataset.mask chooses some: train, valid" in whole.lines[0]
    np.testing.assert_allclose(
        train.data.actions, column("actions", ("demo_0", "demo_10")), rtol=1e-6
    )
    assert "(train): 8 transitions in 2 episodes" in train.summary()
    with pytest.raises(UserError, match=r"dataset.mask=test is no filter key.*train, valid"):
        read("dataset=robomimic", "dataset.mask=test")
    chosen = read("dataset=robomimic", "dataset.observation=[eef_pos,object]")
    expected = np.concatenate([column("obs/eef_pos"), column("obs/object")], 1)
    np.testing.assert_allclose(chosen.data.observations, expected, rtol=1e-6)


def test_without_a_dictionary_all_vectors_are_taken_in_the_order_of_their_names(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "lift.hdf5", demonstrations())
    expected = np.concatenate([column("obs/eef_pos"), column("obs/object")], 1)
    for dataset in (load_hdf5(path), load_hdf5(path, spec=flat(5))):
        np.testing.assert_allclose(dataset.data.observations, expected, rtol=1e-6)


def test_states_are_taken_as_given_where_asked_or_where_only_they_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "lift.hdf5", demonstrations())
    raw = write(tmp_path / "raw.hdf5", without("obs", "next_obs"))
    for dataset in (
        load_hdf5(path, observation=("states",)),
        load_hdf5(path, spec=flat(7)),
        load_hdf5(raw),
    ):
        # Their successors are the following rows; the last of a timeout has none.
        kept = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]
        states = column("states")
        np.testing.assert_allclose(dataset.data.observations, states[kept], rtol=1e-6)
        np.testing.assert_allclose(dataset.data.next_observations[:2], states[1:3], rtol=1e-6)
        assert dataset.episode_lengths.tolist() == [2, 4, 4]
        assert "observations are states" in dataset.lines[0]
        assert "2 rows without a known successor left out" in dataset.lines[-1]


def test_missing_rewards_and_dones_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "lift.hdf5", without("rewards", "dones", "next_obs"))
    dataset = load_hdf5(path, spec=LIFT)
    assert not dataset.data.rewards.any() and not dataset.data.terminals.any()
    assert dataset.episode_lengths.tolist() == [2, 3, 4]
    said = " ".join(dataset.lines)
    assert "no rewards: they are 0 everywhere" in said
    assert "no dones: every demonstration ends by timeout" in said


def test_dones_that_may_mark_the_end_of_the_recording_are_told(tmp_path: Path) -> None:
    demos = demonstrations()
    for arrays in demos.values():
        arrays["dones"][-1] = 1
    demos["demo_2"]["dones"][1] = 1
    dataset = load_hdf5(write(tmp_path / "lift.hdf5", demos), spec=LIFT)
    (line,) = (line for line in dataset.lines if "dones is read" in line)
    assert "in 4 rows, 1 of them before a demonstration's end" in line
    assert "ends all demonstrations, 2 of them without a reward" in line
    assert dataset.episode_lengths.tolist() == [3, 2, 2, 5]


def test_actions_are_those_of_the_environment(tmp_path: Path) -> None:
    wide = box_spec("Lift-v0", LAYOUT, (-2.0, -4.0), (2.0, 4.0), 50)
    dataset = load_hdf5(write(tmp_path / "lift.hdf5", demonstrations()), spec=wide)
    np.testing.assert_allclose(dataset.data.actions, column("actions") / [2, 4], rtol=1e-5)
    assert any("the bounds of Lift-v0" in line for line in dataset.lines)


def test_files_that_cannot_be_right_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(change: Any, message: str, **options: Any) -> None:
        demos = demonstrations()
        change(demos)
        path = write(tmp_path / "bad.hdf5", demos, empty=[], odd=["demo_7"])
        with pytest.raises(UserError, match=message) as caught:
            load_hdf5(path, **options)
        assert "\n" not in str(caught.value)
        assert ";" in str(caught.value)

    def nothing(demos: Any) -> None:
        pass

    def short(demos: Any) -> None:
        demos["demo_2"]["rewards"] = np.zeros(3)

    refused(short, "demo_2 has 4 actions, but rewards says 3")
    refused(lambda demos: demos["demo_10"].pop("dones"), "demo_10 has no dones, while others")
    refused(lambda demos: demos["demo_2"].pop("obs/object"), "demo_2 has no obs/object")
    refused(lambda demos: demos["demo_2"].pop("actions"), "demo_2 has no actions")
    refused(nothing, r"size 5 in all.*Flat-v0 have size 9.*eef_pos \(3\)", spec=flat(9))
    refused(nothing, "names gripper, which is not there", observation=("gripper",))
    refused(nothing, "agentview_image, which is an image", observation=("agentview_image",))
    refused(nothing, "names demo_7, which is not in the file", mask="odd")
    refused(nothing, "names no demonstration", mask="empty")
    other = box_spec("Lift-v0", (("object", 0, 3), ("eef_pos", 3, 5)), (-1.0,), (1.0,), 50)
    refused(nothing, "observation 'object' has size 2, but that of Lift-v0 has size 3", spec=other)

    def only_images(demos: Any) -> None:
        for arrays in demos.values():
            for key in ("obs/object", "obs/eef_pos", "states"):
                arrays.pop(key)

    refused(only_images, "does not learn from images")
