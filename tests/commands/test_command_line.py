"""Words of the command line, folders in it, and what a command returns to a sweeper."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from small_runs import REACH, Outcome, call, listing, read_summary

from jsrl.commands.objective import objective
from jsrl.core.errors import UserError
from jsrl.settings import arguments

SHORT = (
    *("online.steps=20", "online.offline_fraction=0", "logger=plain", "logger.progress=false"),
    *("learner.hidden=[8]", "learner.batch_size=8", "online.learning_starts=10"),
    *("evaluation.episodes=1", "evaluation.final_episodes=1", "evaluation.num_envs=1"),
    "env.max_episode_steps=10",
)
Command = Callable[..., Outcome]


@pytest.fixture
def jsrl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def command(*words: str) -> Outcome:
        return call(monkeypatch, capfd, *words)

    return command


def train(jsrl: Command, *words: str) -> Outcome:
    return jsrl("train", *REACH, *SHORT, *words)


@pytest.mark.parametrize(
    "value", ["a", "a'b", "a\\", "a\\'b", "\\\\x\\y\\\\", "", "'", "\\", "ünï x", "a=b,c", "[1]"]
)
def test_a_quoted_value_is_what_hydra_reads(value: str) -> None:
    parsed = OverridesParser.create().parse_override(f"key={arguments.quoted(value)}")
    assert parsed.value() == value


def test_options_are_told_from_overrides_wherever_they_stand() -> None:
    options, words = arguments.split(["a=1", "--multirun", "b=2", "--cfg", "job", "c", "-i", "d=3"])
    assert options == ["--multirun", "--cfg", "job", "-i"]
    assert words == ["a=1", "b=2", "c", "d=3"]
    with pytest.raises(UserError, match="did you mean --multirun"):
        arguments.split(["--multrun"])
    with pytest.raises(UserError, match=r"--cfg/-c: expected one argument"):
        arguments.split(["--cfg"])
    with pytest.raises(UserError, match="--cfg/-c: invalid choice"):
        arguments.split(["--cfg", "jobs"])


def test_an_options_value_is_told_from_a_word_with_the_same_letters() -> None:
    options, words = arguments.split(["job", "--cfg", "job", "-r", "job"])
    assert options == ["--cfg", "job", "-r"]
    assert words == ["job", "job"]
    assert arguments.split(["~/runs/a", "-m", "b"]) == (["-m"], ["~/runs/a", "b"])
    assert arguments.split(["--config-dir=a=b", "x=-1"]) == (["--config-dir=a=b"], ["x=-1"])


def test_a_folder_that_looks_like_a_number_keeps_its_name() -> None:
    given = ["run_dir=1.10", "seeds=[1]", "online.steps=10", "run=1e3", "run_dir=a1"]
    expected = ["run_dir='1.10'", "seeds=[1]", "online.steps=10", "run='1e3'", "run_dir=a1"]
    assert arguments.as_names(given) == expected


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("1.10", "1.10"),
        ("'ünï and space'", "ünï and space"),
        ("'a=b,c'", "a=b,c"),
        ("runs/slash/", "runs/slash"),
        ("'~/x'", "home/x"),
    ],
)
def test_a_run_lies_where_the_name_says(
    jsrl: Command, tmp_path: Path, name: str, folder: str
) -> None:
    outcome = train(jsrl, f"run_dir={name}")
    assert outcome.status == 0, outcome
    assert read_summary(tmp_path / folder)["env_steps"] == 20
    assert outcome.out.splitlines()[-1].endswith(folder)


@pytest.mark.parametrize("multirun", [(), ("--multirun",)])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("d" * 300, ("300 bytes", "shorter")),
        ("runs/" + "d" * 300, ("300 bytes", "shorter")),
        ("file", ("is a file",)),
        ("file/below", ("Not a directory",)),
        ("ünï", ("'run_dir=\"ünï\"'",)),
        ("~/x", ("'run_dir=\"~/x\"'",)),
        ("'~nobody-of-this-name/x'", ("no such home folder",)),
        ("a=b", ("'run_dir=\"a=b\"'",)),
        ("a;b", ("'run_dir=\"a;b\"'",)),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_folder_that_cannot_be_is_told_in_one_line(
    jsrl: Command, tmp_path: Path, multirun: tuple[str, ...], name: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("x")
    before = listing(tmp_path)
    outcome = train(jsrl, *multirun, f"run_dir={name}")
    assert outcome.status == 2, outcome
    assert len(outcome.err.splitlines()) == 1
    assert [word for word in words if word not in outcome.err] == [], outcome.err
    assert "^" not in outcome.err
    assert listing(tmp_path) == before


def test_a_sweep_that_changes_the_folder_finds_relative_paths_where_the_command_was_given(
    jsrl: Command, tmp_path: Path
) -> None:
    (tmp_path / "my_guide.py").write_text(
        "import numpy as np\ndef act(observations): return np.zeros((len(observations), 2))\n"
    )
    guide = ("guide=python", "guide.target=my_guide.py:act", "curriculum=random")
    sweep = ("seeds=[0],[1]", "--multirun", "run_dir=sweep", "hydra.job.chdir=true")
    outcome = train(jsrl, *guide, *sweep)
    assert outcome.status == 0, outcome
    assert outcome.out.splitlines()[-1].endswith("see sweep/1")
    assert sorted(tmp_path.rglob("summary.json")) == [
        tmp_path / "sweep" / number / "summary.json" for number in "01"
    ]
    assert str(tmp_path) in outcome.out.split("chdir=true: ")[1].splitlines()[0]


def test_other_commands_find_their_paths_too(jsrl: Command, tmp_path: Path) -> None:
    assert train(jsrl, "run_dir='~/x'").status == 0
    away = ("hydra.job.chdir=true", "hydra.run.dir=away")
    evaluated = jsrl("evaluate", "run='~/x'", "episodes=1", "num_envs=1", "output=e.json", *away)
    assert evaluated.status == 0, evaluated
    assert (tmp_path / "e.json").exists()
    assert jsrl("report", "home/x", "output=there", *away).status == 0
    assert (tmp_path / "there").is_dir()
    assert jsrl("export", "run=home/x", "output=exported", *away).status == 0
    assert list((tmp_path / "exported").iterdir())
    assert {path.name for path in (tmp_path / "away").rglob("*")} == set()


def summary_of(**means: float | None) -> dict[str, Any]:
    return {"evaluation": {"exploration": {name: {"mean": v} for name, v in means.items()}}}


def test_the_objective_is_success_where_it_is_told_or_else_return_or_what_is_asked_for() -> None:
    summary = summary_of(success=0.25, **{"return": -3.0}, length=9.0, normalized_score=None)
    assert objective(summary, None, "success") == 0.25
    assert objective(summary, None, None) == -3.0
    assert objective(summary, "return", "success") == -3.0
    assert objective(summary, "length", None) == 9.0
    assert math.isnan(objective(summary, "normalized_score", None))


def test_a_run_returns_its_objective_also_when_it_was_finished_before(
    jsrl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.core import utils

    returned: list[Any] = []
    run_job = utils.run_job

    def listening(*given: Any, **named: Any) -> Any:
        job = run_job(*given, **named)
        returned.append(job.return_value)
        return job

    monkeypatch.setattr("hydra._internal.hydra.run_job", listening)
    for _ in range(2):
        assert train(jsrl, "run_dir=a", "objective=return").status == 0
    mean = read_summary(tmp_path / "a")["evaluation"]["exploration"]["return"]["mean"]
    assert returned == [mean, mean]
    assert isinstance(returned[0], float)
    wrong = train(jsrl, "run_dir=b", "objective=loss")
    assert wrong.status == 2
    assert "objective='loss'" in wrong.err
