"""The kinds of loggers, and what each of them does without its package."""

import subprocess
import sys

import pytest

from jsrl.core.errors import UserError
from jsrl.loggers import LoggerInputs, LoggerOptions, loggers


def test_the_kinds_are_those_that_are_documented():
    assert set(loggers.names()) == {"tensorboard", "plain", "csv", "wandb", "mlflow"}


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_missing_package_names_the_extra_in_one_line(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)  # as if it were not installed
    options = loggers[kind].options(kind)
    make = loggers[kind].make
    for call in (options.check, lambda: make(options, LoggerInputs(tmp_path / "run", [0]))):
        with pytest.raises(UserError, match=rf"pip install 'jsrl-torch\[{kind}\]'") as raised:
            call()
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_packages_of_loggers_are_imported_only_when_they_are_chosen():
    code = (
        "import sys, jsrl.loggers as l; from pathlib import Path\n"
        "l.loggers['plain'].make(l.LoggerOptions('plain'), l.LoggerInputs(Path('x'), [0]))\n"
        "print([m for m in ('wandb', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_an_interval_below_one_is_refused():
    with pytest.raises(UserError, match=r"logger\.interval=0 must be at least 1"):
        LoggerOptions("plain", interval=0).check()
