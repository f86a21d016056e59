"""A project is moved: the policy class of its user is found again, and old checkpoints find it."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import Outcome, newest_state, run

from jsrl.core.checkpoint import checkpoint_paths

TD3 = Path(__file__).parents[2] / "scripts/examples/learner_td3.py"
TRAIN = (
    *("train", "env=gymnasium", "env.id=Pendulum-v1", "env.success_key=null", "dataset=none"),
    *("guide=none", "curriculum=none", "offline.updates=0", "online.steps=40", "learner=custom"),
    *("learner.target=own/td3.py:TD3", "learner.arguments.hidden=[8,8]", "run_dir=runs/a"),
    *("learner.batch_size=8", "online.learning_starts=8", "evaluation.interval=40"),
    *("evaluation.episodes=1", "evaluation.final_episodes=1", "logger=plain", "threads=1"),
)
CHANGED = "has changed since the policy was saved"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run of a learner in its own folder."""
    project = tmp_path_factory.mktemp("before") / "project"
    (project / "own").mkdir(parents=True)
    shutil.copy(TD3, project / "own/td3.py")
    outcome = run(project, *TRAIN)
    assert outcome.status == 0, outcome
    return project


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """The project in another place, while there is nothing where it was."""
    shutil.copytree(trained, tmp_path / "after")
    hidden = trained.rename(trained.with_name("hidden"))
    yield tmp_path / "after"
    hidden.rename(trained)


def loaded(folder: Path, path: str = "after/runs/a") -> Outcome:
    """What another process says that loads the run's policy, in a folder."""
    code = f"import jsrl; jsrl.load_policy({path!r}, seed=0)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    return Outcome(found.returncode, found.stdout, found.stderr)


def describe(path: Path, **changes: Any) -> None:
    for checkpoint in checkpoint_paths(path / "runs/a/checkpoints"):
        state = torch.load(checkpoint, weights_only=True)
        for stored in state["policies"].values():
            new = {**stored["description"], **changes}
            stored["description"] = {k: value for k, value in new.items() if value is not None}
        torch.save(state, checkpoint)


def test_a_class_in_the_projects_folder_is_kept_by_its_relative_path(trained: Path) -> None:
    stored = newest_state(trained / "runs/a")["policies"]["exploration"]["description"]
    assert stored["target"] == "own/td3.py:DeterministicPolicy"
    assert stored["folder"] == str(trained)
    content = (trained / "own/td3.py").read_bytes()
    assert stored["content"] == hashlib.sha256(content).hexdigest()


def test_a_project_that_was_moved_is_loaded_and_guides(project: Path) -> None:
    outcome = loaded(project.parent)
    assert outcome.status == 0, outcome
    assert f"runs the code in {project / 'own/td3.py'}" in outcome.err
    assert CHANGED not in outcome.err
    guided = [word for word in TRAIN if not word.startswith(("guide=", "learner", "run_dir"))]
    words = (*guided, "guide=run", f"guide.path={project / 'runs/a'}", "run_dir=b")
    outcome = run(project.parent, *words, "learner=sac", "learner.hidden=[8]")
    assert outcome.status == 0, outcome
    assert CHANGED not in outcome.err


def test_a_change_of_the_file_is_told_wherever_it_lies(project: Path) -> None:
    own = project / "own/td3.py"
    own.write_text(own.read_text() + "\n# Changed.\n")
    outcome = loaded(project.parent)
    assert (outcome.status, CHANGED in outcome.err) == (0, True), outcome


def test_a_run_that_was_taken_out_of_its_project_finds_what_lies_where_it_was(
    project: Path,
) -> None:
    shutil.copytree(project / "runs/a", project.parent / "alone")
    (project.parent / "alone/command.json").write_text(f'{{"folder": "{project}"}}')
    outcome = loaded(project.parent, "alone")
    assert outcome.status == 0, outcome
    assert f"runs the code in {project / 'own/td3.py'}" in outcome.err


def test_checkpoints_of_before_name_the_class_by_its_absolute_path(project: Path) -> None:
    file = project / "own/td3.py"
    digest = hashlib.sha256(str(file).encode() + file.read_bytes()).hexdigest()[:12]
    old = {"target": f"{file}:DeterministicPolicy", "source": f"jsrl_user_td3_{digest}"}
    describe(project, **old, folder=None, content=None)
    outcome = loaded(project.parent)
    assert (outcome.status, CHANGED in outcome.err) == (0, False), outcome
    describe(project, source="jsrl_user_td3_000000000000")
    assert CHANGED in loaded(project.parent).err


def test_a_class_that_is_nowhere_is_refused_with_the_folders_that_were_looked_in(
    project: Path,
) -> None:
    (project / "own").rename(project / "elsewhere")
    outcome = loaded(project.parent)
    assert outcome.status != 0, outcome
    line = outcome.err.strip().splitlines()[-1]
    assert f"there is no file 'own/td3.py' in {project} or " in line
    assert "restore it there" in line
