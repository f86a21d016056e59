"""The bar of a grid, ``grid.never_behind``, against numbers worked out by hand."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grid_records import job, write

from jsrl.core.errors import UserError
from jsrl.grid.advantage import all_arms
from jsrl.grid.config import CellConfig, GridConfig, NeverBehindConfig
from jsrl.grid.never_behind import area_under_curve, hold_to_bar
from jsrl.grid.plan import check_grid
from jsrl.grid.report import write_report
from jsrl.grid.results import load_results

BAR = NeverBehindConfig("jsrl_cold", ["iql", "no_guide"], at=[0.4, 1.0], over="iql")
CURVES = {
    # At step 100, the last evaluation up to 0.4 of 300, and at the end.
    ("even", "jsrl_cold"): [(0.0, 0.6, 0.7, 0.8), (0.0, 0.6, 0.7, 0.8)],
    ("even", "iql"): [(0.2, 0.4, 0.5, 0.8), (0.2, 0.5, 0.5, 0.8)],
    ("even", "no_guide"): [(0.0, 0.6, 0.2, 0.1), (0.0, 0.6, 0.2, 0.1)],
    ("behind", "jsrl_cold"): [(0.0, 0.1, 0.2, 0.3), (0.0, 0.1, 0.2, 0.3)],
    ("behind", "iql"): [(0.2, 0.1, 0.1, 0.1), (0.2, 0.1, 0.3, 0.1)],
    ("behind", "no_guide"): [(0.0, 0.1, 0.2, 0.4), (0.0, 0.1, 0.2, 0.4)],
}
GUIDES = {"even": 0.25, "behind": 0.75}


@pytest.fixture
def grid() -> GridConfig:
    grid = job("grid=pointmaze", "grid.seeds=[0,1]").grid
    grid.never_behind, grid.comparisons = replace(BAR), []
    grid.cells = [CellConfig(cell) for cell in GUIDES]
    return grid


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for (cell, arm), curves in CURVES.items():
        for seed, curve in enumerate(curves):
            record(tmp_path, cell, arm, seed, list(curve))
    return tmp_path


def record(output: Path, cell: str, arm: str, seed: int, curve: list[Any], **more: Any) -> None:
    def measures(value: float) -> dict[str, Any]:
        return {"success": value, "return": value, "length": 1.0, "normalized_score": None}

    final = {policy: measures(curve[-1]) for policy in ("exploration", "combined")}
    final["guide"] = measures(GUIDES[cell])
    write(output, cell, arm, seed, curve, **({"final": final} | more))


def held(grid: GridConfig, output: Path, **changes: Any) -> Any:
    bar = replace(grid.never_behind, **changes)
    return hold_to_bar(load_results(grid, output), bar, "success")


def test_the_best_baseline_of_each_point_counts(grid: GridConfig, output: Path) -> None:
    found = held(grid, output)
    shown = [
        (s.cell, s.step, s.best.arm, round(s.difference, 9), s.interval, s.holds)
        for s in found.standings
    ]
    assert shown == [
        ("even", 100, "no_guide", 0.0, [0.0, 0.0], True),  # 0.6 against 0.45 and 0.6
        ("even", 300, "iql", 0.0, [0.0, 0.0], True),
        ("behind", 100, "iql", 0.0, [0.0, 0.0], True),
        ("behind", 300, "no_guide", -0.1, [pytest.approx(-0.1)] * 2, False),
    ]
    assert found.is_never_behind is False
    assert held(grid, output, margin=0.1).is_never_behind is True
    # At step 100 all pairs of the first cell are won, in the second all are level.
    assert [i.probability for i in found.improvements] == [1.0, 0.5]
    assert [i.reached for i in found.improvements] == [True, False]
    assert found.improves is True
    assert held(grid, output, improvement_cells=0.6).improves is False
    assert held(grid, output, improvement_at=1.0).improves is True  # level, and 0.3 against 0.1


def test_it_is_the_lower_end_of_the_interval_that_counts(grid: GridConfig, output: Path) -> None:
    for seed, last in enumerate((0.7, 0.9)):
        record(output, "even", "jsrl_cold", seed, [0.0, 0.6, 0.7, last])
    standing = held(grid, output).standings[1]
    assert standing.difference == pytest.approx(0)
    # A quarter of the resamples are 0.7 twice: beyond what Student's t of one degree cuts off.
    assert standing.interval == pytest.approx([-0.1, 0.1])
    assert standing.holds is False
    assert held(grid, output, margin=0.1).standings[1].holds is True


def test_what_is_missing_leaves_it_open_and_what_failed_does_not(
    grid: GridConfig, output: Path
) -> None:
    (output / "raw/behind/iql/seed1.json").unlink()
    found = held(grid, output, margin=0.2)
    assert [s.holds for s in found.standings] == [True, True, None, None]
    assert found.is_never_behind is None
    assert found.improvements[1].reached is None
    assert found.improves is True  # half of the cells are enough
    record(output, "behind", "jsrl_cold", 1, [0.0, 0.1, None, None], failed=True)
    found = held(grid, output, margin=0.2)
    assert [s.holds for s in found.standings] == [True, True, False, False]
    assert found.is_never_behind is False
    record(output, "behind", "jsrl_cold", 0, [0.0, 0.1, None, None], failed=True)
    found = held(grid, output, margin=0.2)
    assert [s.holds for s in found.standings] == [True, True, False, False]
    assert found.improvements[1].reached is False
    (output / "raw/even/jsrl_cold/seed0.json").unlink()
    (output / "raw/even/jsrl_cold/seed1.json").unlink()
    (first, _, *_) = held(grid, output).standings
    assert (first.means, first.holds) == (None, None)


def test_all_arms_have_their_area_and_their_advantage(grid: GridConfig, output: Path) -> None:
    for seed in (0, 1):
        short = {"settings": {"online.steps": 100}}
        record(output, "behind", "no_guide", seed, [0.0, 0.1, None, 0.1], **short)
    results = load_results(grid, output)
    bar = replace(BAR, baselines=["iql"])
    arms = {(a.result.cell, a.result.arm): a for a in all_arms(results, bar, "success")}
    assert len(arms) == 6
    cold = arms["even", "jsrl_cold"]
    # (0 + 0.6)/2, (0.6 + 0.7)/2 and (0.7 + 0.8)/2 over three equal stretches.
    assert cold.area.mean == pytest.approx((0.3 + 0.65 + 0.75) / 3)
    assert area_under_curve(cold.result, "success", 100) == pytest.approx([0.3, 0.3])
    assert (cold.guide.mean, cold.steps) == (0.25, [100, 300])
    assert [estimate.mean for estimate in cold.at] == [0.6, 0.8]
    assert arms["behind", "jsrl_cold"].advantage.mean == pytest.approx(0.2)
    assert arms["even", "iql"].advantage is None
    # Runs that are over by then say nothing of it.
    assert [e.mean for e in arms["behind", "no_guide"].at] == [pytest.approx(0.1), None]
    assert arms["behind", "no_guide"].area.mean is None


def test_the_report_shows_the_bar_its_tables_and_the_figure(grid: GridConfig, output: Path) -> None:
    write_report(grid, output, "jsrl grid grid=pointmaze")
    text = (output / "README.md").read_text()
    assert "## Is JSRL-Curriculum, cold start ever behind?" in text
    assert "at 40 % and 100 % of the online steps" in text
    assert "**It does not hold.**" in text
    assert "**It holds.** It is so in 1 of 2 cells." in text
    assert "-0.10 [-0.10, -0.10] | no " in text
    assert "(advantage.png)" in text and (output / "advantage.png").stat().st_size > 1000
    with (output / "never_behind.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["holds"] for row in rows] == ["yes", "yes", "yes", "no"]
    assert float(rows[3]["difference"]) == pytest.approx(-0.1)
    with (output / "arms.csv").open(newline="") as file:
        assert [row["guide"] for row in csv.DictReader(file)] == ["0.25"] * 3 + ["0.75"] * 3
    grid.never_behind = NeverBehindConfig()
    write_report(grid, output, "jsrl grid grid=pointmaze")
    assert "ever behind" not in (output / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": "jsrl"}, "grid.never_behind.arm: 'jsrl' is unknown; did you mean jsrl_cold?"),
        ({"over": "iq"}, "grid.never_behind.over: 'iq' is unknown; did you mean iql?"),
        ({"baselines": []}, "grid.never_behind.baselines is not set; name the arms"),
        ({"baselines": ["iql", "iql"]}, "grid.never_behind.baselines has 'iql' twice"),
        ({"baselines": ["jsrl_cold"]}, "baselines has jsrl_cold, which is the arm that is held"),
        ({"margin": -0.1}, "grid.never_behind.margin=-0.1 must be a number of at least 0"),
        ({"margin": float("nan")}, "grid.never_behind.margin=nan must be a number"),
        ({"at": []}, "grid.never_behind.at has no point"),
        ({"at": [1.0, 0.5]}, "grid.never_behind.at=[1.0, 0.5] must rise"),
        ({"at": [0.5, 1.5]}, "grid.never_behind.at has 1.5, which must lie in (0, 1]"),
        ({"improvement": 1.2}, "grid.never_behind.improvement=1.2 must lie in [0, 1]"),
        ({"improvement_at": 0.0}, "grid.never_behind.improvement_at has 0.0"),
    ],
)
def test_a_bar_that_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    config = job("grid=pointmaze")
    config.grid.never_behind = replace(BAR, **changes)
    with pytest.raises(UserError) as error:
        check_grid(config)
    assert message in str(error.value)


def test_a_bar_that_does_not_fit_the_grid_is_refused() -> None:
    config = job(
        "grid=pointmaze",
        "grid.never_behind={arm:jsrl_cold,baselines:[iql],over:iql,margin:0.1}",
    )
    assert config.grid.never_behind == NeverBehindConfig("jsrl_cold", ["iql"], 0.1, over="iql")
    check_grid(config)
    config.grid.arms["iql"].policy = "combined"
    with pytest.raises(UserError, match=r"baselines has iql, whose policy is combined"):
        check_grid(config)
    config.grid.arms["iql"].policy, config.grid.measure = "exploration", "length"
    with pytest.raises(UserError, match=r"grid\.measure=length is not known; use .*success or ret"):
        check_grid(config)
    config.grid.comparisons = []
    config.grid.measure, config.grid.cells[0].arms = "success", ["jsrl_cold", "no_guide"]
    with pytest.raises(UserError, match=r"needs a cell with the arm jsrl_cold, with iql"):
        check_grid(config)
