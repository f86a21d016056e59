"""Objects by name: what is found, and what is said of what is not."""

import os
import sys
import warnings

import gymnasium as gym
import pytest

from jsrl.core.errors import UserError
from jsrl.core.loading import check_arguments, load_attribute, source_digest
from jsrl.envs.make import EnvSettings, describe_env


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def rewrite(file, text):
    """Write a file as where the clock of the file system stands still."""
    file.write_text(text)
    os.utime(file, (1e9, 1e9))


@pytest.fixture(params=["bytecode is kept", "no bytecode"])
def bytecode(request, monkeypatch):
    """With and without the files in which Python keeps what it compiled."""
    monkeypatch.setattr(sys, "dont_write_bytecode", request.param == "no bytecode")


def test_an_installed_module():
    assert load_attribute("collections:OrderedDict.fromkeys", "k").__name__ == "fromkeys"


def test_a_file_and_a_module_of_the_working_folder(folder):
    (folder / "their_part.py").write_text("value = 7\n")
    before = list(sys.path)
    assert load_attribute("their_part:value", "k") == 7
    assert load_attribute(f"{folder / 'their_part.py'}:value", "k") == 7
    assert load_attribute("./their_part.py:value", "k") == 7
    assert sys.path == before


def test_files_of_one_name_do_not_stand_in_for_each_other(folder):
    for place, value in (("a", 1), ("b", 2)):
        (folder / place).mkdir()
        (folder / place / "helper_of_mine.py").write_text(f"value = {value}\n")
        (folder / place / "part.py").write_text("class C: pass\nv = '" + place + "'\n")
    assert load_attribute("a/part.py:v", "k") == "a"
    assert load_attribute("b/part.py:v", "k") == "b"
    assert load_attribute("a/part.py:C", "k") is load_attribute("a/part.py:C", "k")
    assert "part" not in sys.modules


@pytest.mark.parametrize("fate", ["stays", "moves", "vanishes"])
def test_a_module_is_that_of_the_present_folder_also_after_a_file_of_its_name(
    tmp_path, monkeypatch, fate
):
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
        (tmp_path / place / f"part_that_{fate}.py").write_text(f"v = '{place}'\n")
    monkeypatch.chdir(tmp_path / "first")
    assert load_attribute(f"part_that_{fate}.py:v", "k") == "first"
    assert load_attribute(f"part_that_{fate}:v", "k") == "first"
    if fate == "moves":
        (tmp_path / "first").rename(tmp_path / "moved")
    elif fate == "vanishes":
        (tmp_path / "first" / f"part_that_{fate}.py").unlink()
    monkeypatch.chdir(tmp_path / "second")
    assert load_attribute(f"part_that_{fate}:v", "k") == "second"
    if fate == "moves":
        monkeypatch.chdir(tmp_path / "moved")
        assert load_attribute(f"part_that_{fate}.py:v", "k") == "first"


def test_a_file_that_changed_is_read_again(folder, bytecode):
    rewrite(folder / "part.py", "v = 1\n")
    assert load_attribute("part.py:v", "k") == 1
    rewrite(folder / "part.py", "v = 2\n")
    assert load_attribute("part.py:v", "k") == 2


def test_a_file_imports_what_lies_beside_it_and_may_hold_dataclasses(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "beside_it.py").write_text("x = 5\n")
    (folder / "sub" / "part.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from beside_it import x\n"
        "@dataclass\nclass Value:\n    x: int = x\n"
    )
    assert load_attribute("sub/part.py:Value", "k")().x == 5


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nothing", ["module:attribute"]),
        ("collections:", ["module:attribute"]),
        (":name", ["module:attribute"]),
        ("collections:not a name", ["module:attribute"]),
        ("collections:OrderdDict", ["'OrderdDict'", "nearest: OrderedDict"]),
        ("their_prat:value", ["no module 'their_prat'", "nearest: their_part"]),
        ("their_part.deeper:value", ["'their_part.deeper'"]),
        ("their_prat.py:value", ["no file 'their_prat.py'", "nearest: their_part.py"]),
        (".relative:value", ["relative", "in full"]),
        ("broken.py:value", ["not valid Python", "line 2"]),
        ("needs.py:value", ["'surely_not_installed'", "install it"]),
        ("wrong_import.py:value", ["cannot be imported", "NoSuchName"]),
    ],
)
def test_what_is_missing_is_named_in_one_line(folder, target, words):
    (folder / "their_part.py").write_text("value = 7\n")
    (folder / "broken.py").write_text("x = 1\ndef f(:\n")
    (folder / "needs.py").write_text("import surely_not_installed\n")
    (folder / "wrong_import.py").write_text("from collections import NoSuchName\n")
    with pytest.raises(UserError) as caught:
        load_attribute(target, "learner.target")
    message = str(caught.value)
    assert message.startswith("learner.target")
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_other_errors_of_the_users_module_are_theirs(folder):
    (folder / "part.py").write_text("1 / 0\n")
    for _ in range(2):  # nothing half-made stays behind
        with pytest.raises(ZeroDivisionError):
            load_attribute("part.py:x", "k")


def test_the_digest_follows_source_and_arguments(folder, bytecode):
    rewrite(folder / "part.py", "def f(): return 1\n")
    first = source_digest("part.py:f", {}, "k")
    assert source_digest("part.py:f", {}, "k") == first
    assert source_digest("part.py:f", {"a": 1}, "k") != first
    rewrite(folder / "part.py", "def f(): return 2\n")
    assert source_digest("part.py:f", {}, "k") != first
    assert source_digest("math:sin", {}, "k") != source_digest("math:cos", {}, "k")


def test_arguments_are_checked_before_the_call():
    def function(gain, offset=0):
        raise AssertionError("called")

    assert check_arguments(function, {"gain": 1}, "m:f", "k") is None
    with pytest.raises(UserError, match=r"k=.*ofset.*m:f\(gain, offset=0\)"):
        check_arguments(function, {"gain": 1, "ofset": 1}, "m:f", "k")


REGISTERS = (
    "import gymnasium as gym\n"
    "from gymnasium.envs.classic_control import Continuous_MountainCarEnv as Car\n"
    "with open('times.txt', 'a') as file: file.write('x')\n"
    "class Own(Car): pass\n"
    "def act(observations): return observations[:, :1]\n"
    "gym.register('jsrl-tests/Own-v0', entry_point={entry}, max_episode_steps=9)\n"
)


@pytest.mark.parametrize("entry", ["Own", "'own_part:Own'"])
@pytest.mark.parametrize("first", ["guide", "environment"])
@pytest.mark.parametrize("guide", ["own_part.py:act", "./own_part.py:act", "own_part:act"])
@pytest.mark.parametrize("env_id", ["own_part:jsrl-tests/Own-v0", "own_part.py:jsrl-tests/Own-v0"])
def test_a_file_that_registers_its_environment_runs_once(folder, env_id, guide, first, entry):
    (folder / "own_part.py").write_text(REGISTERS.format(entry=entry))
    steps = [
        lambda: load_attribute(guide, "guide.target"),
        lambda: describe_env(EnvSettings(env_id)).max_episode_steps,
    ]
    try:
        with warnings.catch_warnings():
            # Gymnasium warns of what is registered twice.
            warnings.simplefilter("error")
            found = [step() for step in (steps if first == "guide" else steps[::-1])]
        assert 9 in found
    finally:
        gym.registry.pop("jsrl-tests/Own-v0", None)
    assert (folder / "times.txt").read_text() == "x"


def test_a_module_of_a_package_and_its_file_are_one(folder):
    (folder / "package_of_mine").mkdir()
    (folder / "package_of_mine" / "__init__.py").write_text("")
    (folder / "package_of_mine" / "part.py").write_text("value = object()\n")
    by_file = load_attribute("package_of_mine/part.py:value", "k")
    assert load_attribute("package_of_mine.part:value", "k") is by_file
    (folder / "package_of_mine" / "other.py").write_text("value = object()\n")
    by_name = load_attribute("package_of_mine.other:value", "k")
    assert load_attribute("package_of_mine/other.py:value", "k") is by_name


def test_a_module_whose_file_changed_is_read_again_as_a_file(folder, bytecode):
    rewrite(folder / "changing_part.py", "v = 1\n")
    assert load_attribute("changing_part:v", "k") == 1
    rewrite(folder / "changing_part.py", "v = 2\n")
    assert load_attribute("changing_part.py:v", "k") == 2


def test_a_file_does_not_take_the_name_of_another_module(folder):
    (folder / "json.py").write_text("v = 1\n")
    assert load_attribute("json.py:v", "k") == 1
    assert load_attribute("json:dumps", "k")([1]) == "[1]"


def test_a_file_that_fails_leaves_no_name_behind(folder):
    (folder / "failing_part.py").write_text("raise RuntimeError('mine')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="mine"):
            load_attribute("failing_part.py:v", "k")
    (folder / "failing_part.py").write_text("v = 3\n")
    assert load_attribute("failing_part:v", "k") == 3
