"""``--help``: every key has its line, and a command shows what it takes."""

from pathlib import Path
from typing import Any

import pytest
from small_runs import Outcome, call, listing

from jsrl.commands.schema_text import meanings
from jsrl.commands.table import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_has_a_meaning(name: str) -> None:
    assert [
        key for key, meaning in meanings(COMMANDS[name].load_schema()).items() if len(meaning) < 4
    ] == []


def help_of(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> str:
    outcome: Outcome = call(monkeypatch, capfd, *words, "--help")
    assert outcome.status == 0, outcome
    assert outcome.err == ""
    assert max(map(len, outcome.out.splitlines())) <= 100
    return outcome.out


@pytest.mark.parametrize("words", [tuple(command.split()) for command in COMMANDS], ids="_".join)
def test_each_command_has_its_help(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = help_of(monkeypatch, capfd, *words)
    assert text.startswith(f"jsrl {' '.join(words)} [key=value …]\n")
    assert listing(tmp_path) == set()


def test_a_key_is_shown_with_its_value_its_meaning_and_the_kinds_that_use_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text: Any = help_of(monkeypatch, capfd, "train", "experiment=pointmaze_jsrl", "seeds=[7]")
    lines = text.splitlines()
    assert any(line.startswith("  seeds=[7] ") for line in lines)
    at = next(i for i, line in enumerate(lines) if line.startswith("  learner.expectile="))
    assert "in (0, 1)" in lines[at]
    assert lines[at + 1].endswith("[iql]")
    assert next(line for line in lines if line.startswith("  guide  ")).split()[1] == "none,"


def test_a_command_shows_only_the_groups_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "GROUP=OPTION" not in help_of(monkeypatch, capfd, "evaluate")
    antmaze = help_of(monkeypatch, capfd, "dataset", "antmaze")
    assert "  guide         none" in antmaze
    assert "learner" not in antmaze
    resume = help_of(monkeypatch, capfd, "resume")
    assert "run=???" in resume
    assert "online.steps" in resume
    assert "guide" not in resume


def test_the_options_of_the_chosen_logger_are_shown_and_those_of_others_are_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = {
        kind: call(monkeypatch, capfd, "train", "--help", f"logger={kind}").out
        for kind in ("csv", "wandb")
    }
    assert "logger.mode=online" in shown["wandb"]
    assert "logger.mode" not in shown["csv"]
    assert all("logger.interval=500" in text for text in shown.values())


def test_help_of_what_does_not_compose_says_why(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = call(monkeypatch, capfd, "train", "--help", "learner=ppx")
    assert outcome.status == 2
    assert "learner=ppx" in outcome.err
    assert len(outcome.err.splitlines()) == 1
