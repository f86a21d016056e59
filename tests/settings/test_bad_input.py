"""Mistakes end a command with one line that names key or file, value and way out, and status 2."""

import shutil
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import torch
from small_runs import (
    QUIET,
    REACH,
    TINY,
    Outcome,
    call,
    listing,
    read_summary,
    run,
    train_here,
    write_reach_data,
)

from jsrl.datasets import load_hdf5

POINTMAZE = ("experiment=pointmaze_jsrl", *TINY, "run_dir=run")
ALONE = (*REACH, *TINY, "online.offline_fraction=0", "offline.updates=0", "run_dir=run")
DATA = (*REACH, *TINY, "dataset=d4rl", "guide=offline", "run_dir=run")
GUIDED = (*ALONE, "curriculum=jsrl")
ON_POLICY = (
    *(*REACH, *TINY, "learner=ppo", "dataset=none", "guide=none", "curriculum=none"),
    *("learner.rollout_length=40", "learner.batch_size=20", "run_dir=run"),
)
PYTHON = (*GUIDED, "guide=python")


class Mistake(NamedTuple):
    """What is typed after ``jsrl``, and what the message must hold."""

    arguments: tuple[str, ...]
    words: tuple[str, ...]


def train(base: tuple[str, ...], *mistake: str, says: tuple[str, ...]) -> Mistake:
    return Mistake(("train", *base, *mistake), says)


# Python takes seconds to begin: one mistake for each place that ends a command.
IN_A_PROCESS = [
    Mistake(("trian",), ("'trian'", "did you mean 'train'?")),
    train((), "experiment=pointmaze_jrsl", says=("pointmaze_jrsl", "did you mean pointmaze_jsrl?")),
    train(
        ALONE, "env.id=CartPole-v1", says=("env.id='CartPole-v1'", "choice among 2", "learner=bc")
    ),
    Mistake(("dataset",), ("antmaze", "report")),
]

HERE = [
    train(POINTMAZE, "curriculum.tolerence=0", says=("did you mean curriculum.tolerance?",)),
    train(POINTMAZE, "seeds=[0", says=("seeds=[0", "lists as [1,2]")),
    Mistake(("evaluate",), ("run is not set", "give run=VALUE")),
    train(POINTMAZE, "dataset=d4rl", "dataset.path=cut.hdf5", says=("cut.hdf5", "truncated")),
    train(POINTMAZE, "curiculum.tolerance=0", says=("did you mean curriculum.tolerance?",)),
    train(POINTMAZE, "online.steps=many", says=("online.steps=many", "'many'", "Integer")),
    train(POINTMAZE, "learner=ppx", says=("learner=ppx", "iql_official", "did you mean ppo?")),
    train(POINTMAZE, "online.steps", says=("'online.steps'", "key=value")),
    Mistake(("report",), ("runs is not set",)),
    train(
        POINTMAZE,
        "curriculum.initial_guide_steps=61",
        says=("curriculum.initial_guide_steps=61", "time limit", "60 steps"),
    ),
    train((), "env=gymnasium", says=("env.id is not set",)),
    train(POINTMAZE, "guide=pythn", says=("guide=pythn", "did you mean python?")),
    train(POINTMAZE, "curriculum=jsr", says=("curriculum=jsr", "did you mean jsrl?")),
    train(POINTMAZE, "+online.step=3", says=("online.step ", "did you mean online.steps?")),
    train(POINTMAZE, "seeds=[1.5]", says=("seeds=[1.5]", "Integer")),
    train(POINTMAZE, "seeds=3", says=("seeds=3", "list")),
    train(POINTMAZE, "learner.hidden=[16,x]", says=("learner.hidden=[16,x]",)),
    train(POINTMAZE, "online.steps=null", says=("online.steps=null",)),
    train(POINTMAZE, "run_dir=", says=("run_dir=''",)),
    Mistake(("dataset", "pointmaze"), ("path is not set",)),
    Mistake(("benchmark", "seconds=x"), ("seconds=x",)),
    train(POINTMAZE, "seeds=[]", says=("seeds=[]", "for example seeds=[0]")),
    train(POINTMAZE, "seeds=[1,1]", says=("seeds=[1, 1]", "twice")),
    train(POINTMAZE, "seeds=[-1]", says=("seeds=[-1]", "negative")),
    train(POINTMAZE, f"seeds=[0,{2**70}]", says=("seeds=1180591620717411303424", "out of range")),
    train(POINTMAZE, "online.offline_fraction=1.5", says=("offline_fraction=1.5", "[0, 1]")),
    train(POINTMAZE, "online.offline_fraction=half", says=("offline_fraction=half", "merged")),
    train(POINTMAZE, "online.offline_fraction=nan", says=("offline_fraction=nan",)),
    train(POINTMAZE, "curriculum.tolerance=-0.1", says=("curriculum.tolerance=-0.1", "at least 0")),
    train(POINTMAZE, "threads=0", says=("threads=0", "at least 1")),
    train(POINTMAZE, "env.max_episode_steps=0", says=("env.max_episode_steps=0",)),
    train(POINTMAZE, "learner.temperature=nan", says=("learner.temperature=nan", "finite")),
    train(POINTMAZE, "learner.hidden=[0]", says=("learner.hidden=[0]",)),
    train(POINTMAZE, "learner.online_action_clip=0", says=("learner.online_action_clip=0",)),
    train(POINTMAZE, "activation.name=swish", says=("activation.name='swish'", "silu")),
    train(POINTMAZE, "device=cuda:x", says=("device='cuda:x'", "device=cpu")),
    train(POINTMAZE, "start=hot", says=("start='hot'", "cold, warm, naive")),
    train(POINTMAZE, "learner=bc", says=("learner=bc", "online.steps=300")),
    train(POINTMAZE, "learner=custom", says=("learner.target is not set",)),
    train(POINTMAZE, "dataset=none", says=("guide=offline", "dataset=none")),
    train(POINTMAZE, "learner=ppo", says=("dataset=waypoint", "learner=ppo", "set dataset=none")),
    train(
        ON_POLICY, "guide=offline", says=("guide=offline", "learner=ppo", "choose another guide")
    ),
    train(
        ON_POLICY,
        "guide=random",
        "online.critic_warmup_steps=20",
        says=("online.critic_warmup_steps=20", "learner=ppo", "set it to 0"),
    ),
    train(
        ON_POLICY,
        "online.offline_fraction=0.5",
        says=("offline_fraction=0.5", "learner=ppo", "set it to 0"),
    ),
    train(ON_POLICY, "replay.directory=images", says=("replay.directory=images", "learner=ppo")),
    train(
        ON_POLICY, "replay.relabel=her", says=("replay.relabel=her", "learner=ppo", "leave it out")
    ),
    train(
        ON_POLICY,
        "env.num_envs=3",
        "learner.batch_size=50",
        says=("learner.batch_size=50", "120 steps", "set learner.batch_size=40"),
    ),
    train(
        ON_POLICY,
        "online.steps=39",
        says=("online.steps=39", "40 steps", "learner.rollout_length"),
    ),
    train(POINTMAZE, "guide=none", says=("guide=none", "curriculum=jsrl")),
    train(POINTMAZE, "guide=waypoint", "start=warm", says=("start=warm", "guide=waypoint")),
    train(POINTMAZE, "env.success_key=null", says=("env.success_key", "curriculum.metric=return")),
    train(PYTHON, "guide.target=guides.py:f", "curriculum=custom", says=("curriculum.target is",)),
    train(ALONE, "env.id=FrozenLake-v1", says=("env.id='FrozenLake-v1'", "choice among 4", "=dqn")),
    train(ALONE, "env.kwargs.size=3", says=("env.kwargs={'size': 3}",)),
    train(DATA, says=("dataset.path is not set",)),
    train(DATA, "dataset.path=no.hdf5", says=("dataset.path=no.hdf5", "no such file")),
    train(DATA, "dataset.path=file", says=("dataset.path=file", "HDF5")),
    train(DATA, "dataset.path=unrewarded.hdf5", says=("unrewarded.hdf5", "rewards not found")),
    train(DATA, "dataset.path=nan.hdf5", says=("nan.hdf5", "rewards holds nan at index 7")),
    train(DATA, "dataset.path=wide.hdf5", says=("wide.hdf5", "action size is 3", "size 2")),
    train(
        DATA,
        "dataset.path=reach.hdf5",
        "env.id=Pendulum-v1",
        says=("reach.hdf5", "observation size is 4", "size 3"),
    ),
    train(
        DATA,
        "dataset.path=reach.hdf5",
        "dataset.transitions=301",
        says=("dataset.transitions=301",),
    ),
    train(PYTHON, says=("guide.target is not set",)),
    train(PYTHON, "guide.target=no.py:f", says=("guide.target", "'no.py'")),
    train(PYTHON, "guide.target=no_such_module:f", says=("guide.target", "'no_such_module'")),
    train(PYTHON, "guide.target=guides.py:nun", says=("'guides.py:nun'", "nearest: nan")),
    train(PYTHON, "guide.target=guides.py", says=("guide.target='guides.py'", "module:attribute")),
    train(PYTHON, "guide.target=guides.py:number", says=("guides.py:number", "callable")),
    train(GUIDED, "guide=torchscript", "guide.path=no.pt", says=("'no.pt'", "does not exist")),
    train(GUIDED, "guide=torchscript", "guide.path=file", says=("'file'", "not a TorchScript")),
    train(GUIDED, "guide=onnx", "guide.path=no.onnx", says=("'no.onnx'", "does not exist")),
    train(GUIDED, "guide=onnx", "guide.path=file", says=("'file'", "not an ONNX")),
    train(GUIDED, "guide=run", "guide.path=nowhere", says=("nowhere", "does not exist")),
    train(GUIDED, "guide=run", "guide.path=.", says=("no checkpoints", "run directory")),
    train(GUIDED, "guide=run", "guide.path=file", says=("file", "checkpoint")),
    train(GUIDED, "guide=run", "guide.path=foreign.pt", says=("foreign.pt", "not")),
    train(GUIDED, "guide=waypoint", says=("guide=waypoint", "PointMaze")),
    Mistake(("report", "nowhere"), ("nowhere", "no such directory")),
    Mistake(("dataset", "antmase", "path=x.hdf5"), ("'antmase'", "did you mean 'antmaze'")),
    Mistake(("dataset", "pointmaze", "more", "path=x.hdf5"), ("'more'", "key=value")),
    Mistake(("dataset", "pointmaze", "path=x.hdf5", "transitions=0"), ("transitions=0",)),
    Mistake(("dataset", "antmaze", "guide.path=no.npz"), ("'no.npz'", "does not exist")),
    Mistake(("dataset", "antmaze", "guide=none"), ("guide=none", "behaviour policy")),
    Mistake(("dataset", "antmaze", "guide.path=file"), ("'file'", "no npz file")),
    Mistake(("dataset", "antmaze"), ("guide.path is not set",)),
    Mistake(
        ("dataset", "antmaze", "env=pointmaze_umaze"),
        ("env.id='PointMaze_UMaze-v3'", "antmaze-umaze-v0"),
    ),
    Mistake(("dataset", "antmaze", "env=antmaze_umase"), ("env=antmaze_umase", "antmaze_umaze?")),
    Mistake(("dataset", "antmaze", "guide.path=x.npz", "workers=0"), ("workers=0",)),
    Mistake(("dataset", "report", "path=no.hdf5"), ("no.hdf5", "jsrl dataset")),
    train(ALONE, "env=antmaze_umaze", "dataset=d4rl", "dataset.path=no.hdf5", says=("no.hdf5",)),
    Mistake(("evaluate", "run=nowhere"), ("run='nowhere'", "no run directory")),
    Mistake(("export", "run=nowhere"), ("nowhere", "expected a run directory")),
    train(ALONE, "env.id=Pendulum-v9", says=("env.id='Pendulum-v9'", "'Pendulum-v1'")),
    train(POINTMAZE, "run_dir=file/run", says=("run_dir='file/run'", "cannot be written")),
]

WHILE_RUNNING = [
    train(PYTHON, "guide.target=guides.py:nan", says=("guides.py:nan", "returned nan", "action 0")),
    train(PYTHON, "guide.target=guides.py:wide", says=("guides.py:wide", "shape", "(3, 2)")),
    train(
        PYTHON, "guide.target=guides.py:far", says=("returned 2", "[-1, 1]", "guide.action_high")
    ),
]


@pytest.fixture(scope="session")
def wrong_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of which each is wrong in its own way, and a good one."""
    folder = tmp_path_factory.mktemp("wrong_files")
    good = write_reach_data(folder / "reach.hdf5")
    (folder / "cut.hdf5").write_bytes(good.read_bytes()[:5000])
    for name in ("unrewarded", "nan", "wide"):
        shutil.copy(good, folder / f"{name}.hdf5")
    with h5py.File(folder / "unrewarded.hdf5", "a") as file:
        del file["rewards"]
    with h5py.File(folder / "nan.hdf5", "a") as file:
        file["rewards"][7] = np.nan
    with h5py.File(folder / "wide.hdf5", "a") as file:
        del file["actions"]
        file["actions"] = np.zeros((300, 3), np.float32)
    (folder / "file").write_text("hello")
    torch.save({"weights": torch.zeros(2)}, folder / "foreign.pt")
    (folder / "guides.py").write_text(
        "import numpy as np\n"
        "number = 3\n"
        "def nan(observations): return np.full((len(observations), 2), np.nan)\n"
        "def wide(observations): return np.zeros((len(observations), 3))\n"
        "def far(observations): return np.full((len(observations), 2), 2.0)\n"
    )
    return folder


@pytest.fixture
def workshop(wrong_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with its own copy of the wrong files."""
    shutil.copytree(wrong_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _name(mistake: Mistake) -> str:
    return "_".join(mistake.arguments[:1] + mistake.arguments[-1:])


def check(outcome: Outcome, words: tuple[str, ...]) -> None:
    assert outcome.status == 2, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("jsrl: error: ")
    assert [word for word in words if word not in lines[0]] == [], lines[0]
    assert "Traceback" not in outcome.out


@pytest.mark.parametrize("mistake", IN_A_PROCESS, ids=_name)
def test_a_mistake_ends_the_process_with_one_line_and_leaves_nothing(
    mistake: Mistake, workshop: Path
) -> None:
    before = listing(workshop)
    check(run(workshop, *mistake.arguments), mistake.words)
    assert listing(workshop) == before


@pytest.mark.parametrize("mistake", HERE, ids=_name)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(
    mistake: Mistake,
    workshop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = listing(workshop)
    check(call(monkeypatch, capfd, *mistake.arguments), mistake.words)
    assert listing(workshop) - {"__pycache__"} == before


@pytest.mark.parametrize("mistake", WHILE_RUNNING, ids=_name)
def test_a_guide_that_answers_wrongly_stops_the_run_which_the_corrected_command_begins_anew(
    mistake: Mistake,
    workshop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = (*mistake.arguments, "logger=plain", "online.steps=20")
    check(call(monkeypatch, capfd, *arguments), mistake.words)
    assert not [name for name in listing(workshop) if name.endswith((".pt", ".tmp"))][1:]
    if "guide.action_high" in mistake.words:
        corrected = ("guide.action_low=[-2,-2]", "guide.action_high=[2,2]")
        assert call(monkeypatch, capfd, *arguments, *corrected).status == 0
        assert read_summary(workshop / "run")["env_steps"] == 20


def test_a_failed_start_leaves_the_folder_to_the_corrected_command(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ("train", *POINTMAZE, *QUIET, "dataset.collected=100", "online.steps=0")
    wrong = call(
        monkeypatch,
        capfd,
        *command,
        "dataset.noise=0.1",
        "learner=custom",
        "learner.target=guides.py:nan",
    )
    check(wrong, ("guides.py:nan",))
    # As a process leaves it that is killed before its first checkpoint.
    (workshop / "run").mkdir()
    (workshop / "run" / "config.yaml").write_text("seeds: [9]\n")
    (workshop / "run" / "dataset.hdf5").write_bytes(Path("reach.hdf5").read_bytes())
    assert call(monkeypatch, capfd, *command).status == 0
    train_here(workshop / "other", "experiment=pointmaze_jsrl", *command[-2:])
    here, there = (load_hdf5(workshop / name / "dataset.hdf5") for name in ("run", "other"))
    assert here.fingerprint == there.fingerprint


def test_another_configuration_is_refused_key_by_key(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ("train", *ALONE, *QUIET, "online.steps=20")
    assert call(monkeypatch, capfd, *command).status == 0
    before = {path: path.read_bytes() for path in workshop.rglob("*") if path.is_file()}
    changed = call(monkeypatch, capfd, *command, "learner.expectile=0.8", "seeds=[1]")
    check(changed, ("seeds was [0], is [1]", "learner.expectile was 0.9, is 0.8", "run_dir"))
    fewer = call(monkeypatch, capfd, *command, "online.steps=10")
    check(fewer, ("online.steps was 20, is 10",))
    assert before == {path: path.read_bytes() for path in workshop.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("--version",), ("train", "--help")],
    ids=lambda arguments: "_".join(arguments) or "nothing",
)
def test_help_is_quiet_and_leaves_no_files(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    outcome = run(tmp_path, *arguments)
    assert outcome.status == 0
    assert outcome.err == ""
    assert "jsrl" in outcome.out
    assert listing(tmp_path) == set()


def test_the_configuration_can_be_printed_with_every_key_of_a_run(tmp_path: Path) -> None:
    outcome = run(tmp_path, "train", "--cfg", "job", "experiment=pointmaze_jsrl", "seeds=[7]")
    assert (outcome.status, outcome.err) == (0, "")
    assert "- 7" in outcome.out.splitlines()
    assert "experiment: pointmaze_jsrl" in outcome.out
    assert listing(tmp_path) == set()
