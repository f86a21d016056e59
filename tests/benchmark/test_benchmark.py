"""The benchmark: what it compares is equal work, and what it prints is complete."""

import json

import numpy as np
import pytest
import torch

from jsrl.benchmark import benchmark
from jsrl.benchmark.plain import PlainIQL, PlainReplay
from jsrl.benchmark.problem import CPU, Sizes, make_learner, synthetic_data
from jsrl.benchmark.results import Measurement, collect_results, render
from jsrl.benchmark.roofline import iql_products
from jsrl.benchmark.timing import interleaved, ratio
from jsrl.core.errors import UserError
from jsrl.rollout.offline_store import OfflineStore

SMALL = Sizes(observation=5, action=3, hidden=16, batch=8, transitions=64)


def test_the_plain_reference_does_the_same_updates_as_the_package():
    learner = make_learner(SMALL, 2)
    plain = PlainIQL(SMALL, learner.options)
    plain.load_seed(learner.networks, 1)
    data = synthetic_data(SMALL)
    replay = PlainReplay.of(data)
    store = OfflineStore(data, SMALL.observed, SMALL.actions, discount=0.99, device=CPU)
    rng = np.random.default_rng(0)
    for _ in range(20):
        indices = rng.integers(0, len(data), (2, SMALL.batch))
        batch = store.packed(torch.from_numpy(indices)).unpack(store.layout)
        metrics = learner.update(batch, {})
        reference = plain.update(replay.at(indices[1]))
        for name, value in reference.items():
            assert value == pytest.approx(metrics[name][1].item(), rel=1e-4, abs=1e-5), name
    assert {"loss/value", "loss/critic", "loss/actor"} <= reference.keys()


@pytest.mark.parametrize("sizes", [SMALL, Sizes()])
def test_the_matrix_products_are_those_of_the_algorithm(sizes):
    o, a, h, b = sizes.observation, sizes.action, sizes.hidden, sizes.batch
    value, critic, actor = (o * h + h * h + h * n for n in (1, 1, a))
    critic += a * h
    # Weights of all layers take one more product, inputs of all layers but the first another.
    expected = (
        2 * critic  # the target critics
        + (3 * value - o * h)
        + 2 * value  # at s and s', after the step
        + 2 * (3 * critic - (o + a) * h)
        + (3 * actor - o * h)
    )
    assert sum(product.flops for product in iql_products(sizes)) == 2 * b * expected
    for product in iql_products(sizes):
        product.prepare()()


def test_ratios_are_taken_within_a_round():
    # Both are slow in the second round; the ratio does not notice.
    assert ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0
    calls = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.0)
    assert {len(t) for t in times.values()} == {3}
    assert all(t > 0 for t in times["a"])


def test_a_bound_is_reached_or_missed():
    assert Measurement("s", "n", 2.0, "×", at_least=1.5).reached is True
    assert Measurement("s", "n", 20.0, "%", at_most=15).reached is False
    assert Measurement("s", "n", 2.0, "×").reached is None
    missing = Measurement("s", "n", None, "MiB", at_most=1.0)
    assert missing.reached is None
    assert "not measured" in render(collect_results([missing], []))


@pytest.mark.slow
def test_the_benchmark_measures_everything_with_units_and_writes_it(tmp_path, capsys):
    said = []
    results = benchmark(0.01, 60, tmp_path / "out", compiled=False, sizes=SMALL, say=said.append)
    assert said[0].startswith("benchmark: ")
    assert said[1] == f"[1/{len(said) - 1}] measuring updates"
    written = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert written == results
    assert {"command", "versions", "cpu", "threads", "notes", "measurements"} == results.keys()
    assert results["threads"] == 1
    assert any("ratio" in note for note in results["notes"])
    units = {(m["section"], m["name"]): m["unit"] for m in results["measurements"]}
    assert units["IQL updates", "plain reference"] == "1/s"
    assert units["IQL updates", "eager, S=1"] == units["IQL updates", "eager, S=4"] == "1/s"
    assert units["IQL updates", "eager to plain reference"] == "×"
    assert units["IQL updates", "eager to products alone"] == "×"
    assert not any("compiled" in name for _, name in units)
    assert units["IQL update to ReLU's", "smelu(beta=1), eager"] == "×"
    for count in (1, 16):
        assert units["Action latency", f"mode, S·E={count}"] == "µs"
        assert units["Action latency", f"with noise, S·E={count}"] == "µs"
        assert units["PointMaze steps", f"raw, E={count}"] == "1/s"
        assert units["PointMaze steps", f"collector's overhead, E={count}"] == "%"
    assert units["AntMaze collection", "collected"] == "1/s"
    assert units["AntMaze collection", "share of the simulator's"] == "%"
    assert units["Memory", "growth over 60 steps"] == units["Memory", "peak"] == "MiB"
    rates = [m["value"] for m in results["measurements"] if m["unit"] in ("1/s", "µs", "×")]
    assert all(np.isfinite(rate) and rate > 0 for rate in rates)
    printed = capsys.readouterr().out
    table = (tmp_path / "out" / "benchmark.md").read_text()
    assert printed.strip() in table and "| eager, S=4" in table
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "benchmark.json",
        "benchmark.md",
    ]


@pytest.mark.parametrize(
    "seconds, memory_steps, key", [(0.0, 10, "seconds=0.0"), (1.0, 0, "memory_steps=0")]
)
def test_numbers_out_of_range_are_refused(seconds, memory_steps, key):
    with pytest.raises(UserError, match=key):
        benchmark(seconds, memory_steps)


def test_an_output_that_is_a_file_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="output="):
        benchmark(1e6, 10, tmp_path / "file")
