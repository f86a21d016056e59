"""``jsrl benchmark``: how fast the package is on this machine, in one run."""

from pathlib import Path
from typing import Any

import torch

from jsrl.benchmark.acting import measure_environment_steps, measure_latency
from jsrl.benchmark.activations import measure_activations
from jsrl.benchmark.collection import describe_collection, measure_collection
from jsrl.benchmark.memory import measure_memory
from jsrl.benchmark.monitoring import measure_monitor
from jsrl.benchmark.problem import Sizes
from jsrl.benchmark.results import collect_results, prepare_folder, render, write
from jsrl.benchmark.updates import measure_cuda_updates, measure_updates
from jsrl.errors import UserError
from jsrl.learners.common import has_cpp_compiler

__all__ = ["benchmark"]


def benchmark(
    seconds: float,
    memory_steps: int,
    output: Path | None = None,
    *,
    compiled: bool = True,
    sizes: Sizes | None = None,
    behaviour: Path | None = None,
) -> dict[str, Any]:
    """Measure, print a table, and with ``output`` write ``benchmark.json`` and ``benchmark.md``.

    Args:
        seconds: how long each variant is timed.
        memory_steps: environment steps over which memory may not grow.
        output: a folder for the results.
        compiled: measure ``torch.compile`` too; left out, with a note, without a C++ compiler.
        sizes: of the measured update; by default those of AntMaze.
        behaviour: npz file of D4RL's ant for the collection; by default random weights.

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
    sizes = sizes or Sizes()
    notes = [describe_collection(behaviour)]
    if compiled and not has_cpp_compiler():
        compiled = False
        notes.append("No C++ compiler was found: the compiled update was not measured.")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        measurements = [
            *measure_updates(sizes, seconds, compiled=compiled),
            *measure_activations(sizes, seconds, compiled=compiled),
            *measure_latency(sizes, seconds),
            *measure_environment_steps(sizes, seconds),
            *measure_monitor(sizes, seconds),
            *measure_collection(behaviour),
            *measure_memory(sizes.hidden, sizes.batch, memory_steps),
        ]
        if torch.cuda.is_available():
            measurements += measure_cuda_updates(sizes, seconds)
        else:
            notes.append("No CUDA device was found: nothing was measured on one.")
        results = collect_results(measurements, notes)
    finally:
        torch.set_num_threads(threads)
    print(render(results))
    if output is not None:
        write(results, output)
    return results
