"""``jsrl benchmark``: how fast the package is on this machine, in one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from jsrl.benchmark.acting import measure_environment_steps, measure_latency
from jsrl.benchmark.activations import measure_activations
from jsrl.benchmark.collection import describe_collection, measure_collection
from jsrl.benchmark.memory import measure_memory
from jsrl.benchmark.monitoring import measure_monitor
from jsrl.benchmark.problem import Sizes
from jsrl.benchmark.results import Measurement, collect_results, prepare_folder, render, write
from jsrl.benchmark.updates import measure_cuda_updates, measure_updates
from jsrl.core.errors import UserError
from jsrl.learners.common import has_cpp_compiler

__all__ = ["benchmark"]

Part = Callable[[], Sequence[Measurement]]


def benchmark(
    seconds: float,
    memory_steps: int,
    output: Path | None = None,
    *,
    compiled: bool = True,
    sizes: Sizes | None = None,
    behaviour: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure, print a table, and with ``output`` write ``benchmark.json`` and ``benchmark.md``.

    Args:
        seconds: how long each variant is timed.
        memory_steps: environment steps over which memory may not grow.
        output: a folder for the results.
        compiled: measure ``torch.compile`` too; left out, with a note, without a C++ compiler.
        sizes: of the measured update; by default those of AntMaze.
        behaviour: npz file of D4RL's ant for the collection; by default random weights.
        say: is told what is being measured; by default nobody is.

    Returns:
        What ``benchmark.json`` holds.

    Raises:
        UserError: if a number is out of range or the output cannot be written.
    """
    if seconds <= 0:
        raise UserError(f"seconds={seconds} must be above 0")
    if memory_steps < 1:
        raise UserError(f"memory_steps={memory_steps} must be at least 1")
    if output is not None:
        prepare_folder(output)
    sizes = Sizes() if sizes is None else sizes
    notes = [describe_collection(behaviour)]
    if compiled and not has_cpp_compiler():
        compiled = False
        notes.append("No C++ compiler was found: the compiled update was not measured.")
    parts = _parts(seconds, memory_steps, sizes, behaviour, compiled)
    if torch.cuda.is_available():
        parts["updates on the GPU"] = lambda: measure_cuda_updates(sizes, seconds)
    else:
        notes.append("No CUDA device was found: nothing was measured on one.")
    say = say or (lambda line: None)
    say(f"benchmark: {len(parts)} parts, {seconds:g} s for each variant in them")
    with _one_thread():
        results = collect_results(_measure(parts, say), notes)
    print(render(results))
    if output is not None:
        write(results, output)
    return results


def _parts(
    seconds: float, memory_steps: int, sizes: Sizes, behaviour: Path | None, compiled: bool
) -> dict[str, Part]:
    """What is measured on every machine, by name, in this order."""
    return {
        "updates": lambda: measure_updates(sizes, seconds, compiled=compiled),
        "activations": lambda: measure_activations(sizes, seconds, compiled=compiled),
        "latency of a policy": lambda: measure_latency(sizes, seconds),
        "environment steps": lambda: measure_environment_steps(sizes, seconds),
        "the monitor": lambda: measure_monitor(sizes, seconds),
        "collection": lambda: measure_collection(behaviour),
        "memory": lambda: measure_memory(sizes.hidden, sizes.batch, memory_steps),
    }


def _measure(parts: Mapping[str, Part], say: Callable[[str], None]) -> list[Measurement]:
    measurements: list[Measurement] = []
    for number, (name, measure) in enumerate(parts.items(), start=1):
        say(f"[{number}/{len(parts)}] measuring {name}")
        measurements += measure()
    return measurements


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
