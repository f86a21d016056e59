"""Event files: names that sort by start, and what TensorBoard reads of them."""

import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jsrl.loggers import TensorBoardLogger
from jsrl.loggers.event_files import EventFile, OrderedSummaryWriter, event_files

CLOCKS = {
    "the next day": [1e9, 1e9 + 86_400],
    "a day back": [1e9, 1e9 - 86_400],
    "back to 1970": [1e9, 5.0, 6.0],
    "the same second": [1e9, 1e9, 1e9],
    "mended after a start in 1970": [5.0, 1e9, 1e9 + 1],
    "mended after a start in the future": [5e9, 1e9, 1e9 + 1],
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_curves_go_on_where_they_stopped_whatever_the_clock_says(tmp_path, monkeypatch, clock):
    expected = []
    for start, seconds in enumerate(CLOCKS[clock]):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        logger = TensorBoardLogger(
            tmp_path, [0], resume_from=(100 * start, "online") if start else None
        )
        # Past its last checkpoint, from which the next start goes on.
        for step in range(100 * start + 50, 100 * start + 200, 50):
            logger.log(step, "online", {"evaluation/guide_return": [float(start)]})
        expected = [e for e in expected if e[0] <= 100 * start]
        expected += [(100 * start + more, float(start)) for more in (50, 100, 150)]
        logger.close()
    for folder, tag in ((tmp_path, "guide_return"), (tmp_path / "guide", "return")):
        accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        accumulator.Reload()
        shown = accumulator.Scalars(f"evaluation/{tag}")
        assert [(event.step, event.value) for event in shown] == expected


def test_a_file_comes_after_those_of_pytorchs_own_writer(tmp_path):
    """Runs of earlier versions have files that were named by it."""
    earlier = tmp_path / "events.out.tfevents.9000000000.some-host.12.0"
    earlier.write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not an event file")
    later = EventFile(tmp_path)
    later.close()
    assert later.path.name.startswith("events.out.tfevents.9000000001.")
    assert event_files(tmp_path) == [earlier, later.path]


def test_what_was_written_is_on_the_disk_after_a_flush(tmp_path):
    writer = OrderedSummaryWriter(tmp_path)
    writer.add_scalar("a", 1.0, 5)
    writer.flush()
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [(event.step, event.value) for event in accumulator.Scalars("a")] == [(5, 1.0)]
    writer.close()


def test_a_full_disk_is_told_by_the_call_that_met_it(tmp_path, monkeypatch):
    writer = OrderedSummaryWriter(tmp_path)
    file = writer.file_writer.event_writer
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(file._records, "_writer", full)
        with pytest.raises(OSError, match="No space left on device"):
            writer.add_scalar("a", 1.0, 5)
