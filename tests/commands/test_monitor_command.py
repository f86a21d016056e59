"""``jsrl monitor`` on a run: exit status, violations, the page, and mistakes."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_runs import REACH, call, train_here, write_reach_data

from jsrl.monitor.capture.recording_writer import RecordingWriter
from jsrl.monitor.capture.steps import WatchedSteps

SMALL = (
    *REACH,
    "dataset=d4rl",
    "guide=offline",
    "curriculum=jsrl",
    "online.steps=200",
    "monitor=on",
    "monitor.trusted=40",
    "monitor.interval=1",
    "monitor.permutations=12000",
)
# Fewer episodes for a quick test: 3 of 43 in 12,341 ways, a level that these can reach.
QUICK = ("monitor.reference=40", "episodes=6", "monitor.horizon=100", "monitor.rate_tests=10")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_here(folder / "run", *SMALL, f"dataset.path={write_reach_data(folder / 'data.hdf5')}")
    return folder / "run"


def violations(folder: Path):
    return json.loads((folder / "violations.json").read_text())


def test_good_episodes_raise_no_alarm(trained, tmp_path, monkeypatch, capfd) -> None:
    outcome = call(monkeypatch, capfd, "monitor", f"run={trained}", f"output={tmp_path}", *QUICK)
    assert outcome.status == 0, outcome.err
    assert "no alarm in 6 tests. Where nothing is wrong, any alarm at all in 100" in outcome.out
    found = violations(tmp_path)
    assert not found["alarm"]
    assert found["first_alarm_episode"] is None
    assert len(found["checks"]) == 6
    assert {layer["layer"] for layer in found["layers"]} == {
        *("inputs", "mlp.activation_0", "mlp.activation_1", "outputs")
    }


def test_a_sensor_that_is_stuck_ends_in_an_alarm_and_exit_status_1(
    trained, tmp_path, monkeypatch, capfd
) -> None:
    fault = ("fault.kind=stuck", "fault.columns=[0]", "fault.strength=5")
    outcome = call(
        monkeypatch, capfd, "monitor", f"run={trained}", f"output={tmp_path}", *QUICK, *fault
    )
    assert outcome.status == 1, outcome.out + outcome.err
    assert "ALARM" in outcome.out
    found = violations(tmp_path)
    assert found["alarm"]
    # A window of three episodes.
    assert found["checks"][2]["alarm"]
    assert found["of"]["fault"] == "stuck, columns [0], strength 5"
    # The page, the line and the file count alike.
    alarms = [check["alarm"] for check in found["checks"]]
    number = alarms.index(True) + 1
    assert found["first_alarm_test"] == number
    told = f"test {number}, after the episode with the number {found['first_alarm_episode']}"
    assert told in (tmp_path / "report.html").read_text()
    assert told.replace(",", "") in outcome.out
    # Columns bear their names: what moved most is the one that is stuck.
    assert found["columns"][0]["column"] == 0
    assert found["columns"][0]["name"] == "observation[0]"
    assert "observation[0] (column 0)" in (tmp_path / "report.html").read_text()
    assert 0 < len(found["violations"]) <= 100
    for violation in found["violations"]:
        assert set(violation) == {"step", "episode", "time", "score", "p_value", "layer"}
        assert 0 < violation["p_value"] <= 1
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched from elsewhere
    for part in (
        "Alarm",
        "Timeline",
        "Layers",
        "unusual steps",
        "Embedding",
        "data:image/png",
    ):
        assert part in page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no headless browser here")
def test_the_page_is_shown_by_a_real_browser(trained, tmp_path, monkeypatch, capfd) -> None:
    call(monkeypatch, capfd, "monitor", f"run={trained}", f"output={tmp_path}", *QUICK)
    page = f"file://{tmp_path}/report.html"
    browser = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
    ]
    done = subprocess.run(
        [*browser, "--dump-dom", page], capture_output=True, text=True, timeout=120, check=True
    )
    assert "No alarm" in done.stdout
    assert done.stdout.count("<img") == 2


def test_a_recording_can_be_looked_at_afterwards(trained, tmp_path, monkeypatch, capfd) -> None:
    recording = trained / "monitor" / "recording"
    outcome = call(
        *(monkeypatch, capfd, "monitor", f"run={trained}", f"output={tmp_path}", *QUICK),
        *(f"data={recording}", "phase=evaluation"),
    )
    assert outcome.status in (0, 1), outcome.err
    assert violations(tmp_path)["of"]["data"] == str(recording)


def test_a_growing_recording_is_looked_at_again_until_an_alarm(
    trained, tmp_path, monkeypatch, capfd
) -> None:
    reference = trained / "monitor" / "reference"
    growing = tmp_path / "growing"
    shutil.copytree(reference, growing)
    slept = []

    def grow(seconds: float) -> None:
        slept.append(seconds)
        assert len(slept) < 4, "it looks at the same again and again"
        sizes = json.loads((growing / "recording.json").read_text())["layers"]
        writer = RecordingWriter(growing, sizes)
        for number in range(8):
            observations = np.full((10, 4), 5.0, np.float32)
            count = np.zeros(10, np.int64)
            steps = WatchedSteps(
                *(observations, observations[:, :2], count, count + 1000 + number),
                *(np.arange(10), count + 3, count - 1, count + 1, count),
            )
            writer.add(steps, {n: np.zeros((10, size), np.float32) for n, size in sizes.items()})
        writer.complete()

    monkeypatch.setattr("time.sleep", grow)
    outcome = call(
        *(monkeypatch, capfd, "monitor", f"run={trained}", f"output={tmp_path}", *QUICK),
        *(f"data={growing}", "monitor.every=7", "monitor.stride=3"),
    )
    assert outcome.status == 1, outcome.err
    assert slept == [7.0]
    assert outcome.out.count("no alarm") == 1


def test_a_run_without_a_reference_can_be_given_one(trained, tmp_path, monkeypatch, capfd) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "monitor")
    outcome = call(monkeypatch, capfd, "monitor", f"run={run}", *QUICK)
    assert outcome.status == 2
    assert "has no reference" in outcome.err
    assert "data=trusted" in outcome.err
    outcome = call(
        monkeypatch, capfd, "monitor", f"run={run}", "data=trusted", "monitor.trusted=40"
    )
    assert outcome.status == 0, outcome.err
    assert call(monkeypatch, capfd, "monitor", f"run={run}", *QUICK).status == 0


@pytest.mark.parametrize(
    "mistake, said",
    [
        (("monitor.layers=nothing",), "monitor.layers='nothing' matches no layer"),
        (("data=nowhere",), "data='nowhere' does not exist"),
        (("seed=9",), "has no seed 9"),
        (("fault.kind=broken",), "fault.kind='broken' is unknown"),
        (("fault.kind=stuck", "fault.columns=[7]"), "the observation has columns 0 to 3"),
        (("monitor.every=5",), "monitor.every=5.0 repeats a look at a growing recording"),
        (("monitor.level=2",), "monitor.level=2.0 must lie between 0 and 1"),
        (("monitor.rows_per_episode=1",), "monitor.rows_per_episode=1 must be at least 2"),
        (("monitor.time_bins=[5,2]",), "monitor.time_bins=[5, 2]"),
        (("monitor.windw=2",), "did you mean monitor.window"),
        (("episodes=0",), "episodes=0"),
        (("key=-1",), "key=-1 is out of range; seeds are from 0 to 9223372036854775807"),
        (("fault.kind=noisy", "fault.columns=[0]", f"fault.seed={2**70}"), "fault.seed=11805916"),
        (("data=trusted", "fault.kind=stuck", "fault.columns=[0]"), "leave out fault.kind"),
    ],
)
def test_a_mistake_is_told_in_one_line(trained, mistake, said, monkeypatch, capfd) -> None:
    outcome = call(monkeypatch, capfd, "monitor", f"run={trained}", *QUICK, *mistake)
    assert outcome.status == 2, outcome.out
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_recording_of_another_network_is_refused(trained, tmp_path, monkeypatch, capfd) -> None:
    other = tmp_path / "other"
    writer = RecordingWriter(other, {"inputs": 4, "mlp.activation_0": 99})
    count = np.zeros(3, np.int64)
    steps = WatchedSteps(np.zeros((3, 4), np.float32), np.zeros((3, 2), np.float32), *[count] * 7)
    layers = {"inputs": steps.observations, "mlp.activation_0": np.zeros((3, 99), np.float32)}
    writer.add(steps, layers)
    writer.complete()
    outcome = call(monkeypatch, capfd, "monitor", f"run={trained}", *QUICK, f"data={other}")
    assert outcome.status == 2
    assert "is a recording of another network" in outcome.err
    assert "mlp.activation_0 (99)" in outcome.err


def test_data_of_another_environment_are_refused(trained, tmp_path, monkeypatch, capfd) -> None:
    writer = RecordingWriter(tmp_path / "other", {"inputs": 7})
    count = np.zeros(3, np.int64)
    steps = WatchedSteps(np.zeros((3, 7), np.float32), np.zeros((3, 2), np.float32), *[count] * 7)
    writer.add(steps, {"inputs": steps.observations})
    writer.complete()
    outcome = call(
        monkeypatch, capfd, "monitor", f"run={trained}", *QUICK, f"data={tmp_path / 'other'}"
    )
    assert outcome.status == 2
    assert "observations of size 7; the policy expects 4" in outcome.err


def test_no_run_is_told(tmp_path, monkeypatch, capfd) -> None:
    outcome = call(monkeypatch, capfd, "monitor", f"run={tmp_path}")
    assert outcome.status == 2
    assert "is no run directory" in outcome.err


def test_a_fault_of_the_monitor_itself_is_no_alarm(trained, monkeypatch, capfd) -> None:
    def broken(job: object) -> bool:
        raise ZeroDivisionError("of the monitor")

    monkeypatch.setattr("jsrl.commands.monitor.run_monitor", broken)
    outcome = call(monkeypatch, capfd, "monitor", f"run={trained}")
    assert outcome.status == 3
    assert "ZeroDivisionError: of the monitor" in outcome.err
