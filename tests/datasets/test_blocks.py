"""Collection in blocks: the same data whatever the workers, kept when stopped, guarded."""

import os
import signal
from functools import partial

import numpy as np
import pytest

from jsrl.core.errors import UserError
from jsrl.core.interrupts import Interrupted
from jsrl.datasets.blocks import BlockStore, block_path, collect_blocks


def make(number):
    rows = 10 + number % 3
    return {"actions": np.random.default_rng(number).random((rows, 2))}


def prepare():
    return make


def prepare_to_die_once(path):
    """The first process that makes block 1 dies of it, the next does not."""

    def make_or_die(number):
        if number == 1 and not path.exists():
            path.touch()
            os._exit(1)
        return make(number)

    return make_or_die


def collected(folder, transitions, workers, prepared=prepare):
    store = BlockStore(folder, {"seed": 0})
    try:
        numbers = collect_blocks(store, prepared, transitions, workers, lambda done: None)
        return np.concatenate([store.load(number)["actions"] for number in numbers])[:transitions]
    finally:
        store.close()


def test_the_number_of_workers_changes_nothing(tmp_path):
    one, two = (collected(tmp_path / str(w), 75, w) for w in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert len(one) == 75


def test_finished_blocks_are_not_made_again(tmp_path):
    whole = collected(tmp_path / "a", 100, 1)
    part = collected(tmp_path / "b", 30, 1)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "b").glob("block-*")}
    assert len(times) == 3
    np.testing.assert_array_equal(collected(tmp_path / "b", 100, 1), whole)
    np.testing.assert_array_equal(part, whole[:30])
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())


def test_a_broken_block_is_made_again(tmp_path):
    whole = collected(tmp_path / "a", 50, 1)
    path = block_path(tmp_path / "a", 1)
    path.write_bytes(path.read_bytes()[:40])
    np.testing.assert_array_equal(collected(tmp_path / "a", 50, 1), whole)


def test_a_signal_keeps_what_is_finished(tmp_path):
    def stopping():
        def stop_at_three(number):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return make(number)

        return stop_at_three

    with pytest.raises(Interrupted):
        collected(tmp_path / "a", 100, 1, stopping)
    assert len(list((tmp_path / "a").glob("block-*"))) == 4
    whole = collected(tmp_path / "b", 100, 1)
    np.testing.assert_array_equal(collected(tmp_path / "a", 100, 1), whole)


def test_a_process_that_dies_is_told_and_the_rest_is_kept(tmp_path):
    dying = partial(prepare_to_die_once, tmp_path / "died")
    with pytest.raises(UserError, match=r"process that collects data died.*run the same command"):
        collected(tmp_path / "a", 60, 2, dying)
    whole = collected(tmp_path / "b", 60, 1)
    np.testing.assert_array_equal(collected(tmp_path / "a", 60, 2, dying), whole)


def test_other_settings_and_a_second_process_are_refused(tmp_path):
    first = BlockStore(tmp_path / "a", {"seed": 0})
    with pytest.raises(UserError, match=r"in use.*choose another path"):
        BlockStore(tmp_path / "a", {"seed": 0})
    first.close()
    with pytest.raises(UserError, match=r"half-collected.*seed was 0 and is now 1"):
        BlockStore(tmp_path / "a", {"seed": 1})
    BlockStore(tmp_path / "a", {"seed": 0}).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written.*choose another path"):
        BlockStore(tmp_path / "file" / "parts", {})
