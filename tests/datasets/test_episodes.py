"""Flags that are missing, out of step or of another kind: episodes, and what is said of them."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import composed
from specs import box_spec

from jsrl.core.errors import UserError
from jsrl.datasets import save_hdf5
from jsrl.datasets.dataset import Dataset, DatasetWarning, make_dataset
from jsrl.run.build import build_dataset

WALKS, LENGTH = 5, 100
SPEC = box_spec("Walk-v0", 2, (-1.0,), (1.0,), LENGTH)


def walks(**changes: Any) -> dict[str, Any]:
    """Five walks of 100 steps, 50 apart from each other, without timeouts and successors."""
    draws = np.random.default_rng(0)
    observations = np.concatenate(
        [50 * k + np.cumsum(0.1 * draws.normal(size=(LENGTH, 2)), 0) for k in range(WALKS)]
    )
    count = len(observations)
    arrays: dict[str, Any] = {
        "observations": observations,
        "actions": draws.uniform(-1, 1, (count, 1)),
        "rewards": np.arange(float(count)),
        "terminals": np.zeros(count, bool),
    }
    return arrays | changes


def every(period: int, first: int) -> np.ndarray:
    flags = np.zeros(WALKS * LENGTH, bool)
    flags[first::period] = True
    return flags


def true_successors() -> np.ndarray:
    """The next row's observation; of a walk's last row one that no row has."""
    observations = walks()["observations"]
    successors = np.roll(observations, -1, axis=0)
    successors[LENGTH - 1 :: LENGTH] = observations[LENGTH - 1 :: LENGTH] + 0.05
    return successors


def read(arrays: dict[str, Any], **options: Any) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        return make_dataset(arrays, "walks.hdf5", **options)


def far(dataset: Dataset) -> int:
    """How many transitions lead from one walk into another."""
    data = dataset.data
    return int((np.abs(data.next_observations - data.observations).max(1) > 10).sum())


@pytest.mark.parametrize("flags", [None, np.zeros(WALKS * LENGTH), np.zeros((WALKS * LENGTH, 1))])
def test_without_flags_episodes_end_at_the_time_limit(flags: Any) -> None:
    arrays = walks() if flags is None else walks(timeouts=flags)
    dataset = read(arrays, spec=SPEC)
    # The last row of each has no successor, as in D4RL's own reader.
    assert dataset.episode_lengths.tolist() == [LENGTH - 1] * WALKS
    kept = np.flatnonzero(~every(LENGTH, LENGTH - 1))
    np.testing.assert_array_equal(dataset.data.rewards, kept)
    assert far(dataset) == 0 and dataset.doubts == ()
    what = "no timeouts" if flags is None else "timeouts that are never set"
    assert (
        f"has {what}: episodes are ended 4 at the environment's time limit of 100"
        in (dataset.lines[0])
    )
    assert "5 rows without a known successor left out" in dataset.lines[1]
    dataset.validate(SPEC)


def test_the_limit_counts_from_the_last_terminal() -> None:
    terminals = np.zeros(WALKS * LENGTH, bool)
    terminals[29] = True
    dataset = read(walks(terminals=terminals), spec=SPEC)
    assert dataset.episode_lengths.tolist() == [30, 99, 99, 99, 99, 69]


def test_without_flags_and_environment_the_data_are_doubted_and_then_refused() -> None:
    with pytest.warns(DatasetWarning, match=r"4 of 499 transitions jump .* first in row 99"):
        dataset = make_dataset(walks(), "walks.hdf5")
    assert dataset.episode_lengths.tolist() == [499]
    with pytest.raises(UserError, match=r"no timeouts, so that an episode of 499 steps .* spec="):
        dataset.validate(SPEC)
    dataset.validate(replace(SPEC, max_episode_steps=1000))


def test_successors_tell_where_flags_are_absent() -> None:
    dataset = read(walks(next_observations=true_successors()), spec=SPEC)
    assert dataset.episode_lengths.tolist() == [LENGTH] * WALKS
    assert far(dataset) == 0 and dataset.doubts == ()
    assert (
        "episodes are ended 4 where next_observations is not the following row, 0 at"
        in (dataset.lines[0])
    )


@pytest.mark.parametrize(
    ("flags", "jumps", "first"),
    [
        (every(150, 149), 3, 99),
        (every(LENGTH, 0), 4, 99),
        (every(LENGTH, LENGTH - 2), 4, 99),
        (every(LENGTH, LENGTH - 1) & (np.arange(500) != 299), 1, 299),
    ],
    ids=["another period", "late by one", "early by one", "one is missing"],
)
@pytest.mark.parametrize("kind", [bool, np.float32, np.uint8])
def test_flags_out_of_step_are_told_and_can_be_mended_by_a_key(
    flags: np.ndarray, jumps: int, first: int, kind: Any
) -> None:
    arrays = walks(timeouts=flags.astype(kind)[:, None])
    with pytest.warns(DatasetWarning, match="jump from one state to an unrelated one"):
        dataset = make_dataset(arrays, "walks.hdf5", spec=SPEC)
    assert far(dataset) == jumps
    (doubt,) = (line for line in dataset.doubts if "jump" in line)
    assert f"{jumps} of {len(dataset)} transitions jump" in doubt
    assert f"the first in row {first}," in doubt
    assert "dataset.split_at_jumps=true" in doubt
    mended = read(arrays, spec=SPEC, split_at_jumps=True)
    assert far(mended) == 0
    assert not any("jump" in line for line in mended.doubts)
    assert f"before {jumps} transitions that jump" in mended.lines[-1]
    # Nothing else has gone, and no episode reaches from one walk into another.
    assert len(mended) == len(dataset) - jumps
    walk = mended.data.rewards.astype(int) // LENGTH
    inside = ~(mended.data.terminals | mended.data.timeouts)[:-1]
    assert (walk[1:] == walk[:-1])[inside].all()


def test_true_flags_are_not_doubted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = make_dataset(walks(timeouts=every(LENGTH, 99)), "walks.hdf5", spec=SPEC)
        make_dataset(
            walks(timeouts=every(LENGTH, 99), next_observations=true_successors()), "x", spec=SPEC
        )
    assert far(dataset) == 0


def test_successors_that_were_rolled_over_the_ends_are_told() -> None:
    rolled = np.roll(walks()["observations"], -1, axis=0)
    arrays = walks(timeouts=every(LENGTH, 99), next_observations=rolled)
    dataset = read(arrays, spec=SPEC)
    assert "5 of 500 transitions jump" in dataset.doubts[0]
    assert "first in row 99" in dataset.doubts[0]
    assert far(read(arrays, spec=SPEC, split_at_jumps=True)) == 0


def test_successors_that_disagree_with_the_following_row_are_told() -> None:
    arrays = walks(timeouts=every(150, 149), next_observations=true_successors())
    (doubt,) = (d for d in read(arrays, spec=SPEC).doubts if "next_observations" in d)
    assert "in 3 of 496 rows inside of episodes, the first row 99" in doubt
    # What the line advises ends episodes at these rows.
    mended = {name: array for name, array in arrays.items() if name != "timeouts"}
    assert read(mended, spec=SPEC).episode_lengths.tolist() == [LENGTH] * WALKS
    own = walks(timeouts=every(LENGTH, 99), next_observations=walks()["observations"])
    (doubt,) = read(own, spec=SPEC).doubts
    assert "495 of 495 rows" in doubt and "the row's own" in doubt
    order = np.random.default_rng(1).permutation(500)
    shuffled = {
        name: array[order]
        for name, array in walks(
            timeouts=every(LENGTH, 99), next_observations=true_successors()
        ).items()
    }
    assert any("the rows are shuffled" in line for line in read(shuffled, spec=SPEC).doubts)


def test_episodes_longer_than_the_limit_are_told_and_left_whole() -> None:
    flags = every(LENGTH, 99)
    dataset = read(walks(timeouts=flags), spec=replace(SPEC, max_episode_steps=60))
    assert dataset.episode_lengths.tolist() == [99] * WALKS
    (doubt,) = dataset.doubts
    assert "5 of 5 episodes are longer than the environment's time limit of 60 steps" in doubt
    assert "the longest 99, the first from row 0 on" in doubt
    plain = read(walks(timeouts=flags))
    with pytest.warns(DatasetWarning, match="5 of 5 episodes are longer"):
        plain.validate(replace(SPEC, max_episode_steps=60))


def test_terminals_at_the_time_limit_and_masks_for_terminals_are_told() -> None:
    ends = every(LENGTH, 99)
    (doubt,) = read(walks(terminals=ends), spec=SPEC).doubts
    assert "5 of 5 terminals stand exactly at the environment's time limit of 100" in doubt
    assert "first in row 99" in doubt
    assert read(walks(terminals=ends), spec=replace(SPEC, max_episode_steps=200)).doubts == ()
    (doubt,) = read(walks(terminals=~ends), spec=SPEC).doubts
    assert "terminals is set in 495 of 500 rows, not in row 99" in doubt
    assert "1 - terminals" in doubt


def test_terminals_that_stay_set_end_an_episode_each() -> None:
    terminals = np.zeros(WALKS * LENGTH, bool)
    terminals[90:100] = True
    dataset = read(walks(terminals=terminals), spec=SPEC)
    assert dataset.episode_lengths.tolist()[:10] == [91] + [1] * 9
    assert far(dataset) == 0 and dataset.doubts == ()


def test_a_run_reads_and_says_the_same(tmp_path: Path) -> None:
    data = read(walks(timeouts=every(150, 149)), spec=SPEC).data
    save_hdf5(tmp_path / "walks.hdf5", data, {}, {})

    def configured(*keys: str) -> Dataset:
        path = f"dataset.path={tmp_path}/walks.hdf5"
        config, _ = composed("experiment=pointmaze_jsrl", "dataset=d4rl", path, *keys)
        found = build_dataset(config.dataset, config.env, SPEC, tmp_path / "none")
        assert found is not None
        return found

    dataset = configured()
    assert far(dataset) == 3
    notices = dataset.notices()
    assert [line[:8] for line in notices] == ["warning:"] * 2
    assert "3 of" in notices[0] and "longer than the environment's time limit" in notices[1]
    assert far(configured("dataset.split_at_jumps=true")) == 0
    part = configured("dataset.split_at_jumps=true", "dataset.transitions=50")
    assert part.lines == configured("dataset.split_at_jumps=true").lines
