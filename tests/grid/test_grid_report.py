"""The report of a grid against numbers worked out here, from records written by hand."""

import csv
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid_records import job, write
from scipy import stats

from jsrl.core.errors import UserError
from jsrl.grid.compare import compare, means, order_turns
from jsrl.grid.config import ComparisonConfig, GridConfig, PublishedConfig
from jsrl.grid.protocol import protocol
from jsrl.grid.published import columns, environments, published
from jsrl.grid.report import write_report
from jsrl.grid.results import load_results, other_guides

COLD = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.4}
IQL = {0: 0.5, 1: 0.6, 2: 0.7}
COMMAND = "jsrl grid grid=pointmaze"


@pytest.fixture
def grid() -> GridConfig:
    """Two arms in two cells, of which the second takes the first's guide; nothing of a third."""
    grid = job("grid=pointmaze", "grid.seeds=[0,1,2,3]").grid
    del grid.arms["no_guide"]
    grid.comparisons.pop()
    grid.cells[0].published = PublishedConfig("antmaze-umaze-diverse-v0", 10_000)
    grid.arms["jsrl_cold"].published = "jsrl_curriculum"
    grid.arms["iql"].published = "iql"
    first = grid.cells[0]
    grid.cells += [type(first)("second", arms=["iql"], guide_from="umaze"), type(first)("third")]
    return grid


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for seed in range(4):
        write(tmp_path, "umaze", "guide", seed, [None, None, None, 0.5 + seed / 10])
    for seed, final in COLD.items():
        write(tmp_path, "umaze", "jsrl_cold", seed, [0.0, 0.2, 0.65, final], guide_from="umaze")
    for seed, final in IQL.items():
        write(tmp_path, "umaze", "iql", seed, [0.5, 0.5, 0.6, final])
    # The last seed came to nothing.
    write(tmp_path, "umaze", "iql", 3, [0.5, 0.4, None, None], failed=True)
    write(tmp_path, "second", "iql", 2, [0.1, 0.2, 0.2, 0.3], guide_from="umaze")
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_what_numpy_and_scipy_say(grid: GridConfig, output: Path) -> None:
    write_report(grid, output, COMMAND)
    table = {(row["cell"], row["arm"]): row for row in rows(output / "table.csv")}
    assert list(table)[:3] == [("umaze", "guide"), ("umaze", "jsrl_cold"), ("umaze", "iql")]
    values = list(COLD.values())
    cold = table["umaze", "jsrl_cold"]
    assert float(cold["iqm"]) == pytest.approx(np.mean([0.7, 0.8]))
    assert float(cold["mean"]) == pytest.approx(np.mean(values))
    resampled = np.array(list(itertools.product(values, repeat=4)))  # every resample there is
    for name, statistic in (
        ("mean", resampled.mean(1)),
        ("iqm", np.sort(resampled, axis=1)[:, 1:3].mean(1)),
    ):
        expected = np.quantile(statistic, [0.025, 0.975])
        found = [float(cold[f"{name}_low"]), float(cold[f"{name}_high"])]
        assert found == pytest.approx(expected, abs=0.03)
    assert (cold["seeds"], cold["failed"], cold["missing"]) == ("4", "0", "0")
    assert (cold["published_mean"], cold["published_std"]) == ("0.726", "0.122")
    assert cold["final_guide_steps"] == "0"
    iql = table["umaze", "iql"]
    assert float(iql["mean"]) == pytest.approx(0.6)
    assert (iql["seeds"], iql["failed"], iql["final_guide_steps"]) == ("4", "1", "")
    assert float(table["umaze", "guide"]["mean"]) == pytest.approx(0.65)
    # The guide of the first cell, by how it did in the runs of the second.
    assert table["second", "guide"]["mean"] == "0.3"
    assert table["second", "guide"]["label"] == "the guide alone, pre-trained in umaze"
    assert table["third", "iql"]["mean"] == ""


def test_every_seed_and_every_evaluation_is_there(grid: GridConfig, output: Path) -> None:
    write_report(grid, output, COMMAND)
    seeds = {(r["cell"], r["arm"], r["seed"]): r for r in rows(output / "per_seed.csv")}
    # Guide and two arms in the first cell, an arm in the second, guide and two arms in the third.
    assert len(seeds) == 4 * (3 + 1 + 3)
    assert seeds["umaze", "jsrl_cold", "0"]["exploration_success"] == "0.9"
    assert seeds["umaze", "jsrl_cold", "0"]["wall_seconds"] == "1800"
    assert seeds["umaze", "iql", "3"]["status"] == "failed"
    assert seeds["second", "iql", "0"]["status"] == "missing"
    curves = rows(output / "curves.csv")
    assert len(curves) == 4 * 13
    mine = [r for r in curves if (r["arm"], r["seed"]) == ("jsrl_cold", "3")]
    assert [float(r["exploration_success"]) for r in mine] == [0.0, 0.2, 0.65, 0.4]
    assert [r["guide_steps"] for r in mine] == ["30", "20", "10", "0"]


def test_the_text_says_what_was_found_what_is_missing_and_how(
    grid: GridConfig, output: Path
) -> None:
    (output / "findings.md").write_text("In short: it helps.\n")
    shown = write_report(grid, output, COMMAND)
    # Less the spaces that align its tables.
    text = re.sub(" +", " ", (output / "README.md").read_text())
    assert text.startswith("# PointMaze: does a jump-start help?\n\nIn short: it helps.\n")
    assert "15 of 28 runs are not finished: `second/iql` seeds 0, 1, 3; all of `third`." in text
    assert "left out of the statistics: `umaze/iql` seed 3." in text
    assert "## third" not in text
    pairs = [(x > y) + 0.5 * (x == y) for x in COLD.values() for y in IQL.values()]
    probability = np.mean(pairs)
    assert f"(primary) | 4 / 3 | 300 | {probability:.2f} [" in text
    assert " | +0.10 " in text  # 0.70 against 0.60
    # At 200 steps 0.65 against 0.60, at 100 steps 0.20 against 0.50; and so to the end.
    assert " | 200 " in text
    assert f" | {stats.norm.cdf((72.6 - 33.1) / np.hypot(12.2, 10.7)):.2f} " in text
    assert "0.73 ± 0.12" in text
    assert "Table 1: mean ± standard deviation" in text
    assert "| umaze | `iql` | 0.50 | 0.60 | 0.70 | failed |" in text
    assert "| second | `iql` | missing | missing | 0.30 | missing |" in text
    assert "| `curriculum.kind` | jsrl (jsrl_cold); none (iql) |" in text
    assert "The curriculum decides 6 times in a run." in text
    assert "`umaze/iql`: `experiment=pointmaze_jsrl online.steps=300`" in text
    assert "13 runs, 4 of them pre-training: 6.5 hours in all" in text
    assert f"```\n{COMMAND}\n```" in text
    assert "| jsrl-torch | 0.1.0 |" in text
    assert "- The maze, the noise of the data" in text
    assert "JSRL-Curriculum, cold start (`jsrl_cold`) | 4 " in shown
    figures = {path.name for path in output.glob("*.png")}
    assert figures == {f"learning_curve_{c}.png" for c in ("umaze", "second")} | {"improvement.png"}
    assert all(f"({name})" in text for name in figures)


def test_a_finished_grid_mentions_nothing_missing(grid: GridConfig, output: Path) -> None:
    grid.cells = grid.cells[:1]
    assert "not finished" not in write_report(grid, output, COMMAND)


def test_runs_of_different_length_are_compared_at_the_shorter_ones_end(
    grid: GridConfig, output: Path
) -> None:
    for seed in range(2):
        measures: dict[str, Any] = {"success": 0.2 + seed, "return": 0.0, "length": 1.0}
        write(
            *(output, "umaze", "iql", seed, [0.9, 0.3, 0.1, None]),
            settings={"online.steps": 200},
            final=dict.fromkeys(("exploration", "combined", "guide"), measures),
        )
    grid.seeds = [0, 1]
    (comparison,) = compare(load_results(grid, output), grid.comparisons, "success")
    assert comparison.step == 200
    # 0.65 and 0.65 on the way against 0.2 and 1.2 at the end.
    assert comparison.probability == 0.5
    assert comparison.difference == pytest.approx(-0.05)


@pytest.mark.parametrize(
    ("first", "second", "turn"),
    [
        ([0.0, 0.5, 0.4, 0.6], [0.1, 0.4, 0.5, 0.5], 30),  # ahead, behind, then for good
        ([0.0, 0.5, 0.4, 0.6], [0.1, 0.4, 0.5, 0.6], None),  # level at the end
        ([0.0, 0.0, 0.4, 0.6], [0.0, 0.1, 0.4, 0.5], 30),  # level is not ahead
        ([0.1, 0.2, 0.3, 0.4], [0.0, 0.1, 0.1, 0.1], 0),  # from the beginning
        ([0.9, 0.9, 0.9, 0.1], [0.1, 0.1, 0.1, 0.2], None),  # behind at the end
        ([0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3], None),  # never apart
        ([0.1 + 0.2, 0.5, 0.5, 0.5], [0.3, 0.4, 0.4, 0.4], 10),  # equal up to rounding
        ([], [0.3], None),
    ],
)
def test_the_order_turns_where_the_first_stays_ahead(
    first: list[float], second: list[float], turn: int | None
) -> None:
    steps = [0, 10, 20, 30]
    assert order_turns(steps[: len(first)], first, steps[: len(second)], second) == turn


def test_the_order_is_told_at_steps_that_both_have() -> None:
    assert order_turns([0, 10, 20], [0.0, 0.9, 0.9], [0, 20, 40], [0.5, 0.5, 1.0]) == 20


def test_records_that_do_not_fit_together_or_are_none_are_refused(
    grid: GridConfig, output: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="has no record of grid 'pointmaze'; run the grid first"):
        write_report(grid, output / "nowhere", COMMAND)
    write(output, "umaze", "iql", 1, [0.5] * 4, settings={"start": "warm"})
    with pytest.raises(UserError, match=r"different settings: start was cold, is warm; delete"):
        write_report(grid, output, COMMAND)
    broken = output / "raw/umaze/iql/seed1.json"
    broken.write_text('{"cell": "umaze"}')
    with pytest.raises(UserError, match=r"seed1\.json: has no arm, curve, .* restore the file"):
        write_report(grid, output, COMMAND)
    broken.write_text('{"cell": ')
    with pytest.raises(UserError, match=r"seed1\.json: cannot be read"):
        write_report(grid, output, COMMAND)


def test_a_final_evaluation_stands_at_the_end_of_the_run(grid: GridConfig, output: Path) -> None:
    results = load_results(grid, output)
    cold = next(result for result in results if result.name == "umaze/jsrl_cold")
    # As if the interval did not divide the run.
    for record in cold.records.values():
        record["settings"]["online.steps"] = 320
    steps, values = means(cold, "success")
    assert steps == [0, 100, 200, 300, 320]
    assert values[-1] == pytest.approx(np.mean(list(COLD.values())))


def test_a_comparison_without_a_cell_is_made_in_every_cell_that_has_both_once(
    grid: GridConfig, output: Path
) -> None:
    grid.comparisons.append(ComparisonConfig("jsrl_cold", "iql"))
    found = compare(load_results(grid, output), grid.comparisons, "success")
    # The second cell has one of the arms; the primary comparison is that of the first.
    assert [(c.first.cell, c.primary) for c in found] == [("umaze", True), ("third", False)]
    assert found[0].seeds == (4, 3) and found[1].seeds == (0, 0)


def test_records_of_different_data_are_not_pooled(grid: GridConfig, output: Path) -> None:
    for seed, data in ((0, "a" * 64), (1, "b" * 64)):
        write(output, "umaze", "iql", seed, [0.5] * 4, guide_from="umaze", dataset=data)
    with pytest.raises(UserError, match=r"learnt from different data .*aaaa and bbbb"):
        load_results(grid, output)
    write(output, "umaze", "iql", 1, [0.5] * 4, guide_from="umaze", dataset="a" * 64)
    # Other settings, other data.
    settings = {"dataset.transitions": 5}
    write(output, "umaze", "jsrl_cold", 0, [0.5] * 4, dataset="b" * 64, settings=settings)
    del grid.arms["iql"], grid.cells[1:]
    for seed in (1, 2, 3):
        write(output, "umaze", "jsrl_cold", seed, [0.5] * 4, settings=settings)
    load_results(grid, output)


def test_a_curriculum_that_needs_no_evaluations_has_no_interval(
    grid: GridConfig, output: Path
) -> None:
    for seed in COLD:
        path = output / f"raw/umaze/jsrl_cold/seed{seed}.json"
        record = json.loads(path.read_text())
        record["settings"]["curriculum.kind"] = "thompson"
        del record["settings"]["curriculum.interval"]
        path.write_text(json.dumps(record))
    results = load_results(grid, output)
    assert protocol(results)["decisions"] is None
    write_report(grid, output, COMMAND)


def test_runs_whose_guide_was_trained_again_are_named(grid: GridConfig, output: Path) -> None:
    for arm in ("jsrl_cold", "iql"):
        for seed in range(4):
            path = output / f"raw/umaze/{arm}/seed{seed}.json"
            record = json.loads(path.read_text())
            guide = json.loads((output / f"raw/umaze/guide/seed{seed}.json").read_text())
            record["final"]["guide"] = guide["final"]["guide"]
            record["guide_from"] = "umaze"
            path.write_text(json.dumps(record))
    grid.cells = grid.cells[:1]
    assert other_guides(load_results(grid, output)) == {}
    assert "trained again" not in write_report(grid, output, COMMAND)
    record["final"]["guide"] = record["final"]["guide"] | {"success": 0.123}
    path.write_text(json.dumps(record))
    assert other_guides(load_results(grid, output)) == {"umaze/iql": [3]}
    assert "trained again" in write_report(grid, output, COMMAND)


def test_published_figures_are_shares_of_one_and_name_their_source() -> None:
    figure = published("antmaze-umaze-diverse-v0", 10_000, "jsrl_curriculum")
    assert figure is not None
    assert (figure.mean, figure.std) == pytest.approx((0.726, 0.122))
    assert figure.source.endswith("Table 1")
    warm = published("antmaze-umaze-diverse-v0", 10_000, "cur_warm")
    assert warm is not None
    assert (warm.mean, warm.std) == pytest.approx((0.268, 0.1203))
    assert warm.source.endswith("Tables 3 to 10")
    single = published("door-binary-v0", 1000, "bc")
    assert single is not None
    assert (single.mean, single.std) == (0.0, None)
    assert published("antmaze-umaze-v0", 2000, "iql") is None
    assert "antmaze-large-diverse-v0" in environments()
    assert {"iql", "bc", "jsrl_random", "rnd_warm"} <= set(columns())
