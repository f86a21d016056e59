"""Runs that are killed or stopped at a chosen call of one of their methods."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import train_here

from jsrl.core.interrupts import Interrupted
from jsrl.learners.iql import IQL
from jsrl.rollout.evaluator import Evaluator
from jsrl.rollout.online import OnlineRunner
from jsrl.run.stages import FinalEvaluation

UPDATE, STEP, EVALUATE = (IQL, "update"), (OnlineRunner, "step"), (Evaluator, "evaluate")
FINISH = (FinalEvaluation, "run")


class Killed(BaseException):
    """Stands for SIGKILL: nothing that comes after it saves anything."""


def kill() -> None:
    raise Killed


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


Disturbance = tuple[tuple[type, str], int, Callable[[], None]]
"""A method, the number of the call at which something happens, and what."""


def train_disturbed(directory: Path, disturbance: Disturbance, *overrides: str) -> None:
    """One start of a run, which the disturbance ends."""
    (owner, name), number, happen = disturbance
    original, calls = getattr(owner, name), 0

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            happen()
        return original(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        with pytest.raises((Killed, Interrupted)) as error:
            train_here(directory, *overrides)
    assert (error.type is Killed) == (happen is kill)
