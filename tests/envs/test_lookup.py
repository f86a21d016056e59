"""Environments are found by their id, and need no simulator but their own."""

import os
import subprocess
import sys

import gymnasium as gym
import pytest

from jsrl.core.errors import UserError
from jsrl.envs.make import EnvSettings, describe_env


def refusal(env_id, **kwargs):
    with pytest.raises(UserError) as caught:
        describe_env(EnvSettings(env_id, kwargs))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_unknown_id_has_the_nearest_one_and_the_way_to_name_a_package():
    message = refusal("MountainCarContinous-v0")
    assert message.startswith("env.id='MountainCarContinous-v0' cannot be made")
    assert message.count("did you mean 'MountainCarContinuous-v0'?") == 1
    assert "env.id=package:MountainCarContinous-v0 or env.id=file.py:Mountain" in message
    message = refusal("my/Own-v0")
    assert "Namespace my not found" in message and "env.id=package:my/Own-v0" in message
    # Where a package is named already, that is no advice.
    assert "env.id=package" not in refusal("jsrl:Own-v0")


def test_a_module_or_file_that_registers_it_can_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import Continuous_MountainCarEnv as Car\n"
        "gym.register('jsrl-tests/{0}-v0', entry_point=Car, max_episode_steps={1})\n"
    )
    (tmp_path / "fleet_one.py").write_text(text.format("One", 11))
    (tmp_path / "fleet_two.py").write_text(text.format("Two", 12))
    try:
        one = describe_env(EnvSettings("fleet_one:jsrl-tests/One-v0"))
        two = describe_env(EnvSettings("fleet_two.py:jsrl-tests/Two-v0"))
        assert (one.max_episode_steps, two.max_episode_steps) == (11, 12)
        assert "did you mean 'jsrl-tests/One-v0'" in refusal("fleet_one:jsrl-tests/On-v0")
        assert "no file 'fleet_three.py'" in refusal("fleet_three.py:jsrl-tests/One-v0")
    finally:
        sys.modules.pop("fleet_one", None)
        for name in ("One", "Two"):
            gym.registry.pop(f"jsrl-tests/{name}-v0", None)


def test_the_reason_is_told_where_an_environment_is_known_but_cannot_be_made():
    assert "did you mean" not in refusal("HalfCheetah-v3")
    assert "env.kwargs={'wings': 2}" in refusal("Pendulum-v1", wings=2)


TRAINS = """
from small_runs import train_here
from pathlib import Path
summary = train_here(Path("run"), "experiment=mountaincar_jsrl", "online.offline_fraction=0")
print("return of the guide:", summary["evaluation"]["guide"]["return"]["mean"])
"""

REFUSES = """
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.core.errors import UserError
for env_id in {ids}:
    try:
        describe_env(EnvSettings(env_id))
    except UserError as error:
        print(error)
"""

ADD = """
import sys
{text}
loaded = [name for name in ("mujoco", "gymnasium_robotics") if name in sys.modules]
print("loaded:", loaded)
"""


def python(folder, text, *paths):
    """What a program prints, with these folders before all others on its path."""
    tests = os.path.join(os.path.dirname(__file__), "..")  # noqa: PTH118, PTH120
    found = os.pathsep.join([*map(str, paths), tests, os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", ADD.format(text=text)],
        cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture
def broken(tmp_path):
    """A folder with a MuJoCo that cannot be imported."""
    package = tmp_path / "broken" / "mujoco"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise OSError('libEGL.so.1 is missing')\n")
    return package.parent


def test_a_broken_simulator_is_in_the_way_of_its_own_environments_alone(tmp_path, broken):
    out = python(tmp_path, TRAINS, broken)
    assert "return of the guide: -6.0" in out
    assert out.endswith("loaded: []\n")
    ids = ("PointMaze_UMaze-v3", "HalfCheetah-v5", "jsrl/antmaze-umaze-v0", "jsrl/door-binary-v0")
    *lines, last = python(tmp_path, REFUSES.format(ids=ids), broken).splitlines()
    assert len(lines) == len(ids)
    for env_id, line in zip(ids, lines, strict=True):
        assert line.startswith(f"env.id={env_id!r}")
        assert "mujoco, which cannot be imported (OSError: libEGL.so.1 is missing)" in line
        assert "pip install --force-reinstall mujoco" in line
    assert last == "loaded: []"
