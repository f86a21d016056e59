"""The monitor: many two-sample tests at once, and what looking on costs a rollout."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.benchmark.acting import POINTMAZE, STEPS_IN_ROUND, CollectorLoop, make_policy
from jsrl.benchmark.problem import Sizes
from jsrl.benchmark.results import Measurement
from jsrl.benchmark.timing import interleaved, ratio, typical
from jsrl.core.streams import Streams
from jsrl.envs.make import describe_env
from jsrl.monitor.detectors.kernels import gaussian_kernel
from jsrl.monitor.detectors.mmd import mmd_permutation_tests
from jsrl.monitor.watch.settings import WatchSettings
from jsrl.monitor.watch.training import TrainingMonitor
from jsrl.monitor.watch.training_settings import TrainingMonitorSettings

SECTION = "Monitor"
TESTS, SAMPLES, PERMUTATIONS = 100, 100, 1000
LAYER_SIZES = (29, 256, 256, 256, 256, 8)
MOST_SECONDS, LEAST_SPEED_UP, MOST_OVERHEAD = 3.0, 20.0, 5.0
LOOPED_PERMUTATIONS = 50
"""Of one test in one layer: the loop is timed on so many, and its time multiplied."""


def measure_monitor(sizes: Sizes, seconds: float) -> list[Measurement]:
    """Seconds for 100 tests in 6 layers, how much a loop takes, and the overhead of a rollout."""
    return [*_measure_tests(seconds), *_measure_overhead(sizes, seconds)]


def _measure_tests(seconds: float) -> list[Measurement]:
    draws = torch.Generator().manual_seed(0)
    x, y = (
        [torch.randn(TESTS, SAMPLES, size, generator=draws) for size in LAYER_SIZES]
        for _ in range(2)
    )

    def at_once() -> object:
        return mmd_permutation_tests(x, y, PERMUTATIONS, generator=draws)

    def looped() -> object:
        return loop_over_permutations(x[1][0], y[1][0], LOOPED_PERMUTATIONS, draws)

    times = interleaved({"at once": at_once, "looped": looped}, seconds, calls=1)
    whole = TESTS * len(LAYER_SIZES) * PERMUTATIONS / LOOPED_PERMUTATIONS
    loop = [whole * time for time in times["looped"]]
    name = f"{TESTS} tests x {len(LAYER_SIZES)} layers x {PERMUTATIONS} permutations"
    return [
        Measurement(SECTION, name, typical(times["at once"]), "s", at_most=MOST_SECONDS),
        Measurement(SECTION, "a loop that gathers", typical(loop), "s"),
        Measurement(
            *(SECTION, "how many times as long", ratio(loop, times["at once"]), "×"),
            at_least=LEAST_SPEED_UP,
        ),
    ]


def loop_over_permutations(
    x: Float[Tensor, "N D"], y: Float[Tensor, "M D"], permutations: int, draws: torch.Generator
) -> list[float]:
    """MMD² of every permutation by gathering the kernel anew: how it is mostly written."""
    kernel, _ = gaussian_kernel(torch.cat([x, y]))
    n, m = len(x), len(y)
    found = []
    for _ in range(permutations):
        order = torch.randperm(n + m, generator=draws)
        permuted = kernel[order][:, order]
        within = permuted[:n, :n].sum() / (n * (n - 1)) + permuted[n:, n:].sum() / (m * (m - 1))
        found.append(float(within - 2 * permuted[:n, n:].mean()))
    return found


def _measure_overhead(sizes: Sizes, seconds: float) -> list[Measurement]:
    """A rollout in PointMaze with the monitor at its default interval, against one without."""
    spec = describe_env(POINTMAZE)
    policy = make_policy(spec.observation.size, spec.actions.size, sizes.hidden)
    layers = r"inputs|.*activation_\d+|outputs"
    settings = TrainingMonitorSettings(layers, 10, 1.0, 4096, 4, 60, WatchSettings())
    with tempfile.TemporaryDirectory() as folder:
        alone, watched = CollectorLoop(spec, policy, 1), CollectorLoop(spec, policy, 1)
        monitor = TrainingMonitor(
            *(settings, policy, [0], (1, 1), Streams([0]), Path(folder)),
            spec,
        )
        watched.watch(monitor.online)
        try:
            steps: dict[str, Callable[[], object]] = {"alone": alone.step, "watched": watched.step}
            times = interleaved(steps, seconds, calls=STEPS_IN_ROUND)
        finally:
            alone.close()
            watched.close()
    overhead = 100 * (ratio(times["watched"], times["alone"]) - 1)
    name = "overhead of a rollout, every 10th step"
    return [Measurement(SECTION, name, overhead, "%", at_most=MOST_OVERHEAD)]
