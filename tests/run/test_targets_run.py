"""Whole runs whose targets are made with what a rule of who acts says: resumed, told, refused."""

from pathlib import Path

import pytest
from disturbances import Disturbance, kill, terminate, train_disturbed
from small_runs import REACH, assert_same_run, different, newest_state, train_here, write_reach_data

from jsrl.core.errors import UserError
from jsrl.rollout.online import OnlineRunner

TASK = (
    *(*REACH, "dataset=d4rl", "curriculum=none", "guide=random", "learner=sac"),
    *("online.offline_fraction=0.5", "online.steps=100", "online.learning_starts=20"),
    *("online.updates_per_step=0.2", "evaluation.interval=100"),
    *("arbiter=ibrl", "arbiter.inverse_temperature=10"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_reach_data(tmp_path_factory.mktemp("data") / "reach.hdf5")
    return f"dataset.path={path}"


def test_a_run_stopped_anywhere_ends_as_an_uninterrupted_one(tmp_path: Path, data: str) -> None:
    """With a guide that draws, also in the data, and episodes that are cut in two."""
    task = (*TASK, data, "seeds=[0,3]", "env.num_envs=2", "online.critic_warmup_steps=20")
    train_here(tmp_path / "whole", *task)
    step = (OnlineRunner, "step")
    disturbances: list[Disturbance] = [(step, 7, terminate), (step, 25, kill)]
    for disturbance in disturbances:
        train_disturbed(tmp_path / "parts", disturbance, *task)
    train_here(tmp_path / "parts", *task)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(("learner", "arbiter"), [("td3", "residual"), ("iql", "ibrl")])
def test_without_its_target_a_rule_leaves_learner_and_replay_alone(
    tmp_path: Path, data: str, learner: str, arbiter: str, capfd: pytest.CaptureFixture[str]
) -> None:
    task = (*TASK[:-2], data, f"learner={learner}", f"arbiter={arbiter}", "guide=offline")
    states = {}
    for name in ("true", "false"):
        train_here(tmp_path / name, *task, f"arbiter.bootstrap={name}", "offline.updates=5")
        states[name] = newest_state(tmp_path / name)
        says = "those of learner=iql take no action that could be another one"
        assert (says in capfd.readouterr().out) is (learner == "iql" and name == "true")
    rows = {name: state["runner"]["buffer"]["rows"] for name, state in states.items()}
    assert rows["false"].shape[-1] == 2 * 4 + 2 + 7
    assert rows["true"].shape[-1] == 2 * 4 + 2 + 7 + 2 * (learner != "iql")
    learnt = [state["learner"] for state in states.values()]
    assert (different(*learnt) == []) is (learner == "iql")
    assert "foresight" not in states["false"]["runner"]["collector"]


REMEMBERS = """
class Remembers:
    stateful = True
    def reset(self, rows): ...
    def __call__(self, observations, rows): return observations[:, :2] * 0
"""


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (("replay.relabel=her",), ["replay.relabel=her", "other goals", "arbiter.bootstrap=false"]),
        (("guide=python", "guide.target={own}"), ["guide=python", "online.offline_fraction=0"]),
        (("guide=human", "evaluation.num_envs=1"), ["ask a person in every state of the data"]),
    ],
)
def test_what_the_guide_cannot_say_is_refused_in_one_line(
    tmp_path: Path, data: str, chosen: tuple[str, ...], words: list[str]
) -> None:
    (tmp_path / "own.py").write_text(REMEMBERS)
    own = [word.format(own=f"{tmp_path / 'own.py'}:Remembers") for word in chosen]
    with pytest.raises(UserError) as error:
        train_here(tmp_path / "run", *TASK, data, *own)
    assert "\n" not in str(error.value)
    for word in ["arbiter=ibrl", *words]:
        assert word in str(error.value)
