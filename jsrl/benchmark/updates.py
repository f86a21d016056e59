"""IQL updates per second: the package, the plain reference and the products alone."""

from collections.abc import Callable

import numpy as np
import torch

from jsrl.benchmark.plain import PlainIQL, PlainReplay
from jsrl.benchmark.problem import (
    Sizes,
    make_learner,
    make_replay,
    make_update,
    synthetic_data,
)
from jsrl.benchmark.results import Measurement
from jsrl.benchmark.roofline import iql_products, make_roofline
from jsrl.benchmark.timing import Times, interleaved, ratio, typical

SECTION = "IQL updates"
SEEDS = (1, 4)
CUDA_SEEDS = (1, 4, 20)
PLAIN_TARGET = {"eager": 1.5, "compiled": 1.8}
ROOFLINE_TARGET = 0.5


def measure_updates(sizes: Sizes, seconds: float, *, compiled: bool) -> list[Measurement]:
    """On one CPU thread, with the sampling of the minibatch from an offline buffer."""
    data = synthetic_data(sizes)
    replay = make_replay(sizes, data)
    functions: dict[str, Callable[[], object]] = {
        "plain": _plain_update(sizes, PlainReplay.of(data)),
        "products": make_roofline(sizes),
    }
    modes = ("eager", "compiled") if compiled else ("eager",)
    for mode in modes:
        for num_seeds in SEEDS:
            learner = make_learner(sizes, num_seeds, compiled=mode == "compiled")
            functions[f"{mode} {num_seeds}"] = make_update(learner, replay)
    times = interleaved(functions, seconds)
    flops = sum(product.flops for product in iql_products(sizes))
    return [
        _rate("plain reference", times["plain"], 1),
        _rate("matrix products alone", times["products"], 1),
        Measurement(
            SECTION, "matrix products alone", flops / typical(times["products"]) / 1e9, "GFLOP/s"
        ),
        *(row for mode in modes for row in _compared(times, mode)),
    ]


def measure_cuda_updates(sizes: Sizes, seconds: float) -> list[Measurement]:
    """On the first GPU. Raises RuntimeError if an update waits for the device."""
    device = torch.device("cuda")
    replay = make_replay(sizes, synthetic_data(sizes), device)
    updates = {}
    for num_seeds in CUDA_SEEDS:
        learner = make_learner(sizes, num_seeds, device)
        updates[f"S={num_seeds}"] = make_update(learner, replay)
    times = interleaved(updates, seconds, torch.cuda.synchronize)
    rates = [
        Measurement(f"{SECTION} on {torch.cuda.get_device_name()}", name, n / typical(t), "1/s")
        for n, (name, t) in zip(CUDA_SEEDS, times.items(), strict=True)
    ]
    _require_no_synchronisation(updates["S=1"])
    return [*rates, Measurement(rates[0].section, "waits for the device in an update", 0, "")]


def _require_no_synchronisation(update: Callable[[], object]) -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        update()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _plain_update(sizes: Sizes, replay: PlainReplay) -> Callable[[], object]:
    learner = make_learner(sizes, 1)
    plain = PlainIQL(sizes, learner.options)
    plain.load_seed(learner.networks, 0)
    rng = np.random.default_rng(0)
    return lambda: plain.update(replay.sample(rng, sizes.batch))


def _rate(name: str, times: list[float], num_seeds: int) -> Measurement:
    return Measurement(SECTION, name, num_seeds / typical(times), "1/s")


def _compared(times: Times, mode: str) -> list[Measurement]:
    """Rates of each S, and of one seed the ratios to the plain reference and to the products."""
    one = times[f"{mode} 1"]
    speed_up = ratio(times["plain"], one)
    roofline = ratio(times["products"], one)
    rows = [_rate(f"{mode}, S={n}", times[f"{mode} {n}"], n) for n in SEEDS]
    least = ROOFLINE_TARGET if mode == "compiled" else None
    return [
        *rows,
        Measurement(
            SECTION, f"{mode} to plain reference", speed_up, "×", at_least=PLAIN_TARGET[mode]
        ),
        Measurement(SECTION, f"{mode} to products alone", roofline, "×", at_least=least),
    ]
