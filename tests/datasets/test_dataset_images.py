"""Data with images: stored once, compressed, read back, and refused where they do not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.specs import EnvSpec, ImagePart, ObservationSpec
from jsrl.core.transitions import Frames, TransitionData
from jsrl.datasets import load_hdf5, save_hdf5
from jsrl.datasets.dataset import fingerprint

SHAPE = (2, 5, 6)
EPISODES = (3, 4)


def spec(size: int = 2, shape: tuple[int, int, int] = SHAPE) -> EnvSpec:
    parts = vector(size).vector if size else ()
    seen = ObservationSpec(parts, (ImagePart(("view",), shape, (0, 1, 2), shape),))
    return EnvSpec("Seen-v0", seen, box((-1.0,), (1.0,)), 50)


def data(size: int = 2) -> TransitionData:
    """Two episodes of 3 and 4 steps, and 9 images."""
    draws = np.random.default_rng(0)
    count = sum(EPISODES)
    images = draws.integers(0, 256, (count + 2, *SHAPE), dtype=np.uint8)
    at = np.array([0, 1, 2, 4, 5, 6, 7])
    walk = np.cumsum(draws.normal(size=(count + 2, size)), 0).astype(np.float32)
    ends = np.isin(np.arange(count), np.cumsum(EPISODES) - 1)
    return TransitionData(
        observations=walk[at],
        actions=draws.uniform(-1, 1, (count, 1)).astype(np.float32),
        rewards=np.zeros(count, np.float32),
        next_observations=walk[at + 1],
        terminals=np.zeros(count, bool),
        timeouts=ends,
        frames=Frames({"view": images}, at, at + 1),
    )


@pytest.mark.parametrize("size", [0, 2])
def test_what_is_written_is_read_back_and_each_image_stands_once(tmp_path: Path, size: int) -> None:
    path, written = tmp_path / "seen.hdf5", data(size)
    save_hdf5(path, written, {}, {})
    dataset = load_hdf5(path, spec=spec(size))
    dataset.validate(spec(size))
    read = dataset.data
    assert read.frames is not None and written.frames is not None
    assert dataset.fingerprint == fingerprint(written)
    with h5py.File(path) as file:
        assert file["images/view"].shape == (9, *SHAPE)
        assert file["images/view"].compression == "lzf"
    for name in ("at", "after"):
        own, found = getattr(written.frames, name), getattr(read.frames, name)
        np.testing.assert_array_equal(
            written.frames.images["view"][own], read.frames.images["view"][found]
        )
    seen = read.observed(np.array([3, 6]))
    np.testing.assert_array_equal(
        seen.images["view"].numpy(), written.frames.images["view"][[4, 7]]
    )
    assert seen.vector.shape == (2, size)


def test_a_subset_of_episodes_keeps_the_images_of_its_transitions(tmp_path: Path) -> None:
    path, written = tmp_path / "seen.hdf5", data()
    save_hdf5(path, written, {}, {})
    part = load_hdf5(path, spec=spec()).take_episodes(4, seed=1).data
    for row in range(4):
        source = int(np.flatnonzero((written.observations == part.observations[row]).all(1))[0])
        for name in ("at", "after"):
            own, whole = getattr(part.frames, name)[row], getattr(written.frames, name)[source]
            np.testing.assert_array_equal(
                part.frames.images["view"][own], written.frames.images["view"][whole]
            )


def test_the_fingerprint_follows_every_pixel() -> None:
    one, other = data(), data()
    assert other.frames is not None
    other.frames.images["view"][8, 0, 0, 0] ^= 1
    assert fingerprint(one) == fingerprint(data()) != fingerprint(other)
    assert fingerprint(replace(one, frames=None)) != fingerprint(one)


def without_places(file: Any) -> None:
    del file["image_at"]


def beyond(file: Any) -> None:
    file["image_after"][2] = 9


def real(file: Any) -> None:
    images = file["images/view"][()] / 255.0
    del file["images/view"]
    file["images/view"] = images


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_places, "image_at is missing or does not lead to the 9 images"),
        (beyond, "image_after is missing or does not lead to the 9 images"),
        (real, "images/view is float64 [9, 2, 5, 6]; expected uint8"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "seen.hdf5"
    save_hdf5(path, data(), {}, {})
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UserError) as caught:
        load_hdf5(path, spec=spec())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_of_another_environment_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "seen.hdf5"
    save_hdf5(path, data(), {}, {})
    dataset = load_hdf5(path)
    with pytest.raises(UserError, match=r"the images are .*, but environment 'Seen-v0' has"):
        dataset.validate(spec(shape=(2, 5, 7)))
    plain = replace(dataset, data=replace(dataset.data, frames=None))
    with pytest.raises(UserError, match="the images are none, but environment 'Seen-v0'"):
        plain.validate(spec())
