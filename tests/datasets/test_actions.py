"""Actions of data: whose units they are in, and that they come out in the package's [-1, 1]."""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_runs import composed
from specs import bounded, box_spec

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec
from jsrl.core.transitions import TransitionData
from jsrl.datasets import load_hdf5, save_hdf5
from jsrl.datasets.dataset import Dataset, DatasetWarning, make_dataset
from jsrl.run.build import build_dataset

SPEC = box_spec("Weak-v0", 2, (-0.4, -0.4), (0.4, 0.4), 100)
UNEVEN = bounded(SPEC, "Uneven-v0", (0.0, -3.0), (10.0, 1.0))
UNIT = bounded(SPEC, "Unit-v0", (-1.0, -1.0), (1.0, 1.0))


def arrays_of(actions: Any) -> dict[str, np.ndarray]:
    """One walk that ends by timeout, with these actions."""
    actions = np.asarray(actions, np.float32)
    count = len(actions)
    return {
        "observations": np.random.default_rng(0).normal(size=(count, 2)).cumsum(0),
        "next_observations": np.random.default_rng(0).normal(size=(count + 1, 2)).cumsum(0)[1:],
        "actions": actions,
        "rewards": np.zeros(count),
        "terminals": np.zeros(count, bool),
        "timeouts": np.arange(count) == count - 1,
    }


def write(path: Path, actions: Any, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays_of(actions).items():
            file[name] = array
        file.attrs.update(attributes)
    return path


def followed(advice: str, path: Path, spec: EnvSpec) -> Dataset:
    """Read the file as a run would with the first keys of ``dataset`` that a message names."""
    keys = re.findall(r"dataset\.action_(?:low|high)=[-\d.e,\[\]']+(?<![;,])", advice)[:2]
    return configured(path, spec, *keys)


def configured(path: Path, spec: EnvSpec, *keys: str) -> Dataset:
    """What a run reads with these keys on the command line."""
    config, _ = composed(
        "experiment=pointmaze_jsrl",
        "dataset=d4rl",
        f"dataset.path={path}",
        *(key.replace("'", "") for key in keys),
    )
    found = build_dataset(config.dataset, config.env, spec, Path("none"))
    assert found is not None
    return found


def test_what_step_took_is_divided_by_the_environments_bounds(tmp_path: Path) -> None:
    taken = [[0.4, -0.4], [0.2, 0.0], [-0.1, 0.4]]
    dataset = load_hdf5(write(tmp_path / "x.hdf5", taken), spec=SPEC)
    np.testing.assert_allclose(dataset.data.actions, np.array(taken) / 0.4, atol=1e-6)
    assert dataset.data.actions[0].tolist() == [1, -1]
    (line,) = dataset.lines
    assert "in [-0.4, 0.4] (the bounds of Weak-v0)" in line
    assert "they span [-0.4, 0.4]" in line
    dataset = load_hdf5(write(tmp_path / "y.hdf5", [[0, -3], [10, 1], [5, 0]]), spec=UNEVEN)
    np.testing.assert_allclose(dataset.data.actions, [[-1, -1], [1, 1], [0, 0.5]], atol=1e-6)


def test_actions_in_the_unit_range_are_left_bit_by_bit() -> None:
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 2)).astype(np.float32)
    dataset = make_dataset(arrays_of(actions), "x", spec=UNIT)
    np.testing.assert_array_equal(dataset.data.actions, actions)
    assert dataset.lines == ()
    assert dataset.fingerprint == make_dataset(arrays_of(actions), "x").fingerprint


def test_data_beyond_one_load_where_the_environment_allows_them() -> None:
    dataset = make_dataset(arrays_of([[10, 0], [0, -3], [7.5, 1]]), "x", spec=UNEVEN)
    np.testing.assert_allclose(dataset.data.actions, [[1, 0.5], [-1, -1], [0.5, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("actions", "spec", "meant"),
    [
        ([[1.0, -1.0], [0.5, 0.0]], SPEC, [[1, -1], [0.5, 0]]),
        ([[30.0, -29.0], [15.0, 0.0]], UNIT, [[1, -29 / 30], [0.5, 0]]),
        ([[-1.0, 1.0], [0.0, 0.5]], UNEVEN, [[-1, 1], [0, 0.5]]),
    ],
)
def test_data_outside_the_bounds_are_refused_and_the_advice_works(
    tmp_path: Path, actions: Any, spec: EnvSpec, meant: Any
) -> None:
    path = write(tmp_path / "x.hdf5", actions)
    with pytest.raises(UserError, match=r"outside .*bounds of.*span") as caught:
        configured(path, spec)
    assert "\n" not in str(caught.value)
    dataset = followed(str(caught.value), path, spec)
    np.testing.assert_allclose(dataset.data.actions, meant, atol=1e-6)
    assert "dataset.action_low and action_high" in " ".join(dataset.lines) or spec is UNIT
    assert "dataset.clip_actions=true" in str(caught.value)
    clipped = configured(path, spec, "dataset.clip_actions=true")
    low, high = np.array(spec.box.low), np.array(spec.box.high)
    expected = 2 * (np.clip(actions, low, high) - low) / (high - low) - 1
    np.testing.assert_allclose(clipped.data.actions, expected, atol=1e-6)
    assert "are clipped" in clipped.lines[-1]


def test_no_range_is_made_up_for_actions_of_one_sign(tmp_path: Path) -> None:
    path = write(tmp_path / "x.hdf5", [[5.0, 57.0], [28.5, 7.0]])
    with pytest.raises(UserError, match=r"columns with such actions: \[0, 1\]") as caught:
        configured(path, UNIT)
    assert "dataset.action_low=LOW dataset.action_high=HIGH" in str(caught.value)
    given = configured(path, UNIT, "dataset.action_low=[5,-57]", "dataset.action_high=[28.5,57]")
    np.testing.assert_allclose(given.data.actions, [[-1, 1], [1, 7 / 57]], atol=1e-6)


def test_without_an_environment_the_advice_is_pythons() -> None:
    arrays = arrays_of([[3.0, -2.0], [0.0, 0.0]])
    with pytest.raises(UserError, match="clip_actions=True") as caught:
        make_dataset(arrays, "x")
    assert "action_low=-3, action_high=3" in str(caught.value)
    dataset = make_dataset(arrays, "x", action_low=-3, action_high=3)
    np.testing.assert_allclose(dataset.data.actions[0], [1, -2 / 3], atol=1e-6)


def test_a_list_of_bounds_and_text_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "x.hdf5", [[5.0, -3.0], [0.0, 1.0]])
    keys = ("dataset.action_low=[0,-3]", "dataset.action_high=[10,1]")
    np.testing.assert_allclose(
        configured(path, UNIT, *keys).data.actions, [[0, -1], [-1, 1]], atol=1e-6
    )
    with pytest.raises(UserError, match="action_low='x' is no number"):
        configured(path, UNIT, "dataset.action_low=x", "dataset.action_high=1")
    with pytest.raises(UserError, match="action_low is given without action_high"):
        configured(path, UNIT, "dataset.action_low=-1")


def test_own_files_say_that_their_actions_are_normalised(tmp_path: Path) -> None:
    arrays = arrays_of([[1.0, -0.5], [0.25, 0.0]])
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    floats |= {name: arrays[name] for name in ("terminals", "timeouts")}
    data = TransitionData(**floats)
    save_hdf5(tmp_path / "own.hdf5", data, {}, {})
    dataset = load_hdf5(tmp_path / "own.hdf5", spec=SPEC)
    np.testing.assert_array_equal(dataset.data.actions, data.actions)
    assert "in [-1, 1] (as the file says), read as [-0.4, 0.4]" in dataset.lines[0]
    dataset.validate(SPEC)
    dataset.validate(UNEVEN)
    save_hdf5(tmp_path / "raw.hdf5", data, {}, {}, action_units="environment")
    with pytest.raises(UserError, match=r"outside \[-0.4, 0.4\]"):
        load_hdf5(tmp_path / "raw.hdf5", spec=SPEC)
    beyond = replace(data, actions=data.actions * 2)
    with pytest.raises(UserError, match=r"actions reach 2, .*action_units='environment'"):
        save_hdf5(tmp_path / "beyond.hdf5", beyond, {}, {})
    save_hdf5(tmp_path / "beyond.hdf5", beyond, {}, {}, action_units="environment")
    with pytest.raises(UserError, match="action_units='radians' is unknown"):
        save_hdf5(tmp_path / "x.hdf5", data, {}, {}, action_units="radians")


@pytest.mark.parametrize(
    "attributes",
    [
        {"noise": 0.5, "proportional_gain": 3.0, "derivative_gain": 0.5},
        {"transitions": 2, "action_noise": 0.2, "longest_walk": 700, "behaviour": "x"},
        {"reward": "binary", "end_on_success": True, "guide": "x"},
    ],
    ids=["waypoint", "antmaze", "adroit"],
)
def test_own_files_of_an_earlier_version_are_read_as_they_were_written(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    path = write(tmp_path / "x.hdf5", [[1, -0.5], [0.25, 0]], env_id="a", seed=0, **attributes)
    dataset = load_hdf5(path, spec=SPEC)
    assert dataset.data.actions.tolist() == [[1, -0.5], [0.25, 0]]
    assert "earlier version of jsrl" in dataset.lines[0]
    assert load_hdf5(path, spec=UNIT).lines == ()


def test_an_unknown_marker_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.hdf5", [[0.1, 0.1], [0, 0]], action_units="radians")
    with pytest.raises(UserError, match="action units 'radians' are unknown"):
        load_hdf5(path, spec=SPEC)


def test_data_read_without_the_environment_are_refused_where_its_bounds_matter() -> None:
    dataset = make_dataset(arrays_of([[0.4, 0.0], [0.1, 0.2]]), "x")
    dataset.validate(UNIT)
    with pytest.raises(UserError, match=r"read for the bounds \[-1, 1\], but Weak-v0 has"):
        dataset.validate(SPEC)


def test_data_that_span_exactly_the_unit_range_of_wider_bounds_are_doubted() -> None:
    wide = bounded(SPEC, SPEC.id, (-2.0, -2.0), (2.0, 2.0))
    with pytest.warns(DatasetWarning, match=r"span exactly \[-1, 1\].*dataset.action_low=-1"):
        dataset = make_dataset(arrays_of([[1.0, -1.0], [0.5, 0.0]]), "x", spec=wide)
    np.testing.assert_allclose(dataset.data.actions[0], [0.5, -0.5])
    assert dataset.notices()[-1].startswith("warning: dataset x: its actions span")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_dataset(arrays_of([[0.9, -0.8], [0.5, 0.0]]), "x", spec=wide)
        make_dataset(arrays_of([[2.0, -0.8], [0.5, 0.0]]), "x", spec=wide)


def test_a_subset_keeps_what_was_said_of_the_whole() -> None:
    dataset = make_dataset(arrays_of([[0.4, 0.0]] * 30), "x", spec=SPEC)
    subset = dataset.take_episodes(10, 0)
    assert subset.lines == dataset.lines
    assert subset.meant_for == ((-0.4, -0.4), (0.4, 0.4))
