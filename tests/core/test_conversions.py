"""The lines that a run prints of conversions in force: shown where something is, and only there."""

from pathlib import Path

import pytest
from small_runs import REACH, train_here
from specs import box_spec

from jsrl.core.conversions import action_line, env_action_line, reward_line, show_range
from jsrl.core.specs import EnvSpec


def spec(low: tuple[float, ...], high: tuple[float, ...]) -> EnvSpec:
    return box_spec("E-v0", 3, low, high, 50)


UNIT, WEAK = spec((-1.0, -1.0), (1.0, 1.0)), spec((-0.4, -0.4), (0.4, 0.4))


def test_ranges_are_written_once_where_all_dimensions_agree() -> None:
    assert show_range((-0.4, -0.4), (0.4, 0.4)) == "[-0.4, 0.4]"
    assert show_range(-2, 2) == "[-2, 2]"
    assert show_range((0.0, -1.0), 3) == "[0, 3] x [-1, 3]"
    assert show_range(tuple(range(-6, 0)), 3) == "[-6, 3] x [-5, 3] x [-4, 3] x [-3, 3] and 2 more"


def test_an_environment_within_one_converts_nothing() -> None:
    assert env_action_line(UNIT) is None
    line = env_action_line(WEAK)
    assert line == "actions: policies act in [-1, 1], which E-v0 takes as [-0.4, 0.4]"


def test_actions_from_elsewhere_are_told_unless_nothing_is_converted() -> None:
    assert action_line("guide g", -1.0, (1.0, 1.0), "x", UNIT) is None
    assert action_line("guide g", -2, 2, "guide.action_low", UNIT) == (
        "actions of guide g: in [-2, 2] (guide.action_low), applied as [-1, 1] in E-v0"
    )
    assert action_line("guide g", -1, 1, "a policy of jsrl", WEAK) == (
        "actions of guide g: in [-1, 1] (a policy of jsrl), applied as [-0.4, 0.4] in E-v0"
    )
    assert action_line("the data", (-0.4, -0.4), (0.4, 0.4), "the bounds of E-v0", WEAK) == (
        "actions of the data: in [-0.4, 0.4] (the bounds of E-v0), applied as they are in E-v0"
    )


def test_rewards_are_told_with_the_keys_that_set_them() -> None:
    assert reward_line(1.0, 0.0) is None
    for scale, shift, formula in (
        (1.0, -1.0, "from reward - 1 "),
        (10.0, 5.0, "from 10 * reward + 5 "),
        (2.0, 0.0, "from 2 * reward "),
    ):
        line = reward_line(scale, shift)
        assert line is not None and formula in line
        assert f"learner.reward_scale={scale:g}, learner.reward_shift={shift:g}" in line


def test_a_run_prints_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = ("dataset=none", "guide=none", "curriculum=none", "online.offline_fraction=0")
    short = ("online.steps=0", "offline.updates=0")
    for shift, said in ((-1.0, True), (0.0, False)):
        name = tmp_path / f"shift{shift}"
        train_here(name, *REACH, *alone, *short, f"learner.reward_shift={shift}")
        assert ("rewards: the learner learns from reward - 1" in capsys.readouterr().out) is said
