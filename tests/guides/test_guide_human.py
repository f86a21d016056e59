"""A person as the guide: no window is open, and the test presses the keys.

SDL's dummy driver takes events that are posted, and shows nothing.
"""

import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

import fakes
import gymnasium as gym
import numpy as np
import pytest
import torch
from fakes import FakePolicy, FixedSteps
from guide_cases import UNIT
from rollout.collected import make as make_collector
from rollout.collected import run as collect
from small_runs import QUIET, TINY, Reach, assert_same_run, call, metrics, read_summary, train_here

from jsrl.core.arbitration import Signals
from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.interrupts import Interrupted, StopRequest
from jsrl.core.observations import Observation
from jsrl.core.processes import ALLOWED, UNUSED_KEYS
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.datasets import load_hdf5
from jsrl.envs.make import EnvSettings
from jsrl.guides import guide_lines
from jsrl.guides.human import HumanOptions
from jsrl.jumpstart.arbiters import arbiters, build_arbiter
from jsrl.run.build import build_guide
from jsrl.run.saved_evaluation import evaluate_run
from jsrl.settings.schema import EnvConfig

pygame = pytest.importorskip("pygame")
fakes.register()
EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
CHOICES = EnvSpec("Choices-v0", UNIT.observation, DiscreteActions(3, start=4), 50)
FRAME = np.zeros((30, 40, 3), np.uint8)


class Watched(Reach):
    """``Reach`` with a picture, in which keys are pressed by themselves.

    Every third step the other arrow is pressed, and escape once, in the step of number ``leaves``.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}
    steps = 0
    leaves = 0

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def reset(self, **keywords: Any) -> Any:
        found = super().reset(**keywords)
        self.clock = 0
        return found

    def step(self, action: Any) -> Any:
        found = super().step(action)
        self.clock += 1
        Watched.steps += 1
        if Watched.steps == Watched.leaves:
            press(pygame.K_ESCAPE)
        return found

    def render(self) -> np.ndarray:
        # What is held follows from the episode alone, so that it can be pressed again.
        keys = (pygame.K_LEFT, pygame.K_RIGHT)
        held = keys[int(self.clock // 3 + (self.position[0] > 0)) % 2]
        for key in keys:
            press(key, down=key == held)
        return np.full((20, 30, 3), self.clock, np.uint8)


gym.register("jsrl-tests/Watched-v0", Watched, max_episode_steps=60)
WATCHED = ("env=gymnasium", "env.id=jsrl-tests/Watched-v0", "env.score_range=[0,1]")
RUN = (
    *(*WATCHED, "dataset=none", "offline.updates=0", "online.offline_fraction=0", "guide=human"),
    *("guide.frames_per_second=100000", "curriculum=random", "curriculum.initial_guide_steps=20"),
    *("curriculum.stages=2", "online.steps=120", "online.updates_per_step=0.1"),
)


def press(key: int, down: bool = True) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN if down else pygame.KEYUP, key=key))


@pytest.fixture(autouse=True)
def _without_a_window(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv(UNUSED_KEYS, ALLOWED)
    Watched.steps = Watched.leaves = 0
    yield
    pygame.quit()


def human(spec=UNIT, **options):
    options.setdefault("frames_per_second", 100_000.0)
    made = HumanOptions("human", **options)
    return build_guide(made, EnvConfig(id=spec.id), spec, [0], torch.device("cpu"))


def act(guide, rows=1):
    mask = torch.ones(1, rows, dtype=torch.bool)
    guide.show([FRAME])
    return guide.act(Observation(torch.zeros(1, rows, 5)), None, mask)[0, 0].tolist()


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


def listening(spec=UNIT, signals=None, **options):
    """A guide that is asked in every step whether it acts, and the answers so far."""
    guide = human(spec, **options)
    guide.listen(Signals() if signals is None else signals)
    guide.reset(torch.ones(1, 1, dtype=torch.bool))
    acts = False

    def asks():
        nonlocal acts
        asked = int(guide.takeover(torch.tensor([[acts]])))
        acts = asked > 0 or (acts and asked == 0)
        return asked

    return guide, asks


def test_a_key_takes_over_and_another_gives_back():
    guide, asks = listening()
    assert asks() == 0
    press(pygame.K_SPACE)
    assert asks() == 1 and act(guide) == [0, 0]
    press(pygame.K_LEFT)
    assert asks() == 1 and act(guide) == [-1, 0]
    assert asks() == 0 and act(guide) == [-1, 0]  # still held, which asks for nothing anew
    press(pygame.K_RETURN)
    assert asks() == -1
    press(pygame.K_RETURN, down=False)
    assert asks() == 0
    press(pygame.K_UP)
    assert asks() == 1
    said = guide_lines(guide)[1]
    assert "space or any of these takes over, return gives back" in said


def test_which_keys_take_over_is_an_option():
    guide, asks = listening(signals=Signals("tab", "left_shift", by_action=False))
    press(pygame.K_LEFT)
    press(pygame.K_SPACE)
    assert asks() == 0
    press(pygame.K_TAB)
    assert asks() == 1 and act(guide) == [-1, 0]
    press(pygame.K_LSHIFT)
    press(pygame.K_TAB)
    assert asks() == -1  # of both, giving back counts
    _, asks = listening(signals=Signals(None))
    press(pygame.K_SPACE)
    assert asks() == 0


def test_who_is_waited_for_can_give_back():
    """While a choice is waited for nothing happens, and giving back ends that."""
    guide, asks = listening(CHOICES)
    press(pygame.K_1)
    press(pygame.K_1, down=False)
    assert asks() == 1 and act(guide) == 1
    pygame.time.set_timer(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RETURN), 50, loops=1)
    assert asks() == -1
    assert asks() == 0
    press(pygame.K_SPACE)
    pygame.time.set_timer(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RETURN), 50, loops=1)
    assert asks() == -1  # before anything was chosen


def test_who_acts_can_give_back_also_after_a_resume():
    """Another guide object knows of nothing but who acted in the step before."""
    guide, _ = listening(CHOICES)
    pygame.time.set_timer(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RETURN), 50, loops=1)
    assert int(guide.takeover(torch.tensor([[True]]))) == -1


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (Signals("spaace"), ("arbiter.take_over=spaace", "no key of this name")),
        (Signals("space", "left"), ("arbiter.give_back=left", "the same as left")),
        (Signals("button_4"), ("arbiter.take_over=button_4", "needs a gamepad")),
    ],
)
def test_keys_that_cannot_take_over_are_refused(signals, words):
    with pytest.raises(UserError) as caught:
        listening(signals=signals)
    assert [word for word in words if word not in str(caught.value)] == []


class Contested(Watched):
    """``Watched``, where the person takes over in step 4 of an episode and gives back in step 16.

    Only what is trained in is rendered, so that escape is pressed in the middle of an override.
    """

    escapes = False

    def render(self) -> np.ndarray:
        if Contested.escapes and self.clock == 10:
            Contested.escapes = False
            press(pygame.K_ESCAPE)
        keys = {4: pygame.K_SPACE, 16: pygame.K_RETURN}
        for clock, key in keys.items():
            press(key, down=self.clock == clock)
        return super().render()


gym.register("jsrl-tests/Contested-v0", Contested, max_episode_steps=60)
OVERRIDE = (
    *(*RUN, "env.id=jsrl-tests/Contested-v0", "arbiter=human", "arbiter.by_action=false"),
    *("curriculum=none", "checkpoint.interval=1000"),
)


def test_a_run_with_overrides_goes_on_in_the_middle_of_one(tmp_path, capfd):
    train_here(tmp_path / "whole", *OVERRIDE)
    Contested.escapes = True
    with pytest.raises(Interrupted):
        train_here(tmp_path / "parts", *OVERRIDE)
    state = load_checkpoint(newest_checkpoint(tmp_path / "parts"))["runner"]["collector"]
    assert state["arbiter"]["episodes"]["taken over"].all() and state["clock"] == 11
    train_here(tmp_path / "parts", *OVERRIDE)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    found = [r.value for r in metrics(tmp_path / "whole") if r.name == "collect/explorer_share"]
    assert any(0 < share < 1 for share in found)
    names = {record.name for record in metrics(tmp_path / "whole")}
    assert not [name for name in names if name.startswith(("evaluation/guide", "evaluation/comb"))]
    assert "space takes over, return gives back" in capfd.readouterr().out
    assert "combined" not in evaluate_run(tmp_path / "whole")


def test_an_override_is_stored_as_the_action_and_labelled():
    settings = EnvSettings("jsrl-tests/Contested-v0", {"render_mode": "rgb_array"})
    guide = human(EnvSpec("Contested-v0", UNIT.observation, UNIT.actions, 60))
    guide.listen(Signals(by_action=False))
    seen = []
    draw = guide.show
    guide.show = lambda frames: (seen.append(int(frames[0][0, 0, 0])), draw(frames))
    collector = make_collector([0], 1, settings)
    collector.follow(build_arbiter(arbiters["human"].options(kind="human")))
    rows, _ = collect(collector, 20, FakePolicy(), guide, [FixedSteps(0)])
    collector.close()
    assert seen == list(range(20))  # once each, whoever acts
    assert rows.by_guide.flatten().tolist() == [False] * 4 + [True] * 12 + [False] * 4
    assert rows.action[4:16, 0, 0].abs().tolist() == [[1, 0]] * 12


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("guide=random",), ("arbiter=human needs a guide that takes over", "use guide=human")),
        (("seeds=[0,1]",), ("2 seeds", "use one seed")),
        (("env.num_envs=2",), ("env.num_envs=2", "use one seed and env.num_envs=1")),
        (("arbiter.give_back=up",), ("arbiter.give_back=up", "the same as up")),
        (("arbiter.take_over=null",), ("arbiter.take_over=null", "no way to take over")),
        (("curriculum=random",), ("arbiter=human", "curriculum=random", "curriculum=none")),
    ],
)
def test_an_override_that_cannot_be_is_refused_in_one_line(given, words, tmp_path):
    keys = [key.partition("=")[0] for key in given]
    kept = [k for k in OVERRIDE if not (k.startswith("guide.") and "guide" in keys)]
    with pytest.raises(UserError) as caught:
        train_here(tmp_path, *kept, *given)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
