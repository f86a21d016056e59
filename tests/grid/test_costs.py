"""Evaluations that steer training counted as training is, against numbers worked out by hand."""

from pathlib import Path

import pytest
from grid_records import job, write

from jsrl.grid.config import GridConfig
from jsrl.grid.costs import costs
from jsrl.grid.report import write_report
from jsrl.grid.results import cell_results, load_results

SPENT = {
    **{"guide_episodes": 10, "guide_env_steps": 500},
    **{"decision_episodes": 6, "decision_env_steps": 240},
    **{"report_episodes": 8, "report_env_steps": 400},
    **{"step": [0, 100, 200, 300], "episodes": [0, 2, 4, 6], "env_steps": [0, 80, 160, 240]},
}
NOTHING = {
    **{name: 0 for name in SPENT if "_" in name},
    **{"step": [], "episodes": [], "env_steps": []},
}


@pytest.fixture
def grid() -> GridConfig:
    grid = job("grid=pointmaze", "grid.seeds=[0,1]").grid
    grid.comparisons = []
    return grid


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for seed in (0, 1):
        more = seed / 10
        curve = [0.0, 0.2 + more, 0.5, 0.9]
        # The second seed spends less, and comes further: 200 and 90 are within 300, not 160.
        own = SPENT | {"env_steps": [0, 80, 90 if seed else 160, 240]}
        write(tmp_path, "umaze", "jsrl_cold", seed, curve, evaluation_cost=own)
        write(tmp_path, "umaze", "iql", seed, [0.1, 0.2, 0.3, 0.4 + more])
        write(tmp_path, "umaze", "no_guide", seed, [0.0] * 4, evaluation_cost=NOTHING)
    return tmp_path


def test_arms_are_compared_where_the_cheapest_ends(grid: GridConfig, output: Path) -> None:
    found = {c.result.arm: c for c in costs(load_results(grid, output), "success")}
    assert {cost.budget for cost in found.values()} == {300}
    cold = found["jsrl_cold"]
    assert (cold.guide_episodes, cold.decision_episodes, cold.decision_steps) == (10, 6, 240)
    assert cold.values == [0.2, 0.5]
    assert cold.trained == (100 + 200) / 2
    # Without decisions it is the final evaluation, also of a record that does not say so.
    assert (found["iql"].values, found["iql"].trained) == ([0.4, 0.5], 300)
    assert found["no_guide"].decision_steps == 0
    assert costs(load_results(grid, output), "length") == []


def test_records_of_earlier_versions_are_told_from_those_that_cost_nothing(
    grid: GridConfig, output: Path
) -> None:
    write(output, "umaze", "jsrl_cold", 1, [0.0, 0.2, 0.5, 0.9])
    found = costs(cell_results(load_results(grid, output), "umaze"), "success")
    assert [cost.result.arm for cost in found] == ["iql", "no_guide"]
    for seed in (0, 1):
        write(output, "umaze", "jsrl_cold", seed, [0.0, 0.2, 0.5, 0.9])
        write(output, "umaze", "no_guide", seed, [0.0] * 4)
    assert costs(load_results(grid, output), "success") == []
    write_report(grid, output, "jsrl grid grid=pointmaze")
    assert "counted as cost" not in (output / "README.md").read_text()


def test_the_report_has_a_second_table(grid: GridConfig, output: Path) -> None:
    write_report(grid, output, "jsrl grid grid=pointmaze")
    text = " ".join((output / "README.md").read_text().split())
    assert "## Evaluation episodes counted as cost" in text
    assert "JSRL-Curriculum, cold start (`jsrl_cold`) | 10 | 6 | 240 | 300 | 150 | 0.35 [" in text
