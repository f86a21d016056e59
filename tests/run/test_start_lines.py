"""What a run says before it begins: of presets that were undone, and of runs too short to learn."""

import pytest
from small_runs import composed

from jsrl.run.start_lines import no_update_line, preset_lines


@pytest.mark.parametrize("preset", ["rlpd", "wsrl"])
def test_a_preset_says_nothing_where_it_is_as_it_was_made(preset: str) -> None:
    config, _ = composed(f"experiment=pointmaze_{preset}")
    assert preset_lines(config) == []


def test_an_experiment_that_undoes_a_preset_is_told_key_by_key() -> None:
    config, _ = composed("experiment=antmaze_jsrl", "learner=wsrl")
    lines = preset_lines(config)
    assert "made for start=warm, and with start=cold it is another algorithm" in lines[0]
    assert any(
        "online.learning_starts=5000, and with online.learning_starts=1000" in line
        for line in lines
    )


def test_learners_that_are_no_presets_say_nothing() -> None:
    config, _ = composed("experiment=pointmaze_jsrl")
    assert preset_lines(config) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("online.steps=300", "online.learning_starts=300"), True),
        (("online.steps=300", "online.learning_starts=299"), False),
        (
            ("online.steps=100", "online.critic_warmup_steps=250", "online.learning_starts=300"),
            False,
        ),
        (("online.steps=0", "online.learning_starts=300"), False),
    ],
)
def test_a_run_that_ends_before_its_first_update_says_so(
    words: tuple[str, ...], told: bool
) -> None:
    config, _ = composed("experiment=pointmaze_jsrl", *words)
    line = no_update_line(config.learner, config.online)
    assert (line is not None) == told
    assert line is None or "online.learning_starts=300 is not passed in 300 steps" in line
