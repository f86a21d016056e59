"""``jsrl.train``: the same runs as by the command, and nothing else in the process changes."""

import asyncio
import copy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from small_runs import REACH, TINY, assert_same_run, listing, newest_state, read_summary, train_here

import jsrl
from jsrl.core.processes import ALLOWED, UNUSED_KEYS
from jsrl.rollout.online import OnlineRunner

SHORT = ("online.steps=80", "online.offline_fraction=0", "curriculum.metric=return", "seeds=[0,3]")
QUIET = ("logger=plain", "logger.progress=false")
WORDS = (*QUIET, *TINY, *REACH, *SHORT)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(UNUSED_KEYS, ALLOWED)
    Plugins.instance()  # Hydra's own, which it stores when it is first used
    yield
    GlobalHydra.instance().clear()


def surroundings() -> dict[str, Any]:
    """What a call must leave as it is."""
    return {
        "argv": list(sys.argv),
        "folder": Path.cwd(),
        "threads": torch.get_num_threads(),
        "handlers": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "hydra": (GlobalHydra.instance(), GlobalHydra.instance().hydra),
        "store": copy.deepcopy(ConfigStore.instance().repo),
    }


def test_a_run_is_what_the_command_makes_and_comes_back_with_its_policy(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        before = surroundings()
        run = jsrl.train([*WORDS, "run_dir=a"])
        assert surroundings() == before
    finally:
        torch.set_num_threads(1)
    assert run.directory == tmp_path / "a"
    assert run.summary == read_summary(tmp_path / "a")
    train_here(tmp_path / "b", *REACH, *SHORT)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    observation = np.array([0.1, -0.2, 0.3, 0.4])
    for seed in (0, 3):
        action, _ = run.policy(seed=seed).predict(observation)
        expected, _ = jsrl.load_policy("a", seed).predict(observation)
        np.testing.assert_array_equal(action, expected)
    with pytest.raises(jsrl.UserError, match=r"has the seeds \[0, 3\]; name one"):
        run.policy()
    with pytest.raises(jsrl.UserError, match="has no seed 1"):
        run.policy(seed=1)


def test_a_second_call_finds_the_run_finished_and_more_steps_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = jsrl.train([*WORDS, "run_dir=a", "seeds=[5]"])
    again = jsrl.train([*WORDS, "run_dir=a", "seeds=[5]"])
    assert again.summary == first.summary
    assert "nothing to do" in capsys.readouterr().out
    more = jsrl.train([*WORDS, "run_dir=a", "seeds=[5]", "online.steps=120"])
    assert more.summary["env_steps"] == 120
    assert more.policy().predict(np.zeros(4))[0].shape == (2,)
    other = jsrl.train([*WORDS, "run_dir=b", "seeds=[5]"])
    assert other.directory == tmp_path / "b"
    assert other.summary["evaluation"] == first.summary["evaluation"]


def test_it_works_inside_of_a_running_event_loop_and_in_another_thread(tmp_path: Path) -> None:
    async def cell() -> Any:
        return jsrl.train([*WORDS, "run_dir=loop"])

    asyncio.run(cell())
    thread = threading.Thread(target=jsrl.train, args=([*WORDS, "run_dir=thread"],))
    thread.start()
    thread.join()
    assert_same_run(tmp_path / "loop", tmp_path / "thread")


def test_hydra_that_others_use_in_the_process_goes_on_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "config.yaml").write_text("defaults: [schema, _self_]\nmine: 3\n")
    store = ConfigStore.instance()
    store.store(name="schema", node={"theirs": 1})
    store.store(group="env", name="schema", node={"id": "somebody else's"})
    with initialize_config_dir(str(tmp_path / "configs"), version_base="1.3"):
        before = surroundings()
        jsrl.train([*WORDS, "run_dir=a"])
        assert surroundings() == before
        with pytest.raises(jsrl.UserError):
            jsrl.train(["online.stepz=3"])
        assert surroundings() == before
        assert compose("config", overrides=["mine=4"]) == {"theirs": 1, "mine": 4}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["online.stepz=3"], "online.stepz is no key of the configuration; did you mean"),
        (["learner=iqi"], "learner=iqi is unknown; did you mean"),
        (["online.steps=many"], "online.steps=many does not fit"),
        (["guide=run", "guide.path=nowhere", "curriculum=random"], "nowhere"),
        (["online.steps=10,20"], "10,20"),
        (["--multirun", "seeds=[0]"], "'--multirun' is no key=value"),
        (["pointmaze"], "'pointmaze' is no key=value"),
        ("experiment=pointmaze_jsrl", "expected a list of words"),
        (["run_dir=''"], "run_dir='' names no folder"),
        (["dataset=d4rl", "dataset.path=none.hdf5"], "none.hdf5"),
    ],
)
def test_a_mistake_is_a_user_error_of_one_line_and_leaves_nothing_behind(
    tmp_path: Path, words: Any, said: str
) -> None:
    given = words if isinstance(words, str) else [*QUIET, *REACH, "run_dir=a", *words]
    before = surroundings()
    with pytest.raises(jsrl.UserError) as raised:
        jsrl.train(given)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert surroundings() == before
    assert listing(tmp_path) == set()


def test_an_option_that_is_not_used_is_refused_as_by_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(UNUSED_KEYS)
    with pytest.raises(jsrl.UserError, match=r"guide\.path=x is not used with guide=none"):
        jsrl.train([*QUIET, *REACH, "guide.path=x"])


def stop_in(monkeypatch: pytest.MonkeyPatch, call: int, number: signal.Signals) -> None:
    """Send a signal in the given step of the environments."""
    step, calls = OnlineRunner.step, 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(number)
        return step(*arguments)

    monkeypatch.setattr(OnlineRunner, "step", counted)


def test_a_keyboard_interrupt_saves_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = surroundings()
    with monkeypatch.context() as patch:
        stop_in(patch, 41, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt, match="everything is saved in a"):
            jsrl.train([*WORDS, "run_dir=a"])
    assert surroundings() == before
    assert newest_state(tmp_path / "a")["clock"]["steps"] == 41
    jsrl.train([*WORDS, "run_dir=a"])
    jsrl.train([*WORDS, "run_dir=whole"])
    assert_same_run(tmp_path / "a", tmp_path / "whole")


def test_after_a_sigterm_everything_is_saved_before_the_process_does_what_it_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []

    def ends(*_: Any) -> None:
        saved.append(newest_state(tmp_path / "a")["clock"]["steps"])
        raise SystemExit

    before = signal.signal(signal.SIGTERM, ends)
    try:
        stop_in(monkeypatch, 30, signal.SIGTERM)
        with pytest.raises(SystemExit):
            jsrl.train([*WORDS, "run_dir=a"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert saved == [30]


def test_importing_the_package_stays_quick_and_knows_what_it_offers() -> None:
    code = (
        "import sys, jsrl\n"
        "print([m for m in ('torch', 'hydra', 'mujoco') if m in sys.modules])\n"
        "print({'train', 'load_policy', 'Monitor', 'UserError'} <= set(dir(jsrl)))\n"
        "print(jsrl.UserError.__mro__[1].__name__, hasattr(jsrl, 'nothing'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split("\n") == ["[]", "True", "Exception False", ""]
