"""Objects by name: what is found, and what is said of what is not."""

import sys

import pytest

from jsrl.errors import UserError
from jsrl.loading import check_arguments, load_attribute, source_digest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


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


def test_a_file_that_changed_is_read_again(folder):
    (folder / "part.py").write_text("v = 1\n")
    assert load_attribute("part.py:v", "k") == 1
    (folder / "part.py").write_text("v = 2\n")
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


def test_the_digest_follows_source_and_arguments(folder):
    (folder / "part.py").write_text("def f(): return 1\n")
    first = source_digest("part.py:f", {}, "k")
    assert source_digest("part.py:f", {}, "k") == first
    assert source_digest("part.py:f", {"a": 1}, "k") != first
    (folder / "part.py").write_text("def f(): return 2\n")
    assert source_digest("part.py:f", {}, "k") != first
    assert source_digest("math:sin", {}, "k") != source_digest("math:cos", {}, "k")


def test_arguments_are_checked_before_the_call():
    def function(gain, offset=0):
        raise AssertionError("called")

    assert check_arguments(function, {"gain": 1}, "m:f", "k") is None
    with pytest.raises(UserError, match=r"k=.*ofset.*m:f\(gain, offset=0\)"):
        check_arguments(function, {"gain": 1, "ofset": 1}, "m:f", "k")
