"""Runs with each kind of logger: what they write, how they go on, and what is refused."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from disturbances import STEP, interrupt, train_disturbed
from small_runs import (
    REACH,
    assert_same_run,
    call,
    metrics,
    train_here,
)

from jsrl.loggers import read_records
from jsrl.run.saved_evaluation import evaluate_run
from jsrl.run.stored_config import with_defaults

SHORT = (*REACH, "online.steps=120", "online.offline_fraction=0", "seeds=[0,3]")
KINDS = {
    "csv": ("logger=csv",),
    "wandb": ("logger=wandb", "logger.mode=offline", "logger.project=hills"),
    "mlflow": ("logger=mlflow",),
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to anybody."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_X_DISABLE_STATS", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that all others must be like."""
    directory = tmp_path_factory.mktemp("plain") / "run"
    train_here(directory, *SHORT)
    return directory


def resumed(directory: Path, kind: str, plain: Path) -> None:
    """A run that was stopped once, and is the same as the plain one for all that."""
    train_disturbed(directory, (STEP, 90, interrupt), *SHORT, *KINDS[kind])
    train_here(directory, *SHORT, *KINDS[kind])
    assert_same_run(plain, directory)


def test_the_table_of_a_resumed_run_holds_what_metrics_holds(tmp_path: Path, plain: Path) -> None:
    resumed(tmp_path, "csv", plain)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    expected = [
        ["" if value is None else str(value) for value in record]
        for record in read_records(tmp_path / "metrics.jsonl")
    ]
    assert rows == expected


def test_both_starts_of_a_resumed_run_have_one_id_for_wandb(tmp_path: Path, plain: Path) -> None:
    resumed(tmp_path, "wandb", plain)
    identity = (tmp_path / "wandb" / "run_id").read_text().strip()
    starts = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(starts) == 2
    assert all(identity in start.name for start in starts)


def test_both_starts_of_a_resumed_run_are_one_run_for_mlflow(tmp_path: Path, plain: Path) -> None:
    resumed(tmp_path, "mlflow", plain)
    (loss,) = (tmp_path / "mlflow").glob("*/*/metrics/loss/critic/seed_3")
    logged = {int(line.split()[2]) for line in loss.read_text().splitlines()}
    of_loss = [r for r in metrics(tmp_path) if (r.name, r.seed) == ("loss/critic", 3)]
    assert logged == {record.step for record in of_loss}
    assert len(logged) > 1


def test_another_logger_may_be_chosen_when_a_run_goes_on(tmp_path: Path) -> None:
    train_disturbed(tmp_path / "run", (STEP, 90, interrupt), *SHORT)
    train_here(tmp_path / "run", *SHORT, "logger=csv", "logger.interval=10")
    table = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(table) == 1 + len(read_records(tmp_path / "run" / "metrics.jsonl"))
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert stored["logger"] == {"kind": "csv", "progress": False, "interval": 10}


def in_old_words(run: Path, tensorboard: bool) -> None:
    """Make a run's configuration one that an earlier version wrote."""
    file = run / "config.yaml"
    stored = yaml.safe_load(file.read_text())
    del stored["logger"]["kind"]
    stored["logger"]["tensorboard"] = tensorboard
    file.write_text(yaml.safe_dump(stored, sort_keys=False))


@pytest.mark.parametrize("tensorboard", [True, False])
def test_a_run_of_an_earlier_version_goes_on_and_is_evaluated(
    tmp_path: Path, plain: Path, tensorboard: bool, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    train_disturbed(tmp_path / "run", (STEP, 90, interrupt), *SHORT)
    in_old_words(tmp_path / "run", tensorboard)
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    kind = "tensorboard" if tensorboard else "plain"
    assert with_defaults(stored)["logger"] == {"kind": kind, "progress": False, "interval": 40}
    outcome = call(monkeypatch, capfd, "resume", f"run={tmp_path / 'run'}")
    assert outcome.status == 0, outcome
    assert_same_run(plain, tmp_path / "run")
    assert (tmp_path / "run" / "tensorboard").exists() == tensorboard
    in_old_words(tmp_path / "run", tensorboard)
    evaluate_run(tmp_path / "run", episodes=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("logger.tensorboard=false",), "choose logger=tensorboard, or logger=plain"),
        (("logger=csv", "logger.mode=offline"), "not used with logger=csv, but with logger=wandb"),
        (("logger=wandb", "logger.mode=on"), "logger.mode='on' is unknown"),
        (("logger=wandb", "logger.projekt=x"), "did you mean logger.project?"),
        (("logger=mlflow", "logger.tracking_uri=nowhere://x"), "logger.tracking_uri"),
        (("logger=cvs",), "did you mean csv?"),
        (("logger.interval=0",), "logger.interval=0 must be at least 1"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_a_mistake_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, words: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call(monkeypatch, capfd, "train", *REACH, "online.steps=10", "run_dir=run", *words)
    assert outcome.status == 2, outcome
    assert len(outcome.err.splitlines()) == 1
    assert said in outcome.err
    # The folder is free for the corrected command.
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_user_is_not_logged_in_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for variable in ("HOME", "NETRC"):
        monkeypatch.setenv(variable, str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    words = ("train", *REACH, "online.steps=10", "run_dir=deep/run")
    outcome = call(monkeypatch, capfd, *words, "logger=wandb")
    assert outcome.status == 2, outcome
    assert "wandb login, or choose logger.mode=offline" in outcome.err
    assert not (tmp_path / "deep").exists()
    assert call(monkeypatch, capfd, *words, "logger=plain", "online.steps=20").status == 0


def test_a_run_is_not_resumed_with_the_key_of_an_earlier_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    train_here(tmp_path / "run", *SHORT)
    outcome = call(monkeypatch, capfd, "resume", "run=run", "logger.tensorboard=true")
    assert outcome.status == 2
    assert "choose logger=tensorboard, or logger=plain" in outcome.err
    assert len(outcome.err.splitlines()) == 1
