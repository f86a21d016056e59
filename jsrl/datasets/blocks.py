"""Collect data in numbered blocks, over several processes, so that it can stop and go on.

A block's content depends on its number alone. Which process made it, and in which order they came,
leaves no trace: the data are the blocks in the order of their numbers.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.files import replacing, write_whole
from jsrl.core.interrupts import Interrupted, StopRequest
from jsrl.core.locks import hold_folder

Block = dict[str, np.ndarray]
"""Named arrays of the same length: the transitions of a block's episodes, in order."""

MakeBlock = Callable[[int], Block]
SECONDS_BETWEEN_LOOKS = 0.2


class BlockStore:
    """A folder of finished blocks, with the settings that they were made with.

    Args:
        folder: made if need be; held by one process at a time.
        settings: everything that the content depends on, as plain values.

    Raises:
        UserError: if the folder cannot be used, is in use, or holds blocks of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        other = "another process that collects this data set"
        self._lock = hold_folder(folder, other, "another path for the data set")
        self._require_same(dict(settings))

    def lengths(self) -> dict[int, int]:
        """The number of transitions of every finished block. A broken one is removed."""
        found = {}
        for path in sorted(self.folder.glob("block-*.npz")):
            try:
                with np.load(path) as file:
                    found[int(path.stem.split("-")[1])] = len(file["actions"])
            except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
                path.unlink()
        return found

    def load(self, number: int) -> Block:
        """A finished block."""
        with np.load(block_path(self.folder, number)) as file:
            return {name: file[name] for name in file.files}

    def close(self) -> None:
        """Let go of the folder; the blocks stay."""
        self._lock.close()

    def remove(self) -> None:
        """Remove the folder: the blocks are no longer needed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _require_same(self, settings: dict[str, Any]) -> None:
        path = self.folder / "settings.json"
        if not path.exists():
            write_whole(path, (json.dumps(settings, indent=2) + "\n").encode())
            return
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = {}
        changed = [k for k in sorted({*before, *settings}) if before.get(k) != settings.get(k)]
        if changed:
            self.close()
            key = changed[0]
            raise UserError(
                f"{self.folder} holds a half-collected data set of other settings: {key} was "
                f"{before.get(key)!r} and is now {settings.get(key)!r}; repeat the first command "
                "to finish it, remove that folder, or choose another path"
            )


def block_path(folder: Path, number: int) -> Path:
    """Where a block is kept."""
    return folder / f"block-{number:06d}.npz"


def collect_blocks(
    store: BlockStore,
    prepare: Callable[[], MakeBlock],
    transitions: int,
    workers: int,
    report: Callable[[int], None],
) -> list[int]:
    """Make blocks from number 0 on, those already in the store excepted, until there are enough.

    Args:
        store: where they go.
        prepare: called once in each process; what it returns makes the blocks. It must be
            picklable if there are several.
        transitions: how many are wanted in all.
        workers: processes; 1 works in this one.
        report: called with the number of transitions there are by now.

    Returns:
        The numbers of the blocks to take, 0 to the last one.

    Raises:
        Interrupted: after SIGTERM or SIGINT; finished blocks are kept.
        UserError: if a process dies, or the disk is full.
    """
    lengths = store.lengths()
    report(min(sum(lengths.values()), transitions))
    with StopRequest() as stop:
        made = _in_this_process if workers == 1 else partial(_in_processes, workers=workers)
        for number, length in made(store.folder, prepare, _needed(lengths, transitions), stop):
            lengths[number] = length
            report(min(sum(lengths.values()), transitions))
        if stop.signal_number is not None:
            raise Interrupted(stop.signal_number)
    return list(range(_first_unfinished(lengths, transitions)))


def _needed(lengths: dict[int, int], transitions: int) -> Iterator[int]:
    """Numbers of blocks to make, for as long as the unbroken run of finished ones is too short.

    ``lengths`` grows meanwhile.
    """
    number = 0
    while not _enough(lengths, transitions):
        if number not in lengths:
            yield number
        number += 1


def _enough(lengths: Mapping[int, int], transitions: int) -> bool:
    total, number = 0, 0
    while total < transitions and number in lengths:
        total += lengths[number]
        number += 1
    return total >= transitions


def _first_unfinished(lengths: Mapping[int, int], transitions: int) -> int:
    total, number = 0, 0
    while total < transitions:
        total += lengths[number]
        number += 1
    return number


def _in_this_process(
    folder: Path, prepare: Callable[[], MakeBlock], numbers: Iterator[int], stop: StopRequest
) -> Iterator[tuple[int, int]]:
    make = prepare()
    for number in numbers:
        if stop.signal_number is not None:
            return
        yield number, _make_and_save(make, folder, number)


def _in_processes(
    folder: Path,
    prepare: Callable[[], MakeBlock],
    numbers: Iterator[int],
    stop: StopRequest,
    workers: int,
) -> Iterator[tuple[int, int]]:
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _begin_worker, (prepare,)
    )
    running: dict[Future[int], int] = {}
    try:
        while stop.signal_number is None:
            # One more than there are processes, so that none waits for its next block.
            while len(running) <= workers and (number := next(numbers, None)) is not None:
                running[pool.submit(_work, folder, number)] = number
            if not running:
                return
            done, _ = wait(running, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that collects data died, perhaps for want of memory; what was collected is "
            "kept: run the same command again, with fewer workers if need be"
        ) from error
    finally:
        for process in list(pool._processes.values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


_make: MakeBlock | None = None
"""What makes the blocks of a worker process."""


def _begin_worker(prepare: Callable[[], MakeBlock]) -> None:
    global _make
    # Ctrl-C reaches the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _make = prepare()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(folder: Path, number: int) -> int:
    assert _make is not None
    return _make_and_save(_make, folder, number)


def _make_and_save(make: MakeBlock, folder: Path, number: int) -> int:
    block = make(number)
    path = block_path(folder, number)
    try:
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **block)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; make room and run the same "
            "command again"
        ) from error
    return len(block["actions"])
