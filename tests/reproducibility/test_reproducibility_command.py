"""``jsrl reproducibility`` from end to end: sweeps, restarts, reports, and what is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import REACH, TINY, Outcome, call, write_reach_data
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jsrl.reproducibility.cell_file import RECORD

SUPERVISED = (
    *("reproducibility", "supervised.task=smooth_teacher", "supervised.hidden=[16]"),
    *("supervised.updates=40", "supervised.churn_updates=10", "replicas=3", "run_dir=sweep"),
    "logger.progress=false",
)
SWEPT = ("activation=relu,smelu_0.5", "activation.layer_norm=false,true")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def jsrl(here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> Outcome:
        return call(monkeypatch, capfd, *arguments)

    return command


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return found


def test_a_sweep_is_measured_reported_and_repeated_without_work(here: Path, jsrl: Any) -> None:
    outcome = jsrl(*SUPERVISED, *SWEPT)
    assert outcome.status == 0, outcome
    folder = here / "sweep" / "smooth_teacher"
    cells = {"relu_all", "relu_norm_all", "smelu-beta-0.5_all", "smelu-beta-0.5_norm_all"}
    assert {path.parent.name for path in folder.glob(f"*/{RECORD}")} == cells
    found = record(folder / "smelu-beta-0.5_norm_all")
    assert found["activation"] == {"actor": {"name": "smelu", "beta": 0.5}}
    assert found["layer_norm"] is True and found["level"] == "all"
    pairs = np.array(found["differences"]["held_out/prediction"]["pairs"])
    assert pairs.shape == (3, 3) and pairs[0, 1] > 0 and found["failed"] == []
    text = (folder / "README.md").read_text()
    assert "jsrl reproducibility supervised.task=smooth_teacher " in text
    assert "smelu(beta=0.5)" in text and "plane.png" in text and "3 replicas" in text
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert len(rows) == 4 * 2
    smooth = next(r for r in rows if r["activation"] != "relu" and r["layer_norm"] == "false")
    relu = next(r for r in rows if r["activation"] == "relu" and r["layer_norm"] == "false")
    ratio = float(smooth["difference"]) / float(relu["difference"])
    assert float(smooth["ratio"]) == pytest.approx(ratio, rel=1e-4)
    assert float(smooth["ratio_low"]) <= ratio <= float(smooth["ratio_high"])
    for name in ("plane.png", "activations.png", "slices.png"):
        assert (folder / name).stat().st_size > 5000
    events = EventAccumulator(str(folder / "tensorboard" / "relu_all")).Reload()
    assert "difference/held_out/prediction" in events.Tags()["scalars"]
    hparams = events.SummaryMetadata("_hparams_/experiment").plugin_data.plugin_name
    assert hparams == "hparams"
    before = (folder / "relu_all" / RECORD).stat().st_mtime_ns
    again = jsrl(*SUPERVISED, *SWEPT)
    assert again.status == 0 and again.out.count("finished: nothing to do") == 4
    assert (folder / "relu_all" / RECORD).stat().st_mtime_ns == before


def test_pairs_of_activations_have_the_same_draws(here: Path, jsrl: Any) -> None:
    """A SmeLU of width 0 is ReLU: trained from the same draws it gives the same numbers."""
    flat = "activation.beta=0"
    assert jsrl(*SUPERVISED, "activation=relu").status == 0
    assert jsrl(*SUPERVISED, "activation=smelu", flat).status == 0
    folder = here / "sweep" / "smooth_teacher"
    relu, smelu = record(folder / "relu_all"), record(folder / "smelu-beta-0_all")
    for name, difference in relu["differences"].items():
        np.testing.assert_allclose(
            smelu["differences"][name]["pairs"], difference["pairs"], rtol=1e-5, atol=1e-7
        )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reach_data(tmp_path_factory.mktemp("data") / "reach.hdf5", 600)


def experiment(data: Path, *overrides: str) -> tuple[str, ...]:
    return (
        *("reproducibility", *TINY, *REACH, "dataset=d4rl", f"dataset.path={data}"),
        *("dataset.transitions=300", "guide=offline", "replicas=3", "run_dir=sweep"),
        *("measure.states=60", "measure.episodes=4", "measure.num_envs=2", "activation=relu"),
        *("logger.progress=false", "checkpoint.interval=10", *overrides),
    )


OFFLINE = ("start=warm", "online.steps=0")


def test_an_offline_experiment_is_measured_on_held_out_and_visited_states(
    here: Path, jsrl: Any, data: Path
) -> None:
    outcome = jsrl(*experiment(data, *OFFLINE))
    assert outcome.status == 0, outcome
    found = record(here / "sweep/run/relu_all")
    assert set(found["differences"]) >= {
        f"{kind}/{name}"
        for kind in ("held_out", "visited")
        for name in ("action", "value", "critic", "critic_rank")
    }
    assert found["updates_between"] == 10
    for name in ("held_out/action", "visited/value"):
        difference = found["differences"][name]
        assert np.array(difference["pairs"])[0, 1] > 0
        assert len(difference["churn"]) == 3 and min(difference["churn"]) > 0
    assert found["scores"]["success"]["values"] and found["scores"]["return"]["better"] == "higher"


def test_choices_differ_in_how_many_states_and_values_by_their_spread(
    here: Path, jsrl: Any
) -> None:
    outcome = jsrl(
        *("reproducibility", *TINY, "env=gymnasium", "env.id=CartPole-v1", "env.success_key=null"),
        *("dataset=none", "guide=none", "curriculum=none", "learner=dqn", "replicas=3"),
        *("online.steps=120", "checkpoint.interval=60", "activation=relu", "run_dir=sweep"),
        *("measure.states=60", "measure.episodes=2", "measure.num_envs=2", "logger.progress=false"),
    )
    assert outcome.status == 0, outcome
    found = record(here / "sweep/run/relu_all")["differences"]
    assert set(found) >= {"visited/action", "visited/value", "visited/critic"}
    pairs = np.array(found["visited/action"]["pairs"])
    # 60 states, so that a share is so many sixtieths.
    np.testing.assert_allclose(pairs * 60, np.rint(pairs * 60), atol=1e-9)
    assert (pairs <= 1).all() and (pairs.diagonal() == 0).all()
    assert np.array(found["visited/critic"]["pairs"])[0, 1] > 0


def test_where_nothing_varies_the_replicas_of_an_experiment_agree_exactly(
    here: Path, jsrl: Any, data: Path
) -> None:
    online = ("curriculum=jsrl", "online.steps=100", "online.offline_fraction=0.5")
    outcome = jsrl(*experiment(data, *online, "nondeterminism=none,all"))
    assert outcome.status == 0, outcome
    same, other = (record(here / f"sweep/run/relu_{level}") for level in ("none", "all"))
    for name, difference in same["differences"].items():
        assert not np.array(difference["pairs"]).any(), name
        if name not in ("success", "return"):
            assert np.array(other["differences"][name]["pairs"]).any(), name
    assert len(set(same["scores"]["return"]["values"])) == 1


def test_a_cell_whose_measuring_was_interrupted_is_not_trained_again(
    here: Path, jsrl: Any, data: Path
) -> None:
    assert jsrl(*experiment(data, *OFFLINE)).status == 0
    folder = here / "sweep/run/relu_all"
    whole = record(folder)
    (folder / RECORD).unlink()
    outcome = jsrl(*experiment(data, *OFFLINE))
    assert outcome.status == 0 and "finished: nothing to do" in outcome.out
    assert record(folder)["differences"] == whole["differences"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("replicas=1",), "replicas=1 must be at least 2: a single run differs from nothing"),
        (("activation=smelu", "activation.beta=-1"), "activation.beta=-1.0 must be at least 0"),
        (("activation=mish",), "mish"),
        (("activation.name=mish",), "activation.name='mish' is unknown"),
        (("nondeterminism=some",), "nondeterminism='some' is unknown"),
        (("nondeterminism=environment",), "smooth_teacher has no environment"),
        (("supervised.task=iris",), "supervised.task='iris' is unknown"),
        (("supervised.churn_updates=50",), "supervised.churn_updates=50 must be at most"),
        (("supervised.updates=0",), "supervised.updates=0 must be at least 1"),
        (("supervised.learning_rat=1",), "did you mean supervised.learning_rate"),
    ],
)
def test_mistakes_are_told_in_one_line(
    here: Path, jsrl: Any, overrides: tuple[str, ...], message: str
) -> None:
    outcome = jsrl(*SUPERVISED, "activation=relu", *overrides)
    assert outcome.status == 2, outcome
    assert message in outcome.err and "Traceback" not in outcome.err
    assert not list(here.glob(f"**/{RECORD}"))


def test_without_states_to_hold_out_or_a_checkpoint_before_the_end_it_says_so(
    here: Path, jsrl: Any, data: Path
) -> None:
    outcome = jsrl(*experiment(data, *OFFLINE, "dataset.transitions=null"))
    assert outcome.status == 2
    assert "leave no episode of" in outcome.err and "to be held out" in outcome.err
    outcome = jsrl(*experiment(data, *OFFLINE, "checkpoint.interval=1000", "run_dir=other"))
    assert outcome.status == 2
    assert "no checkpoint from before the end of its training" in outcome.err


def test_cells_of_other_settings_or_replicas_are_not_mixed(here: Path, jsrl: Any) -> None:
    assert jsrl(*SUPERVISED, "activation=relu").status == 0
    outcome = jsrl(*SUPERVISED, "activation=relu", "supervised.batch_size=32")
    assert outcome.status == 2
    assert "supervised.batch_size was 64, is 32" in outcome.err
    outcome = jsrl(*SUPERVISED, "activation=gelu", "replicas=4")
    assert "cells of 3 and 4 replicas, which cannot be compared" in outcome.err
