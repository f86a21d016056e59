"""Recordings on disk: what was written comes back, after a crash too."""

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from monitor.episodes import steps_of

from jsrl.core.errors import UserError
from jsrl.monitor.capture.recording import Recording
from jsrl.monitor.capture.recording_files import chunk_number, chunk_paths, read_chunk
from jsrl.monitor.capture.recording_writer import RecordingWriter
from jsrl.monitor.capture.steps import FIELDS, PHASES, WatchedSteps

SIZES = {"inputs": 3, "net.0": 5}


def steps(start, count=4, **where):
    """Steps that differ from each other: they are numbered from ``start`` on."""
    numbers = np.arange(start, start + count, dtype=np.int64)
    own = {
        "step": 10 * numbers,
        "episode": numbers // 4,
        "time": numbers % 4,
        "phase": numbers % 3,
        "stage": numbers % 2 - 1,
        "actor": numbers % 2,
        "seed": numbers // 2 % 2,
    }
    own |= {name: np.full(count, value) for name, value in where.items()}
    observations = np.stack([numbers, numbers + 0.25, -numbers], 1).astype(np.float32)
    return WatchedSteps(observations, np.sin(observations[:, :2]), **own)


def activations(of):
    """What the layers say follows from the steps, so that they can be matched."""
    return {
        "inputs": of.observations,
        "net.0": np.outer(of.step, np.arange(1, 6)).astype(np.float32),
    }


def fill(writer, start, stop, count=4):
    for first in range(start, stop, count):
        of = steps(first, count)
        writer.add(of, activations(of))


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in FIELDS
    )


def contents(folder):
    """Every step and every layer of each file, by its name."""
    found = {}
    for path in chunk_paths(folder):
        steps = WatchedSteps(**{name: read_chunk(path, name) for name in FIELDS})
        found[path.name] = steps, {name: read_chunk(path, f"layers/{name}") for name in SIZES}
    return found


def assert_same_contents(one, other):
    ours, theirs = contents(one), contents(other)
    assert list(ours) == list(theirs)
    for name, (of, layers) in ours.items():
        assert same(of, theirs[name][0])
        for layer, values in layers.items():
            assert np.array_equal(values, theirs[name][1][layer])


def test_rows_and_activations_come_back_as_they_were_written(tmp_path):
    writer = RecordingWriter(tmp_path, SIZES, chunk_rows=8)
    fill(writer, 0, 28)
    writer.flush()
    recording = Recording(tmp_path)
    assert recording.sizes == SIZES
    every = steps(0, 28)
    assert same(recording.steps(), every)
    for name, values in activations(every).items():
        record = recording.layer(name)
        assert np.array_equal(record.values, values)
        assert record.values.dtype == np.float32
        assert same(record.steps, every)


def test_layers_come_back_by_phase_stage_and_seed(tmp_path):
    writer = RecordingWriter(tmp_path, SIZES, chunk_rows=8)
    fill(writer, 0, 48)
    writer.flush()
    recording = Recording(tmp_path)
    for phase, stage, seed in itertools.product((None, *PHASES), (None, -1, 0, 7), (None, 0, 1)):
        # The rule by which the steps were made, not the mask of the code under test.
        wanted = [
            n
            for n in range(48)
            if (phase is None or n % 3 == PHASES.index(phase))
            and (stage is None or n % 2 - 1 == stage)
            and (seed is None or n // 2 % 2 == seed)
        ]
        record = recording.layer("net.0", phase, stage, seed)
        assert record.steps.step.tolist() == [10 * n for n in wanted]
        assert record.values[:, 1].tolist() == [20.0 * n for n in wanted]
        assert record.steps.episode.tolist() == [n // 4 for n in wanted]
        assert record.steps.time.tolist() == [n % 4 for n in wanted]
        assert record.steps.actor.tolist() == [n % 2 for n in wanted]
        assert same(recording.steps(phase, stage, seed), record.steps)


def test_episodes_come_in_the_order_of_their_numbers():
    numbers = np.array([5, 2, 5, 2, 9, 2])
    of = replace(steps(0, 6), episode=numbers, phase=np.full(6, 3), seed=np.zeros(6, np.int64))
    found = of.episodes()
    assert [part.episode[0] for part in found] == [2, 5, 9]
    assert [part.step.tolist() for part in found] == [[10, 30, 50], [0, 20], [40]]
    assert of.take(np.zeros(6, bool)).episodes() == []


def test_episodes_of_different_seeds_and_phases_are_different_ones():
    numbers = np.zeros(6, np.int64)
    # Two seeds; guide and exploration are parts of one episode, an evaluation is another.
    phase, seed = np.array([1, 2, 1, 2, 3, 3]), np.array([0, 0, 7, 7, 7, 7])
    found = replace(steps(0, 6), episode=numbers, phase=phase, seed=seed).episodes()
    assert [part.step.tolist() for part in found] == [[0, 10], [20, 30], [40, 50]]


def test_no_more_than_a_files_rows_are_in_memory(tmp_path):
    writer = RecordingWriter(tmp_path, SIZES, chunk_rows=10)
    for step in range(30):
        of = steps(step, 1)
        writer.add(of, activations(of))
        assert len(chunk_paths(tmp_path)) == (step + 1) // 10
        waiting = len(writer.state_dict()["rows"]["step"]) if (step + 1) % 10 else 0
        assert waiting == (step + 1) % 10
    assert "rows" not in writer.state_dict()
    # Nothing waits: nothing is written.
    writer.flush()
    assert len(chunk_paths(tmp_path)) == 3


def test_only_the_newest_files_are_kept(tmp_path):
    writer = RecordingWriter(tmp_path, SIZES, chunk_rows=4, chunks=3)
    fill(writer, 0, 32)
    assert [chunk_number(path) for path in chunk_paths(tmp_path)] == [5, 6, 7]
    assert same(Recording(tmp_path).steps(), steps(20, 12))


SCRIPT = """
import os, sys
sys.path.insert(0, {tests!r})
import h5py
from pathlib import Path
from monitor.capture.test_recording import SIZES, activations, steps
from jsrl.monitor.capture.recording_writer import RecordingWriter

writer = RecordingWriter(Path({folder!r}), SIZES, chunk_rows=4)
begun = 0
write = h5py.File.create_dataset

def create(file, name, data):
    global begun
    begun += name == "step"
    written = write(file, name, data=data)
    if begun == 4 and name == "step":
        # In the middle of the fourth file.
        file.flush()
        {end}
    return written

h5py.File.create_dataset = create
for start in range(0, 40, 4):
    of = steps(start)
    writer.add(of, activations(of))
"""


@pytest.mark.parametrize(
    "end, status",
    [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -signal.SIGKILL)],
    ids=["exit", "kill"],
)
def test_a_writer_killed_in_the_middle_leaves_all_files_that_were_full(tmp_path, end, status):
    tests = str(Path(__file__).parents[2])
    script = SCRIPT.format(tests=tests, folder=str(tmp_path), end=end)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    # The half-written file is there, and is not read.
    assert len(list(tmp_path.glob(".chunk-00000003.hdf5.*.tmp"))) == 1
    assert same(Recording(tmp_path).steps(), steps(0, 12))
    assert np.array_equal(Recording(tmp_path).layer("inputs").values, steps(0, 12).observations)
    # A new writer goes on behind them.
    writer = RecordingWriter(tmp_path, SIZES, chunk_rows=4)
    fill(writer, 12, 16)
    assert same(Recording(tmp_path).steps(), steps(0, 16))


def test_what_fails_while_a_file_is_written_leaves_no_half_of_it(tmp_path):
    writer = RecordingWriter(tmp_path, SIZES, chunk_rows=4)
    fill(writer, 0, 4)
    # A folder in its place cannot be replaced by a file.
    in_the_way = tmp_path / "chunk-00000001.hdf5"
    in_the_way.mkdir()
    with pytest.raises(UserError, match=r"chunk-00000001\.hdf5 cannot be written"):
        fill(writer, 4, 8)
    in_the_way.rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "chunk-00000000.hdf5",
        "recording.json",
    ]
    assert same(Recording(tmp_path).steps(), steps(0, 4))
    # Nothing was lost: it is written as soon as that is possible.
    writer.flush()
    assert same(Recording(tmp_path).steps(), steps(0, 8))


@pytest.mark.parametrize("before", [10, 12, 0])
def test_a_loaded_writer_gives_the_files_of_one_that_went_on(tmp_path, before):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    through = RecordingWriter(whole, SIZES, chunk_rows=4, chunks=5)
    fill(through, 0, 31, count=1)
    through.flush()
    first = RecordingWriter(cut, SIZES, chunk_rows=4, chunks=5)
    fill(first, 0, before, count=1)
    state = first.state_dict()
    # What comes after the checkpoint is another past: its files are removed.
    fill(first, 100, 109, count=1)
    first.flush()
    again = RecordingWriter(cut, SIZES, chunk_rows=4, chunks=5)
    again.load_state_dict(state)
    assert all(chunk_number(path) < before // 4 for path in chunk_paths(cut))
    fill(again, before, 31, count=1)
    again.flush()
    assert_same_contents(cut, whole)
    assert same(Recording(cut).steps(), steps(12, 19))


def test_a_state_does_not_follow_the_writer_it_was_taken_from(tmp_path):
    writer = RecordingWriter(tmp_path / "a", SIZES, chunk_rows=100)
    of = steps(0, 4)
    given = activations(of)
    writer.add(of, given)
    state = writer.state_dict()
    of.step[:] = -1
    given["net.0"][:] = -1
    assert state["rows"]["step"].tolist() == [0, 10, 20, 30]
    assert (state["activations"]["net.0"] >= 0).all()
    assert all(isinstance(value, torch.Tensor) for value in state["rows"].values())


def test_a_second_writer_goes_on_behind_the_first(tmp_path):
    for start in (0, 4):
        writer = RecordingWriter(tmp_path, SIZES, chunk_rows=100)
        fill(writer, start, start + 4)
        writer.flush()
    assert same(Recording(tmp_path).steps(), WatchedSteps.concatenate([steps(0), steps(4)]))


@pytest.mark.parametrize("sizes", [{"inputs": 3, "net.0": 6}, {"inputs": 3}, SIZES | {"net.2": 1}])
def test_a_writer_of_another_network_is_refused(tmp_path, sizes):
    RecordingWriter(tmp_path, SIZES)
    with pytest.raises(UserError, match=r"another network.*inputs \(3\), net\.0 \(5\)"):
        RecordingWriter(tmp_path, sizes)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"is no recording: it has no recording\.json"):
        Recording(tmp_path / "nowhere")
    writer = RecordingWriter(tmp_path, SIZES)
    with pytest.raises(UserError, match="without a single step"):
        Recording(tmp_path)
    fill(writer, 0, 4)
    writer.flush()
    recording = Recording(tmp_path)
    with pytest.raises(UserError, match=r"has no layer 'net\.9'; it has inputs, net\.0"):
        recording.layer("net.9")
    for read in (recording.steps, lambda phase: recording.layer("inputs", phase)):
        with pytest.raises(UserError, match="phase='sleeping' is none of offline, guide"):
            read("sleeping")
    (tmp_path / "recording.json").write_text("{")
    with pytest.raises(UserError, match=r"recording\.json: cannot be read"):
        Recording(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    writer = RecordingWriter(tmp_path, SIZES, chunk_rows=4)
    fill(writer, 0, 12)
    damaged = chunk_paths(tmp_path)[1]
    whole = damaged.read_bytes()
    for content in (b"", b"nonsense" * 200, whole[: len(whole) // 2]):
        damaged.write_bytes(content)
        for read in (
            lambda: Recording(tmp_path).steps(),
            lambda: Recording(tmp_path).layer("net.0"),
        ):
            with pytest.raises(UserError, match=r"chunk-00000001\.hdf5.*remove the file"):
                read()
    damaged.unlink()
    assert Recording(tmp_path).steps().step.tolist() == [10 * n for n in (*range(4), *range(8, 12))]


def test_episodes_that_may_be_cut_short_are_left_out(tmp_path):
    sizes = {"net.0": 3}

    # The episodes that two environments are in at each step, the first of which is long.
    under_way_at = (
        [(0, 1)] * 3 + [(0, 2)] * 2 + [(0, 3)] * 4 + [(4, 3)] * 2 + [(4, 5)] * 3 + [(4, 6)]
    )

    def recorded(keep=None, until=None, phases=(3, 3)):
        folder = tmp_path / f"{keep}-{until}-{phases}"
        writer = RecordingWriter(folder, sizes, 4, keep, interval=5)
        for number, under_way in enumerate(under_way_at[:until]):
            part = replace(
                steps(0, 2),
                episode=np.array(under_way),
                step=np.full(2, 10 * number),
                phase=np.array(phases),
                seed=np.zeros(2, np.int64),
            )
            writer.add(part, {"net.0": np.zeros((2, 3), np.float32)})
        writer.flush()
        return folder, writer

    def numbers(folder):
        return [int(part.episode[0]) for part in Recording(folder).episodes()]

    folder, writer = recorded()
    # 4 and 6 may be under way; 5 began after 4 and is over because it was short.
    assert numbers(folder) == [0, 1, 2, 3]
    writer.complete()
    assert numbers(folder) == list(range(7))
    assert Recording(folder).interval == 5
    # While the first is under way there is nothing to be had.
    assert numbers(recorded(until=9)[0]) == []
    # Nor while the guide still acts in it, and the exploration-policy in the others.
    assert numbers(recorded(until=9, phases=(1, 2))[0]) == []
    # Of eight files the oldest five were removed, in the middle of 3 and perhaps of 4.
    folder, writer = recorded(keep=3)
    writer.complete()
    assert numbers(folder) == [5, 6]
    # Whoever goes on writing takes back that it was complete.
    of = steps(0, 2)
    writer.add(of, {"net.0": np.zeros((2, 3), np.float32)})
    assert not Recording(folder).complete


def test_rows_of_another_network_are_not_added(tmp_path):
    writer = RecordingWriter(tmp_path, {"inputs": 3, "outputs": 2})
    steps, two = steps_of(np.zeros((4, 3), np.float32)), np.zeros((4, 2), np.float32)
    for layers in ({"inputs": two, "outputs": two}, {"inputs": steps.observations}):
        with pytest.raises(UserError, match=r"layers inputs \(3\), outputs \(2\); got"):
            writer.add(steps, layers)
    writer.add(steps, {"inputs": steps.observations, "outputs": two})
    writer.flush()
    assert len(Recording(tmp_path).steps()) == 4


def test_a_recording_is_read_by_the_names_that_its_files_have_always_had(tmp_path):
    """So that recordings and references of earlier versions of the package stay readable."""
    whole_numbers = ("step", "episode", "time", "phase", "stage", "actor", "seed")
    columns = {name: np.full(2, 10 + i) for i, name in enumerate(whole_numbers)}
    columns["phase"] = np.full(2, PHASES.index("evaluation"))
    columns["observations"] = np.ones((2, 3), np.float32)
    columns["actions"] = np.zeros((2, 2), np.float32)
    with h5py.File(tmp_path / "chunk-00000000.hdf5", "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values)
        file.create_dataset("layers/mlp.activation_0", data=np.full((2, 5), 7, np.float32))
    manifest = {"layers": {"mlp.activation_0": 5}, "interval": 4, "complete": True}
    (tmp_path / "recording.json").write_text(json.dumps(manifest))
    recording = Recording(tmp_path)
    found = recording.layer("mlp.activation_0", phase="evaluation")
    assert recording.interval == 4 and (found.values == 7).all()
    assert {name: getattr(found.steps, name).tolist() for name in FIELDS} == {
        name: values.tolist() for name, values in columns.items()
    }
