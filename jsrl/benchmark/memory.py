"""Memory: its peak, and whether it grows while collecting and learning."""

import gc
import os
from pathlib import Path

from jsrl.benchmark.acting import POINTMAZE, CollectorLoop
from jsrl.benchmark.problem import CPU
from jsrl.benchmark.results import Measurement
from jsrl.core.streams import Streams
from jsrl.envs.make import describe_env
from jsrl.learners.iql import IQL, IQLOptions
from jsrl.learners.options import LearnerInputs
from jsrl.rollout.replay import Replay
from jsrl.run.summary import peak_memory_mib

CAPACITY = 2_000
STEPS_PER_UPDATE = 20
GROWTH_TARGET = 1.0
"""MiB: a page or two come and go, a leak of one transition a step would be several MiB."""


def measure_memory(hidden: int, batch_size: int, steps: int) -> list[Measurement]:
    """Growth over ``steps`` steps with a full buffer, after half as many to warm up."""
    spec = describe_env(POINTMAZE)
    options = IQLOptions(hidden=[hidden, hidden], batch_size=batch_size)
    learner = IQL(options, LearnerInputs(Streams([0]), spec.observation, spec.actions, CPU))
    loop = CollectorLoop(spec, learner.policy(), 1, CAPACITY)
    replay = Replay(None, loop.buffer, batch_size, None, CPU)
    streams = Streams([0], ("learn",))

    def work(count: int) -> None:
        for i in range(count):
            loop.step()
            if i % STEPS_PER_UPDATE == 0:
                learner.update(replay.sample(streams), learner.draws(streams))

    try:
        work(max(steps // 2, 1))
        before = resident_mib()
        work(steps)
        after = resident_mib()
    finally:
        loop.close()
    growth = None if before is None or after is None else after - before
    return [
        Measurement("Memory", f"growth over {steps:,} steps", growth, "MiB", at_most=GROWTH_TARGET),
        Measurement("Memory", "peak", peak_memory_mib(), "MiB"),
    ]


def resident_mib() -> float | None:
    """Resident memory of this process once garbage is collected; None where it is not known."""
    gc.collect()
    status = Path("/proc/self/statm")
    if not status.exists():
        return None
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
