"""A key that is typed for a kind that does not use it is refused, and no other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from small_runs import REACH, Outcome, call, composed

from jsrl.commands.table import COMMANDS
from jsrl.core.errors import UserError
from jsrl.monitor.config import MonitorConfig
from jsrl.settings.kind_options import ALL, GROUPS, refuse_unused, typed_keys
from jsrl.settings.kinds import store_schema
from jsrl.settings.schema import ActivationConfig
from jsrl.settings.stages import OfflineConfig

SCHEMA_OF = {"activation": ActivationConfig, "offline": OfflineConfig, "monitor": MonitorConfig}


def config_of(*overrides: str) -> Any:
    _, plain = composed("experiment=pointmaze_jsrl", *overrides)
    return OmegaConf.create(plain)


def refused(*overrides: str, command: str = "config") -> str:
    with pytest.raises(UserError) as caught:
        refuse_unused(config_of(*overrides), overrides, command)
    return str(caught.value)


@pytest.mark.parametrize("group", sorted(SCHEMA_OF))
def test_the_table_knows_every_key_of_the_schema_and_no_other(group: str) -> None:
    names = set(OmegaConf.structured(SCHEMA_OF[group])) - {"kind"}
    table = GROUPS[group][1]
    listed = {name for names in table.values() if names != ALL for name in names}
    assert listed <= names
    if not any(names == ALL for names in table.values()):
        assert listed == names


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dataset.path=x.hdf5"], ["dataset.path=x.hdf5", "dataset=waypoint", "d4rl", "minari"]),
        (["dataset=none", "dataset.transitions=9"], ["dataset.transitions=9", "dataset=none"]),
        (["dataset=d4rl", "dataset.collected=9"], ["dataset.collected=9", "python or waypoint"]),
        (["learner=bc", "learner.expectile=0.7"], ["learner.expectile=0.7", "learner=iql"]),
        (["learner=bc", "activation.critic.name=tanh"], ["activation.critic.name", "learner=bc"]),
        (["learner=sac", "activation.value.name=tanh"], ["activation.value.name", "learner=iql"]),
        (["learner=bc", "activation.critic={name: tanh}"], ["activation.critic.name=tanh"]),
        (["learner=custom", "learner.learning_rate=1"], ["learner.arguments.NAME"]),
        (["learner=custom", "activation=tanh"], ["activation=tanh", "learner.arguments.NAME"]),
        (["guide=python", "guide.seed=1"], ["guide.seed=1", "guide=run", "guide.arguments.NAME"]),
        (
            ["guide=python", "guide.path=x"],
            ["guide.path=x", "guide=d3rlpy or run or npz or onnx or robomimic or sb3 or"],
        ),
        (["guide=none", "guide.noise=0.5"], ["guide.noise=0.5", "npz or waypoint"]),
        (["guide=waypoint", "guide.mean=[0]"], ["guide.mean=[0]"]),
        (["curriculum=none", "curriculum.stages=5"], ["curriculum.stages=5", "jsrl or random"]),
        (["curriculum=random", "curriculum.window=5"], ["curriculum.window=5", "curriculum=jsrl"]),
        (["guide=waypoint", "offline.updates=9"], ["offline.updates=9", "guide=offline"]),
        (
            ["learner=ppo", "online.learning_starts=9"],
            [
                "online.learning_starts=9",
                "learner=ppo",
                "dqn or iql",
                "of online it uses steps",
            ],
        ),
        (["learner=ppo", "online.updates_per_step=2"], ["updates_per_step=2", "learner=ppo"]),
        (["learner=ppo", "online.buffer_size=2"], ["online.buffer_size=2", "learner=ppo"]),
        (["learner=ppo", "activation.critic.name=tanh"], ["activation.critic.name", "learner=ppo"]),
        (["learner=ppo", "learner.n_step=3"], ["learner.n_step=3", "learner=ppo"]),
        (["monitor.interval=5"], ["monitor.interval=5", "monitor=on"]),
        (["monitor=on", "monitor.every=5"], ["monitor.every=5", "jsrl monitor"]),
        (["dataset=none", "learner.normalise_observations=true"], ["dataset=none"]),
        (["dataset=none", "++dataset.noise=2"], ["dataset.noise=2"]),
        (["dataset=d4rl", "dataset.path=x", "dataset.seed=1"], ["dataset.transitions=N"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_a_key_that_the_kind_does_not_use_is_refused(
    overrides: list[str], words: list[str]
) -> None:
    message = refused(*overrides)
    assert [word for word in words if word not in message] == [], message
    assert "leave" in message or "NAME" in message


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset.collected=9", "dataset.noise=0.1", "offline.updates=5", "curriculum.stages=3"],
        ["dataset=d4rl", "dataset.path=x.hdf5", "dataset.transitions=9", "dataset.seed=1"],
        ["guide=none", "curriculum=none", "dataset=none", "offline.updates=0"],
        ["guide=none", "curriculum=none", "curriculum.guide_steps=0", "guide.path=null"],
        ["learner=bc", "learner.dropout=0.1", "learner.compile=false", "activation=tanh"],
        ["learner=custom", "learner.arguments.width=3", "learner.batch_size=8"],
        ["guide=python", "guide.target=a.py:b", "guide.arguments={gain: 2}", "guide.mean=[0]"],
        ["monitor=on", "monitor.interval=5"],
        ["env.id=x", "seeds=[1]", "online.steps=0", "online.learning_starts=9"],
        ["curriculum=custom", "curriculum.target=a:b", "curriculum.decide_on=combined"],
    ],
    ids=lambda value: value[0],
)
def test_a_key_that_is_used_or_says_what_is_done_anyway_is_taken(overrides: list[str]) -> None:
    refuse_unused(config_of(*overrides), overrides)


@pytest.mark.parametrize("learner", ["bc", "iql_official"])
def test_an_experiments_own_keys_may_be_left_unused(learner: str) -> None:
    overrides = ["experiment=antmaze_jsrl", f"learner={learner}", "dataset=none", "guide=none"]
    refuse_unused(config_of(*overrides), overrides)


def test_keys_of_other_commands_are_held_against_them() -> None:
    assert "replicas" in refused("seeds=[1]", command="reproducibility")
    schema = OmegaConf.structured(COMMANDS["monitor"].load_schema())
    schema.monitor = MonitorConfig(enabled=True)
    refuse_unused(schema, ["monitor.every=5", "fault.kind=stuck"], "monitor")
    with pytest.raises(UserError, match=r"monitor.share=0.5 .* jsrl train"):
        refuse_unused(schema, ["monitor.share=0.5"], "monitor")
    with pytest.raises(UserError, match=r"fault.columns=\[4\] is not used without fault.kind"):
        refuse_unused(schema, ["fault.columns=[4]"], "monitor")


def test_dictionaries_are_taken_apart_and_arguments_are_not() -> None:
    found = typed_keys(["a.b={c: 1, d: {e: 2}}", "guide.arguments={x: 1}", "~gone", "g=option"])
    assert found == [("a.b.c", 1), ("a.b.d.e", 2), ("guide.arguments", {"x": 1}), ("g", "option")]


def test_the_command_refuses_it_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JSRL_UNUSED_KEYS", raising=False)
    words = ("train", "experiment=pointmaze_jsrl", "dataset.path=no.hdf5", "run_dir=run")
    outcome: Outcome = call(monkeypatch, capfd, *words)
    assert outcome.status == 2
    assert outcome.err.startswith("jsrl: error: dataset.path=no.hdf5 is not used with")
    assert list(tmp_path.iterdir()) == []
    sweep = ("train", "--multirun", *REACH, "curriculum.stages=2,3", "run_dir=sweep")
    assert "curriculum.stages=2 is not used" in call(monkeypatch, capfd, *sweep).err


def test_what_the_users_own_choice_leaves_unused_of_an_experiment_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("train", "experiment=pointmaze_jsrl", "run_dir=run")
    outcome = call(monkeypatch, capfd, *words, "curriculum=random", "seeds=[]")
    assert "curriculum=random has no interval, window, tolerance" in outcome.out
    # What an experiment itself leaves out of the one that it is built on is no news.
    assert call(monkeypatch, capfd, "train", "experiment=pointmaze_no_guide", "seeds=[]").out == ""


def test_a_schema_is_made_once_and_again_for_another_dataclass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ConfigStore.instance(), "repo", {})

    def known(kind: type) -> list[str]:
        store_schema("group/inner", "schema", kind)
        return list(ConfigStore.instance().load("group/inner/schema.yaml").node)

    @dataclass
    class First:
        one: int = 1

    @dataclass
    class Second:
        two: int = 2

    def never() -> DictConfig:
        raise AssertionError("made again")

    assert known(First) == ["one"]
    store_schema("group/inner", "schema", First, never)
    assert known(Second) == ["two"]
