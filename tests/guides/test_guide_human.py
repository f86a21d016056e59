"""A person as the guide: no window is open, and the test presses the keys.

SDL's dummy driver takes events that are posted, and shows nothing.
"""

import importlib.util
import signal
import sys
from pathlib import Path

import fakes
import numpy as np
import pytest
from fakes import FakePolicy, FixedSteps
from guide_cases import UNIT
from pressed_keys import (
    CHOICES,
    FRAME,
    RUN,
    WATCHED,
    Watched,
    act,
    human,
    press,
    pygame,
    without_a_window,
)
from rollout.collected import make as make_collector
from rollout.collected import run as collect
from small_runs import QUIET, TINY, assert_same_run, call, metrics, read_summary, train_here

from jsrl.core.errors import UserError
from jsrl.core.interrupts import Interrupted, StopRequest
from jsrl.core.specs import EnvSpec
from jsrl.datasets import load_hdf5
from jsrl.envs.make import EnvSettings
from jsrl.guides import guide_lines
from jsrl.run.saved_evaluation import evaluate_run

__all__ = ["without_a_window"]

fakes.register()
EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


def test_what_is_held_adds_up_and_what_was_tapped_counts_for_one_step():
    guide = human()
    assert act(guide) == [0, 0]
    press(pygame.K_RIGHT)
    press(pygame.K_UP)
    assert act(guide) == [1, 1]
    assert act(guide) == [1, 1]
    press(pygame.K_RIGHT, down=False)
    press(pygame.K_SPACE)  # stands for nothing
    assert act(guide) == [0, 1]
    press(pygame.K_LEFT)
    press(pygame.K_LEFT, down=False)
    assert act(guide) == [-1, 1]
    assert act(guide) == [0, 1]


def test_keys_may_be_named_and_what_is_done_meanwhile():
    guide = human(keys={"a": [0.5, 0], "left_shift": [0.75, -0.5]}, idle=[0, 0.25])
    assert act(guide) == [0, 0.25]
    press(pygame.K_a)
    assert act(guide) == [0.5, 0]
    press(pygame.K_LSHIFT)
    assert act(guide) == [1, -0.5]  # 1.25 is clipped
    assert "left_shift [0.75, -0.5]" in guide_lines(guide)[0]


def test_a_choice_is_waited_for_unless_there_is_one_for_meanwhile():
    guide = human(CHOICES)
    press(pygame.K_1)
    press(pygame.K_1, down=False)
    assert act(guide) == 1
    press(pygame.K_RIGHT)
    press(pygame.K_0)
    assert act(guide) == 0  # the last that was pressed
    press(pygame.K_0, down=False)
    assert act(guide) == 2
    lazy = human(CHOICES, keys={"left": 4}, idle=5)
    assert act(lazy) == 1


def test_escape_and_closing_the_window_are_ctrl_c():
    guide = human(CHOICES)
    press(pygame.K_ESCAPE)
    with StopRequest() as stop:
        assert act(guide) == 0  # the step that is under way is taken, and waits for nobody
        assert stop.signal_number == signal.SIGINT
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    # Where tests run in several processes, theirs do not listen to the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            act(human(CHOICES))
    finally:
        signal.signal(signal.SIGINT, before)


class Pad:
    """Stands for a gamepad, of which there is none here."""

    def __init__(self, number: int) -> None:
        assert number == 0


def test_a_gamepads_axes_and_buttons(monkeypatch):
    with pytest.raises(UserError, match=r"guide\.keys\.axis_0 needs a gamepad, and none"):
        human(gamepad=True)
    monkeypatch.setattr("pygame.joystick.get_count", lambda: 1)
    monkeypatch.setattr("pygame.joystick.Joystick", Pad)
    guide = human(gamepad=True)
    for axis, value in ((0, 0.5), (1, -0.75)):
        pygame.event.post(pygame.event.Event(pygame.JOYAXISMOTION, axis=axis, value=value))
    assert act(guide) == [0.5, 0.75]  # up is negative on a gamepad
    pygame.event.post(pygame.event.Event(pygame.JOYAXISMOTION, axis=0, value=0.05))
    assert act(guide) == [0, 0.75]
    chooser = human(CHOICES, gamepad=True)
    pygame.event.post(pygame.event.Event(pygame.JOYBUTTONDOWN, button=2))
    assert act(chooser) == 2


def test_the_picture_is_shown_enlarged():
    guide = human()
    frame = FRAME.copy()
    frame[0, -1] = (9, 8, 7)
    guide.show([frame])
    window = pygame.display.get_surface()
    assert window.get_size() == (400, 300)
    assert window.get_at((399, 0))[:3] == (9, 8, 7)
    assert window.get_at((0, 299))[:3] == (0, 0, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: human(keys={"lefft": [0, 0]}), ("guide.keys.lefft", "no key of this name")),
        (lambda: human(keys={"left": [1]}), ("guide.keys.left=[1]", "expected 2 numbers")),
        (lambda: human(keys={"left": [3, 0]}), ("guide.keys.left=[3, 0]", "from -1 to 1")),
        (lambda: human(keys={"left": "go"}), ("guide.keys.left='go'", "no action")),
        (lambda: human(CHOICES, keys={"left": 7}), ("guide.keys.left=7", "4 to 6")),
        (lambda: human(CHOICES, keys={"left": 4.5}), ("guide.keys.left=4.5", "4 to 6")),
        (lambda: human(CHOICES, keys={"axis_0": 4}), ("guide.keys.axis_0", "button_N")),
        (lambda: human(frames_per_second=0.0), ("guide.frames_per_second=0.0", "above 0")),
        (lambda: human(gamepad=True, keys={"left": [0, 0]}), ("guide.gamepad=true", "guide.keys")),
        (lambda: human().show([FRAME, FRAME]), ("one environment", "there are 2", "num_envs=1")),
        (lambda: act(human(), 2), ("one environment", "there are 2", "jsrl dataset rollouts")),
        (lambda: human().show([None]), ("Unit-v0", "NoneType", "rgb_array")),
    ],
)
def test_mistakes_are_told_in_one_line(make, words):
    with pytest.raises(UserError) as caught:
        make()
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_without_a_display_or_pygame_one_line_says_what_to_do(monkeypatch):
    monkeypatch.delenv("SDL_VIDEODRIVER")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform == "linux":
        with pytest.raises(UserError, match=r"no display\); .* DISPLAY .* SDL_VIDEODRIVER=dummy"):
            human()
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonsense")
    with pytest.raises(UserError, match="SDL_VIDEODRIVER=nonsense: "):
        human()
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match=r"pip install 'jsrl-torch\[human\]'"):
        human()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("seeds=[0,1]",), ("2 seeds", "use one seed")),
        (("env.num_envs=2",), ("env.num_envs=2", "use one seed and env.num_envs=1")),
        (("curriculum.initial_guide_steps=null",), ("curriculum.initial_guide_steps=50",)),
        (("curriculum=jsrl",), ("decide_on=combined", "curriculum.decide_on=exploration")),
        (("guide.measured=true",), ("evaluation.num_envs=2", "use evaluation.num_envs=1")),
        (("env.kwargs.render_mode=human",), ("render_mode=human", "leave env.kwargs.render_mode")),
    ],
)
def test_a_run_that_would_ask_too_much_of_a_person_is_refused(
    given, words, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    ended = call(monkeypatch, capfd, "train", *TINY, *RUN, *given, "run_dir=run")
    assert ended.status == 2
    assert [word for word in words if word not in ended.err] == []
    assert len(ended.err.splitlines()) == 1


def test_escape_saves_and_stops_and_the_run_goes_on_as_if_it_had_not(tmp_path, capfd):
    """Nobody has to press the same keys again: the actions of an unfinished episode are kept."""
    train_here(tmp_path / "whole", *RUN)
    steps = Watched.steps
    Watched.steps, Watched.leaves = 0, 58
    with pytest.raises(Interrupted) as stopped:
        train_here(tmp_path / "parts", *RUN)
    assert stopped.value.signal_number == signal.SIGINT
    assert 58 <= Watched.steps < steps
    train_here(tmp_path / "parts", *RUN)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    names = {record.name for record in metrics(tmp_path / "whole")}
    assert not [name for name in names if name.startswith(("evaluation/guide", "evaluation/comb"))]
    assert "evaluation/exploration_return" in names
    evaluated = read_summary(tmp_path / "whole")["evaluation"]
    assert evaluated["exploration"]["return"]["mean"] is not None
    assert evaluated["guide"]["return"]["mean"] is None
    assert "who is not asked in evaluations" in capfd.readouterr().out
    table = evaluate_run(tmp_path / "whole")
    assert "exploration" in table and "combined" not in table


def test_a_curriculum_that_decides_on_the_exploration_policy_needs_no_evaluation_of_a_person(
    tmp_path,
):
    ended = train_here(
        tmp_path, *RUN, "curriculum=jsrl", "curriculum.decide_on=exploration", "online.steps=60"
    )
    assert ended["evaluation"]["combined"]["return"]["mean"] is None


def test_a_person_who_is_measured_plays_the_evaluations(tmp_path):
    ended = train_here(
        *(tmp_path, *RUN, "guide.measured=true", "evaluation.num_envs=1", "online.steps=60"),
        *("curriculum=jsrl", "curriculum.initial_guide_steps=null"),
        "curriculum.initial_episodes=2",
    )
    assert ended["evaluation"]["guide"]["return"]["mean"] is not None


def test_a_collector_shows_pictures_only_where_the_person_acts():
    settings = EnvSettings("jsrl-tests/Watched-v0", {"render_mode": "rgb_array"})
    guide = human(EnvSpec("Watched-v0", UNIT.observation, UNIT.actions, 60))
    seen = []
    guide.show = lambda frames: seen.append(int(frames[0][0, 0, 0]))
    collector = make_collector([0], 1, settings)
    rows, _ = collect(collector, 9, FakePolicy(), guide, [FixedSteps(4)])
    collector.close()
    assert seen == [0, 1, 2, 3]
    assert rows.by_guide.flatten().tolist() == [True] * 4 + [False] * 5
    assert rows.action[:4, 0, 0].abs().tolist() == [[1, 0]] * 4  # what the picture has pressed


def test_a_person_records_demonstrations_for_later(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    ended = call(
        *(monkeypatch, capfd, "dataset", "rollouts", *WATCHED, "guide=human"),
        *("guide.frames_per_second=100000", "path=mine.hdf5", "transitions=90"),
    )
    assert ended.status == 0, ended.err
    actions = load_hdf5(tmp_path / "mine.hdf5").data.actions
    assert set(np.unique(actions[:, 0])) == {-1, 1}


def test_the_example_in_ten_lines(tmp_path):
    found = importlib.util.spec_from_file_location("example", EXAMPLES / "guide_human.py")
    example = importlib.util.module_from_spec(found)
    found.loader.exec_module(example)
    run = example.train(
        *(*QUIET, *TINY, *WATCHED, "online.steps=40", "online.offline_fraction=0"),
        *("guide.frames_per_second=100000", f"run_dir={tmp_path / 'run'}"),
    )
    assert run.summary["env_steps"] == 40
