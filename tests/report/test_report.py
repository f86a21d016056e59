"""The report over run directories, from directories written here by hand."""

import csv
import json

import numpy as np
import pytest
import yaml

from jsrl.core.errors import UserError
from jsrl.loggers import JsonLinesLogger
from jsrl.report import report
from jsrl.report.tables import markdown_table
from jsrl.statistics import summarise

POLICIES = ("guide", "combined", "exploration")


def write_run(directory, seeds, success, experiment="maze", finished=True, **settings):
    """A run directory whose exploration-policy had ``success`` (one a seed) at its end."""
    directory.mkdir(parents=True)
    config = {
        "experiment": experiment,
        "seeds": list(seeds),
        "run_dir": str(directory),
        "device": "cpu",
        "threads": len(seeds),
        "learner": {"temperature": 3.0, "hidden": [256, 256]},
    } | settings
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = JsonLinesLogger(directory / "metrics.jsonl", seeds)
    for step in (0, 500, 1000):
        finite = [np.nan if value is None else value for value in success]
        metrics.log(step, "online", {"evaluation/exploration_success": finite})
    metrics.close()
    if finished:
        (directory / "summary.json").write_text(json.dumps(summary_of(seeds, success, experiment)))
    return directory


def summary_of(seeds, success, experiment="maze"):
    exploration = {
        "return": summarise([None if v is None else 10 * v for v in success]),
        "success": summarise(success),
        "length": summarise([None if v is None else 40.0 for v in success]),
        "normalized_score": summarise([None for _ in success]),
    }
    other = {name: summarise([0.5 for _ in success]) for name in ("return", "success", "length")}
    return {
        "experiment": experiment,
        "seeds": list(seeds),
        "env_steps": 1000,
        "updates": 1500,
        "wall_seconds": 12.5,
        "updates_per_second": 120.0,
        "env_steps_per_second": 80.0,
        "versions": {"python": "3.11.7", "torch": "2.6.0"},
        "guide_steps": [0 if value is not None else None for value in success],
        "failed_seeds": [s for s, v in zip(seeds, success, strict=True) if v is None],
        "evaluation": {"guide": other, "combined": other, "exploration": exploration},
    }


def cells(table):
    """The body of a Markdown table, as a list of rows."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]
    ]


def test_seeds_are_pooled_over_run_directories(tmp_path):
    first = write_run(tmp_path / "a", [0, 1], [0.2, 0.4])
    second = write_run(tmp_path / "b", [2], [0.9])
    table = report([first, second], tmp_path / "out")
    rows = cells(table)
    assert [row[:4] for row in rows] == [["maze", "3", "1000", policy] for policy in POLICIES]
    # The mean of 0.2, 0.4, 0.9; the bootstrap's ends are three times the lowest and the highest
    # value, each with probability 1/27, more than the 2.5 % that are cut.
    assert rows[2][4] == "0.50 (0.50) [0.20, 0.90]"
    assert rows[2][5] == "5 (5) [2, 9]"
    assert rows[2][6] == "40.0 (40.0) [40.0, 40.0]"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "learning_curves.png",
        "report.csv",
        "report.md",
    ]


def test_the_files_hold_the_raw_numbers_versions_and_the_command(tmp_path):
    run = write_run(tmp_path / "a", [0, 1], [0.25, None])
    table = report([run], tmp_path / "out", command="jsrl report a")
    text = (tmp_path / "out" / "report.md").read_text()
    assert table in text
    for part in ("torch", "2.6.0", "12.5", "jsrl report a", "learning_curves.png"):
        assert part in text
    rows = list(csv.DictReader((tmp_path / "out" / "report.csv").open()))
    explored = [row for row in rows if row["policy"] == "exploration"]
    assert [row["seed"] for row in explored] == ["0", "1"]
    assert [row["success"] for row in explored] == ["0.25", ""]
    assert [row["failed"] for row in explored] == ["no", "yes"]
    assert [row["guide_steps"] for row in explored] == ["0", ""]
    assert {row["normalized_score"] for row in explored} == {""}
    assert cells(table)[0][1] == "2 (1 failed)"
    assert cells(table)[2][4] == "0.25"  # one finite value: no interval


def test_the_default_command_repeats_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "my runs", [0], [1.0])
    report([tmp_path / "my runs"], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"jsrl report '{tmp_path / 'my runs'}' output={tmp_path / 'out'}" in text


def test_a_directory_of_a_multirun_is_searched_and_each_run_counts_once(tmp_path):
    write_run(tmp_path / "multirun" / "0", [0], [1.0])
    write_run(tmp_path / "multirun" / "1", [1], [0.0])
    hydra = tmp_path / "multirun" / "0" / ".hydra"
    hydra.mkdir()
    (hydra / "config.yaml").write_text("experiment: hidden")
    (hydra / "summary.json").write_text("{}")
    given = [tmp_path / "multirun", tmp_path / "multirun" / "1", tmp_path / "multirun"]
    rows = cells(report(given, tmp_path / "out"))
    assert [row[1] for row in rows] == ["2", "2", "2"]


def test_runs_with_other_settings_are_kept_apart(tmp_path):
    first = write_run(tmp_path / "a", [0], [1.0], learner={"temperature": 3.0})
    second = write_run(tmp_path / "b", [0], [0.0], learner={"temperature": 10.0})
    other = write_run(tmp_path / "c", [0], [0.5], experiment="reach")
    rows = cells(report([first, second, other], tmp_path / "out"))
    assert [row[0] for row in rows[::3]] == [
        "maze (learner.temperature=3.0)",
        "maze (learner.temperature=10.0)",
        "reach",
    ]
    assert [row[4] for row in rows[2::3]] == ["1.00", "0.00", "0.50"]


def test_many_differing_settings_are_listed_below_not_in_the_label(tmp_path):
    first = write_run(tmp_path / "a", [0], [1.0], learner={"x": 1, "y": 1, "z": 1})
    second = write_run(tmp_path / "b", [0], [0.0], learner={"x": 2, "y": 2, "w": 2})
    rows = cells(report([first, second], tmp_path / "out"))
    assert [row[0] for row in rows[::3]] == ["maze #1", "maze #2"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "maze #2: `learner.w=2`, `learner.x=2`, `learner.y=2`, `learner.z=None`" in text


def test_a_seed_that_appears_twice_is_refused_with_both_directories(tmp_path):
    first = write_run(tmp_path / "a", [0, 1], [1.0, 1.0])
    second = write_run(tmp_path / "b", [1], [1.0])
    with pytest.raises(UserError) as error:
        report([first, second], tmp_path / "out")
    message = str(error.value)
    assert "seed 1" in message
    assert str(first) in message
    assert str(second) in message
    assert not (tmp_path / "out").exists()


def test_unfinished_runs_are_listed_and_not_counted(tmp_path):
    done = write_run(tmp_path / "a", [0], [1.0])
    cut = write_run(tmp_path / "b", [1], [0.0], finished=False)
    printed = report([done, cut], tmp_path / "out")
    assert (
        f"not finished, not counted: maze, seeds 1, at 1000 environment steps (online) ({cut})"
        in (printed)
    )
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Not finished" in text
    assert str(cut) in text
    assert cells(printed)[0][1] == "1"


def test_only_unfinished_runs_are_refused(tmp_path):
    cut = write_run(tmp_path / "b", [1], [0.0], finished=False)
    with pytest.raises(UserError, match="not finished"):
        report([cut], tmp_path / "out")


def test_directories_without_runs_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "config.yaml").write_text("defaults: []")
    with pytest.raises(UserError, match="none: no such directory"):
        report([tmp_path / "none"], tmp_path / "out")
    for name in ("empty", "configs"):
        with pytest.raises(UserError, match=f"{name}: not a run directory"):
            report([tmp_path / name], tmp_path / "out")
    with pytest.raises(UserError, match="no run directory given"):
        report([], tmp_path / "out")


def without(summary, key):
    return {name: value for name, value in summary.items() if name != key}


def with_measure(value):
    summary = summary_of([0], [1.0])
    summary["evaluation"]["guide"] = {"success": value}
    return summary


GOOD = summary_of([0], [1.0])


@pytest.mark.parametrize(
    ("summary", "named"),
    [
        ("{", "cannot be read"),
        ([], "expected an object"),
        (without(GOOD, "env_steps"), "env_steps"),
        (without(GOOD, "evaluation"), "evaluation"),
        (GOOD | {"updates": "many"}, "'updates' is 'many'"),
        (GOOD | {"seeds": 0}, "'seeds' is 0"),
        (GOOD | {"versions": []}, "versions"),
        (GOOD | {"evaluation": []}, "evaluation"),
        (GOOD | {"evaluation": {"guide": []}}, "evaluation"),
        (GOOD | {"guide_steps": [1, 2]}, "guide_steps"),
        (with_measure({"per_seed": [1.0, 2.0]}), r"evaluation\.guide\.success\.per_seed"),
        (with_measure({"per_seed": ["high"]}), r"evaluation\.guide\.success\.per_seed"),
        (with_measure({}), r"evaluation\.guide\.success\.per_seed"),
        (with_measure(3), "evaluation"),
    ],
)
def test_a_corrupt_summary_is_one_line_that_names_the_file(tmp_path, summary, named):
    run = write_run(tmp_path / "a", [0], [1.0])
    text = summary if isinstance(summary, str) else json.dumps(summary)
    (run / "summary.json").write_text(text)
    with pytest.raises(UserError, match=named) as error:
        report([run], tmp_path / "out")
    assert str(run / "summary.json") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config", ["a: [", "- 1", "experiment: x", "experiment: x\nseeds: 3", "\0"]
)
def test_a_corrupt_configuration_is_one_line_that_names_the_file(tmp_path, config):
    run = write_run(tmp_path / "a", [0], [1.0])
    (run / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=r"config\.yaml: ") as error:
        report([run], tmp_path / "out")
    assert "\n" not in str(error.value)


def test_a_finished_run_without_its_metrics_is_refused(tmp_path):
    run = write_run(tmp_path / "a", [0], [1.0])
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read"):
        report([run], tmp_path / "out")


def test_undefined_measures_and_scores(tmp_path):
    summary = summary_of([0, 1], [1.0, 0.0])
    summary["evaluation"]["guide"] = None
    summary["evaluation"]["combined"] = {"success": None}
    summary["evaluation"]["exploration"]["normalized_score"] = summarise([80.0, 60.0])
    run = write_run(tmp_path / "a", [0, 1], [1.0, 0.0])
    (run / "summary.json").write_text(json.dumps(summary))
    table = report([run], tmp_path / "out")
    assert "normalized score" in table.splitlines()[0]
    guide, combined, exploration = (row[4:] for row in cells(table))
    assert guide == combined == ["-"] * 4
    assert exploration[3] == "70.0 (70.0) [60.0, 80.0]"


def test_an_unwritable_output_is_a_user_error(tmp_path):
    run = write_run(tmp_path / "a", [0], [1.0])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        report([run], tmp_path / "file" / "out")


def test_tables_are_aligned_and_escape_bars():
    assert markdown_table(["a", "long"], [["x|y", "1"]]) == (
        "| a    | long |\n|------|------|\n| x\\|y | 1    |"
    )
