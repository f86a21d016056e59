"""A package that is installed beside this one brings a learner and a policy class of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import QUIET, TINY, Outcome, newest_state, write_reach_data

from jsrl.core.processes import ALLOWED, UNUSED_KEYS

BROUGHT = '''
from dataclasses import dataclass

from jsrl.learners.bc import BC, BCOptions
from jsrl.learners.options import learners
from jsrl.networks.policies import GaussianPolicy
from jsrl.networks.seed_policy import register_policy


@register_policy("their policy")
class TheirPolicy(GaussianPolicy):
    """Acts as the class that it extends."""


@dataclass
class TheirOptions(BCOptions):
    # Changes nothing.
    flavour: str = "plain"


@learners.register("theirs", TheirOptions)
class Theirs(BC):
    """Behaviour cloning with a policy class of another package."""

    def policy(self):
        own = TheirPolicy(**self.actor.arguments)
        own.load_state_dict(self.actor.state_dict())
        return own
'''
RUN = (
    *("env=gymnasium", "env.id=small_runs:jsrl-tests/Reach-v0", "env.score_range=[0,1]"),
    *("dataset=d4rl", "dataset.path=data.hdf5", "guide=offline", "curriculum=none", *QUIET, *TINY),
    *("online.steps=0", "start=warm", "run_dir=run"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and below it another with the packages that are installed."""
    folder = tmp_path_factory.mktemp("project")
    write_reach_data(folder / "data.hdf5")
    installed = folder / "installed"
    for name, module, text in (
        ("theirs", "their_package", BROUGHT),
        ("broken", "their_broken_package", "raise RuntimeError('out of\\norder')\n"),
    ):
        about = installed / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = ("jsrl.learners", "jsrl.policies") if name == "theirs" else ("jsrl.guides",)
        points = "\n".join(f"[{group}]\n{name} = {module}.inner" for group in groups)
        (about / "entry_points.txt").write_text(f"{points}\n")
        (installed / module).mkdir()
        (installed / module / "__init__.py").touch()
        (installed / module / "inner.py").write_text(text)
    return folder


LOADING = """
import pathlib
from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.networks.saved_policies import build_policy
stored = load_checkpoint(newest_checkpoint(pathlib.Path("run")))["policies"]["guide"]
print(type(build_policy(stored["description"], stored["state"])).__module__)
"""


def jsrl(folder: Path, *words: str, installed: bool = True) -> Outcome:
    """``jsrl WORDS`` in a process of its own that has the packages, or not."""
    return python(folder, "-m", "jsrl", *words, installed=installed)


def python(folder: Path, *words: str, installed: bool = True) -> Outcome:
    paths = [str(Path(__file__).parents[1])]
    paths += [str(folder / "installed")] if installed else []
    path = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, UNUSED_KEYS: ALLOWED},
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(found.returncode, found.stdout, found.stderr)


def test_its_kinds_are_chosen_saved_and_found_by_their_names(project: Path) -> None:
    outcome = jsrl(project, "train", *RUN, "learner=theirs", "learner.flavour=sweet")
    assert outcome.status == 0, outcome
    # A package that is broken is told, and is no reason to stop.
    assert "jsrl.guides 'broken' is left out" in outcome.err
    assert "RuntimeError: out of order); mend or uninstall the package broken" in outcome.err
    description = newest_state(project / "run")["policies"]["guide"]["description"]
    assert description["class"] == "their policy"
    assert "target" not in description
    assert "flavour: sweet" in (project / "run/config.yaml").read_text()

    outcome = jsrl(project, "evaluate", "run=run", "episodes=2", installed=False)
    assert outcome.status == 2, outcome
    assert "learner.kind='theirs' is unknown" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    # The policy alone is another matter: it is found without the learner, and by its name.
    outcome = python(project, "-c", LOADING)
    assert outcome.out == "their_package.inner\n"
    assert "runs the code in" not in outcome.err
    alone = python(project, "-c", LOADING, installed=False).err.strip().splitlines()[-1]
    assert "'their policy', which is not registered" in alone
    assert "install the package that brings it" in alone


def test_its_options_are_listed_and_mistakes_in_them_explained(project: Path) -> None:
    outcome = jsrl(project, "train", "--help", *RUN, "learner=theirs")
    assert outcome.status == 0, outcome
    assert "learner.flavour=plain" in outcome.out and "Changes nothing." in outcome.out
    assert ", theirs" in outcome.out
    outcome = jsrl(project, "train", *RUN, "learner=theirs", "learner.flavor=x")
    assert outcome.status == 2, outcome
    assert "did you mean learner.flavour?" in outcome.err
