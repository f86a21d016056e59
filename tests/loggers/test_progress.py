"""What is said while it goes on, in lines or in a bar."""

import io
import sys

from jsrl.loggers import (
    Progress,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Time that passes when told to."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_progress_prints_plain_lines_now_and_then(capsys):
    clock = Clock()
    progress = Progress(1000, "online", clock=clock)
    progress.update(1)
    clock.seconds = 0.5
    progress.update(100)  # 10 % done, but half a second after the start
    assert capsys.readouterr().out == ""
    clock.seconds = 2.0
    progress.update(200, h=30, stage=2, **{"return": 0.123456})
    clock.seconds = 5.0
    progress.update(210, h=20)  # 1 %, three seconds
    clock.seconds = 12.0
    progress.update(220, h=10)
    progress.say("a line")
    progress.update(221)
    progress.close()
    progress.close()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "online 200/1000 (20 %), h 30, stage 2, return 0.123, 00:08 left",
        "online 220/1000 (22 %), h 10, stage 2, return 0.123, 00:42 left",
        "a line",
        "online 221/1000 (22 %), h 10, stage 2, return 0.123, 00:42 left",
    ]
    assert captured.err == ""


def test_time_left_of_a_resumed_run_counts_its_own_steps_only(capsys):
    clock = Clock()
    progress = Progress(1000, "online", initial=900, clock=clock)
    clock.seconds = 10.0
    progress.update(950, value=None)
    assert capsys.readouterr().out == "online 950/1000 (95 %), value -, 00:10 left\n"


def test_progress_switched_off_prints_only_what_it_is_told(capsys):
    clock = Clock()
    progress = Progress(10, "online", enabled=False, clock=clock)
    clock.seconds = 100.0
    progress.update(10)
    progress.say("saved")
    progress.close()
    assert capsys.readouterr() == ("saved\n", "")


def test_what_is_over_before_patience_runs_out_prints_nothing(capsys):
    clock = Clock()
    short = Progress(10, "evaluating", patience=5.0, clock=clock)
    clock.seconds = 4.0
    short.update(10)
    short.close()
    assert capsys.readouterr().out == ""
    long = Progress(10, "evaluating", patience=5.0, clock=clock)
    clock.seconds = 8.0
    long.update(3)
    assert capsys.readouterr().out == ""
    clock.seconds = 10.0
    long.update(4)
    long.update(10)
    long.close()
    assert capsys.readouterr().out.splitlines() == [
        "evaluating 4/10 (40 %), 00:09 left",
        "evaluating 10/10 (100 %), 00:00 left",
    ]


def test_a_bar_in_a_bar_leaves_nothing_behind(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    outer = Progress(100, "online")
    outer.update(50)
    inner = Progress(10, "evaluating", patience=1e-9)
    inner.update(10)
    inner.close()
    outer.update(100, h=3)
    outer.close()
    assert "100/100, h 3" in terminal.getvalue().split("\r")[-1]
    assert terminal.getvalue().endswith("\n")


def test_progress_is_a_bar_on_a_terminal(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(100, "online", initial=40)
    progress.update(60, stage=2)
    progress.say("a line")
    progress.update(100, stage=3)
    progress.close()
    shown = terminal.getvalue()
    assert "100/100, stage 3" in shown
    assert "40/100" in shown
    assert capsys.readouterr().out == "a line\n"


def test_an_empty_stage_divides_by_nothing(capsys):
    progress = Progress(0, "offline")
    progress.update(0)
    progress.close()
    assert capsys.readouterr().out == ""
