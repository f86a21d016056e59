"""``learner.encoder=NAME``: a choice within the learner's options."""

from pathlib import Path

import pytest
from small_runs import call, composed

from jsrl.core.errors import UserError
from jsrl.learners.iql import IQLOptions
from jsrl.networks.encoders.drq import DrqOptions
from jsrl.networks.encoders.encoder import EncoderOptions, ImageEncoderOptions
from jsrl.run.stored_config import complete
from jsrl.settings.arguments import as_names
from jsrl.settings.kinds import split_key


def test_nothing_is_read_of_images_unless_it_is_asked_for() -> None:
    typed, plain = composed("run_dir=x")
    assert type(typed.learner.encoder) is EncoderOptions
    assert plain["learner"]["encoder"] == {"kind": "none"}


def test_a_choice_brings_its_own_options_and_their_defaults() -> None:
    words = as_names(["run_dir=x", "learner.encoder=drq", "learner.encoder.features=20"])
    typed, plain = composed(*words)
    assert isinstance(typed.learner, IQLOptions)
    assert typed.learner.encoder == DrqOptions(kind="drq", features=20)
    assert typed.learner.encoder.shift == 4
    assert plain["learner"]["encoder"]["initialisation"] == "delta_orthogonal"


def test_a_choice_is_written_with_a_dot_or_a_slash_and_its_options_with_dots() -> None:
    words = ["learner.encoder=drq,impala", "learner.encoder.shift=2", "learner=iql", "run_dir=01"]
    assert as_names(words) == [
        *("learner/encoder=drq,impala", "learner.encoder.shift=2", "learner=iql", "run_dir='01'"),
    ]
    assert split_key("learner.encoder.shift") == ("learner.encoder", "shift")
    assert split_key("learner.hidden") == ("learner", "hidden")
    assert split_key("online.steps") == ("online", "steps")


def test_what_a_run_stored_is_read_again_also_without_an_encoder() -> None:
    _, plain = composed("run_dir=x", "learner/encoder=impala")
    stored = complete(plain)
    assert stored.learner.encoder.kind == "impala"
    del plain["learner"]["encoder"]
    assert complete(plain).learner.encoder.kind == "none"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["learner.encoder=drqq"], "learner.encoder=drqq is unknown; did you mean drq?"),
        (["learner.encoder.features=9"], "not used with learner.encoder=none, but with"),
        (["learner.encoder=nature", "learner.encoder.centred=true"], "with learner.encoder=drq"),
        (["learner.encoder=drq", "learner.encoder.depth=3"], "learner.encoder.depth is no key"),
        (["learner.encoder=drq", "learner.encoder.shift=-1"], "shift=-1 must be at least 0"),
        (["learner.encoder=drq"], "is for images, and this environment has none"),
        (["replay.goals=2"], "replay.goals=2 is not used without replay.relabel"),
        (["replay.relabel=his"], "replay.relabel='his' is unknown; choose her"),
        (["replay.directory=x"], "is for images, and PointMaze_UMaze-v3 observes none"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    overrides: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call(monkeypatch, capfd, "train", "run_dir=run", *overrides)
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert words in outcome.err
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_no_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"learner\.encoder\.features=0 must be at least 1"):
        ImageEncoderOptions(kind="drq", features=0).check()


def test_the_help_shows_the_choices_and_what_the_chosen_one_takes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = call(monkeypatch, capfd, "train", "learner.encoder=drq", "--help").out
    assert (
        "learner.encoder" in text and "drq, impala, nature, none" in text and "(else none)" in text
    )
    assert "learner.encoder.features=50" in text
    assert "How many numbers describe one image." in text
