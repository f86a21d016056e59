"""A person who takes over and gives back, with keys that the test presses."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from fakes import FakePolicy, FixedSteps
from guide_cases import UNIT
from pressed_keys import CHOICES, RUN, Watched, act, human, press, pygame, without_a_window
from rollout.collected import make as make_collector
from rollout.collected import run as collect
from small_runs import assert_same_run, metrics, train_here

from jsrl.core.arbitration import Signals
from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.core.errors import UserError
from jsrl.core.interrupts import Interrupted
from jsrl.core.specs import EnvSpec
from jsrl.envs.make import EnvSettings
from jsrl.guides import guide_lines
from jsrl.jumpstart.arbiters import arbiters, build_arbiter
from jsrl.run.saved_evaluation import evaluate_run

__all__ = ["without_a_window"]


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
