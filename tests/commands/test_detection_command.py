"""``jsrl detection``: every fault once, resumable, and a report of what was found."""

import csv
import json

import pytest
from small_runs import REACH, call, train_here, write_reach_data

from jsrl.monitor.studies.power import PowerSettings, fault_settings, time_to_detection
from jsrl.monitor.studies.power_records import rejected

QUICK = (
    *("column=0", "other=1", "clean=70", "episodes=6", "interval=4"),
    "layers=inputs|outputs",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = f"dataset.path={write_reach_data(folder / 'data.hdf5')}"
    train_here(folder / "run", *REACH, "dataset=d4rl", "guide=offline", "curriculum=jsrl", data)
    return folder / "run"


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    """A study of seconds."""
    small = PowerSettings(
        permutations=99, rollouts=2, sequences=1, patience=4, watch_permutations=99
    )
    monkeypatch.setattr("jsrl.commands.detection.PowerSettings", lambda rollouts: small)


def test_a_study_goes_on_where_it_was_and_reports(trained, tmp_path, monkeypatch, capfd):
    arguments = ("detection", f"run={trained}", f"output={tmp_path}", *QUICK)
    outcome = call(monkeypatch, capfd, *arguments)
    assert outcome.status == 0, outcome.err
    raw = {path.stem: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    # Reach has no simulator whose masses could be changed: sensors alone.
    assert len(raw) == 1 + 6 * 3 + 1
    report = (tmp_path / "README.md").read_text()
    for part in ("False alarms", "## Power", "Every layer alone", "Time to detection", "Repeat"):
        assert part in report
    with (tmp_path / "power.csv").open() as file:
        steps = list(csv.DictReader(file))
    record = json.loads(raw["stuck-3"])
    told = next(
        r for r in steps if (r["fault"], r["strength"]) == ("stuck", "3") and r["method"] == "joint"
    )
    assert float(told["rejected"]) == rejected(record, "joint", 0.05)
    assert len(record["p_values"]["joint"]) == 2
    # One record is lost: it comes again, the same; the others stay as they are.
    (tmp_path / "raw" / "stuck-3.json").unlink()
    assert call(monkeypatch, capfd, *arguments).status == 0
    again = {path.stem: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    assert json.loads(again.pop("stuck-3"))["p_values"] == record["p_values"]
    assert again == {name: content for name, content in raw.items() if name != "stuck-3"}
    outcome = call(monkeypatch, capfd, *arguments, "interval=2")
    assert outcome.status == 2
    assert "is of other settings" in outcome.err


@pytest.mark.parametrize(
    "mistake, said",
    [
        (("column=9",), "column=9: the observation has columns 0 to 3"),
        (("clean=5",), "clean=5 must be at least 63"),
        (("run=nowhere",), "nowhere"),
        (("which=nobody",), "holds no nobody policy"),
    ],
)
def test_a_mistake_is_told_in_one_line(trained, tmp_path, mistake, said, monkeypatch, capfd):
    outcome = call(
        *(monkeypatch, capfd, "detection", f"run={trained}", f"output={tmp_path}", *QUICK),
        *mistake,
    )
    assert outcome.status == 2, outcome.out
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_strengths_are_in_units_of_the_column():
    found = fault_settings([1.0, 2.0], [0.5, 4.0], 1, 0, ["gear"])
    by_name = {setting.name: setting for setting in found}
    assert by_name["stuck-3"].strength == 14.0
    assert by_name["biased-0.25"].strength == 1.0
    assert by_name["swapped-1"].columns == (1, 0)
    assert by_name["gear-0.7"].columns == ()
    assert "mass-1.1" not in by_name


def test_no_sequence_is_shorter_than_its_patience():
    assert time_to_detection([], [], PowerSettings()) == []
