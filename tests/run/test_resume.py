"""Runs that are killed or stopped anywhere go on, and end where an uninterrupted run ends."""

import os
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disturbances import (
    EVALUATE,
    FINISH,
    STEP,
    UPDATE,
    Disturbance,
    interrupt,
    kill,
    terminate,
    train_disturbed,
)
from small_runs import (
    REACH,
    TINY,
    assert_same_run,
    different,
    finish,
    leaves,
    listing,
    metrics,
    newest_state,
    read_summary,
    run,
    start,
    train_here,
    wait_until,
    write_reach_data,
)

from jsrl.core.checkpoint import checkpoint_paths, load_checkpoint
from jsrl.loggers import Record

JUMP_START = (
    *REACH,
    "dataset=d4rl",
    "guide=offline",
    "curriculum=jsrl",
    "seeds=[0,3]",
    "env.num_envs=2",
    "guide.sample=true",
    "learner.dropout=0.1",
    "learner.normalise_observations=true",
    "online.updates_per_step=0.15",
    "online.critic_warmup_steps=90",
    "curriculum.initial_guide_steps=40",
    "curriculum.stages=4",
    "logger.interval=36",
    "checkpoint.interval=20",
)
"""Everything that has a state, at once: samples, dropout, warm-up, fewer updates than steps."""

MEMORY_GUIDE = '''
"""A guide that remembers: it goes by the mean of all that it saw in an episode."""

import numpy as np


class Remembering:
    stateful = True

    def __init__(self):
        self.seen = {}

    def reset(self, rows):
        for row in rows:
            self.seen[int(row)] = []

    def act(self, observations, rows):
        actions = []
        for row, observation in zip(rows, observations):
            seen = self.seen[int(row)]
            seen.append(observation[2:4])
            actions.append(np.tanh(0.05 * len(seen) - 3 * np.mean(seen, 0)))
        return np.stack(actions)
'''


def with_memory(folder: Path) -> tuple[str, ...]:
    (folder / "remembering.py").write_text(MEMORY_GUIDE)
    return (
        *REACH,
        "dataset=none",
        "offline.updates=0",
        "guide=python",
        f"guide.target={folder}/remembering.py:Remembering",
        "curriculum=random",
        "curriculum.initial_guide_steps=60",
        "curriculum.stages=3",
        "seeds=[5]",
        "env.num_envs=2",
        "online.offline_fraction=0",
        "online.steps=200",
        "evaluation.interval=66",
    )


def test_a_run_killed_and_stopped_in_every_stage_ends_as_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    overrides = (*JUMP_START, f"dataset.path={write_reach_data(tmp_path / 'data.hdf5')}")
    train_here(tmp_path / "whole", *overrides)
    disturbances: list[Disturbance] = [
        (UPDATE, 3, kill),  # before the first checkpoint
        (UPDATE, 25, kill),
        (UPDATE, 4, terminate),
        (EVALUATE, 1, kill),  # while the guide is measured
        (STEP, 17, kill),  # critic warm-up, mid-episode, after the checkpoint at its start
        (STEP, 23, interrupt),
        (STEP, 37, terminate),  # online, mid-episode
        (STEP, 50, kill),
        (EVALUATE, 1, kill),
        (STEP, 61, interrupt),
        (FINISH, 1, kill),  # all is learnt, and the summary not yet written
    ]
    for disturbance in disturbances:
        train_disturbed(tmp_path / "parts", disturbance, *overrides)
    train_here(tmp_path / "parts", *overrides)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_guide_with_memory_sees_the_same_again_after_a_kill(tmp_path: Path) -> None:
    overrides = with_memory(tmp_path)
    train_here(tmp_path / "whole", *overrides)
    for disturbance in [(STEP, 36, kill), (STEP, 15, terminate), (EVALUATE, 1, kill)]:
        train_disturbed(tmp_path / "parts", disturbance, *overrides)
    train_here(tmp_path / "parts", *overrides)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    shares = [r.value for r in metrics(tmp_path / "whole") if r.name == "collect/guide_fraction"]
    assert 0 < np.mean(shares) < 1


PLAIN = (*REACH, "online.offline_fraction=0", "offline.updates=0", "online.updates_per_step=0.3")
"""Online IQL from scratch, in this process."""

PENDULUM = (
    "env=gymnasium",
    "env.id=Pendulum-v1",
    "env.success_key=null",
    "online.offline_fraction=0",
    "offline.updates=0",
    "logger=plain",
)
"""The same in an environment that another process knows too."""


def test_a_killed_process_leaves_a_run_that_the_same_command_completes(tmp_path: Path) -> None:
    overrides = ("experiment=pointmaze_jsrl", "logger=tensorboard", *TINY, "online.steps=260")
    command = ("train", *overrides, "run_dir=parts")
    records = tmp_path / "parts" / "metrics.jsonl"
    process = start(tmp_path, *command)
    # A record that lies after the newest checkpoint, so that some must be written again.
    wait_until(
        lambda: records.exists() and '"step": 160, "phase": "online"' in records.read_text(),
        process,
    )
    process.send_signal(signal.SIGKILL)
    assert finish(process).status == -signal.SIGKILL
    steps = load_checkpoint(checkpoint_paths(tmp_path / "parts" / "checkpoints")[-1])["clock"]
    outcome = run(tmp_path, *command)
    assert outcome.status == 0, outcome
    assert outcome.err == ""
    assert {path.name for path in tmp_path.iterdir()} == {"parts"}
    assert f"in stage online at {steps['steps']}" in outcome.out
    train_here(tmp_path / "whole", *overrides)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_asked_to_stop_saves_says_so_and_ends_with_128_and_the_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = ("train", *PENDULUM, *TINY, "online.steps=100000", "run_dir=run")
    records = tmp_path / "run" / "metrics.jsonl"
    # Subprocesses of a shell's group get Ctrl-C too, so one run has environments in processes.
    shell = {"start_new_session": True}
    extra = ("env.vectorisation=async",) if number == signal.SIGINT else ()
    process = start(tmp_path, *command, *extra, **shell)
    # The first records are of evaluations before the first step.
    wait_until(lambda: records.exists() and '"collect/length"' in records.read_text(), process)
    os.killpg(process.pid, number) if extra else process.send_signal(number)
    outcome = finish(process)
    assert outcome.status == 128 + number
    assert outcome.err == ""
    assert f"stopped by {number.name}; everything is saved" in outcome.out.splitlines()[-1]
    assert load_checkpoint(checkpoint_paths(tmp_path / "run" / "checkpoints")[-1])["clock"]["steps"]
    assert not [name for name in listing(tmp_path) if name.endswith(".tmp")]


def test_a_seed_runs_the_same_alone_and_in_company(tmp_path: Path) -> None:
    overrides = (*JUMP_START, f"dataset.path={write_reach_data(tmp_path / 'data.hdf5')}")
    train_here(tmp_path / "company", *overrides, "seeds=[0,1,2]")
    train_here(tmp_path / "alone", *overrides, "seeds=[2]")
    company, alone = newest_state(tmp_path / "company"), newest_state(tmp_path / "alone")
    for state in (company, alone):
        del state["seeds"], state["guide"]  # a hash over the networks of all seeds
        for policy in state["policies"].values():
            del policy["description"]["arguments"]["num_seeds"]
    assert different(_of_seed(company, alone, 2, 3), alone) == []
    assert _values(tmp_path / "company", 2) == _values(tmp_path / "alone", 2)
    for policy, measures in read_summary(tmp_path / "alone")["evaluation"].items():
        together = read_summary(tmp_path / "company")["evaluation"][policy]
        for name, values in measures.items():
            assert together[name]["per_seed"][2:] == values["per_seed"]


def _values(directory: Path, seed: int) -> list[Record]:
    """The values of one seed. A null stands where only episodes of other seeds ended."""
    return [r for r in metrics(directory) if r.seed == seed and r.value is not None]


def _of_seed(company: Any, alone: Any, index: int, count: int) -> Any:
    """The part of a state that is one seed's, where it is larger than the state of a seed alone."""
    if isinstance(alone, dict):
        return {key: _of_seed(company[key], alone[key], index, count) for key in company}
    if isinstance(alone, list) and len(company) > len(alone):
        assert len(company) == count
        return [_of_seed(company[index], alone[0], 0, 1)]
    if isinstance(alone, list):
        return [_of_seed(*pair, index, count) for pair in zip(company, alone, strict=True)]
    if isinstance(alone, torch.Tensor) and company.shape != alone.shape:
        return company.chunk(count)[index]
    return company


def test_the_same_command_gives_the_same_run_and_another_seed_another_one(tmp_path: Path) -> None:
    for name, seed in (("one", 4), ("again", 4), ("other", 5)):
        train_here(tmp_path / name, *PLAIN, f"seeds=[{seed}]")
    assert_same_run(tmp_path / "one", tmp_path / "again")
    one, other = newest_state(tmp_path / "one"), newest_state(tmp_path / "other")
    assert ".learner.networks.actor.mlp.output.weight" in dict(_parameters(one))
    assert all(
        not torch.equal(value, dict(_parameters(other))[name]) for name, value in _parameters(one)
    )


def _parameters(state: dict[str, Any]) -> list[tuple[str, torch.Tensor]]:
    found = leaves(state["learner"]["networks"], ".learner.networks")
    return [(name, value) for name, value in found if name.endswith("weight")]


def test_a_finished_run_goes_on_to_more_steps_as_if_it_had_never_ended(tmp_path: Path) -> None:
    # The buffer of the short run has no room for what the long run stores.
    overrides = (*PLAIN, "env.num_envs=3", "online.buffer_size=150")
    train_here(tmp_path / "long", *overrides, "online.steps=250")
    train_here(tmp_path / "grown", *overrides, "online.steps=100")
    before = read_summary(tmp_path / "grown")
    train_here(tmp_path / "grown", *overrides, "online.steps=250")
    assert read_summary(tmp_path / "grown")["env_steps"] > before["env_steps"]
    assert_same_run(tmp_path / "long", tmp_path / "grown")


def test_a_finished_run_says_so_and_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train_here(tmp_path / "run", *PLAIN, "online.steps=60")
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train_here(tmp_path / "run", *PLAIN, "online.steps=60") == first
    assert "finished: nothing to do" in capsys.readouterr().out
    assert files == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_an_environment_that_does_not_replay_is_reported_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = (*PLAIN, "env.num_envs=2", "+env.kwargs.strays=true")
    train_disturbed(tmp_path / "run", (STEP, 50, terminate), *overrides)
    capsys.readouterr()
    train_here(tmp_path / "run", *overrides)
    said = capsys.readouterr().out
    assert "environments [0, 1] did not replay" in said
    assert "not identical to an uninterrupted one" in said
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_second_process_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    command = ("train", *PENDULUM, *TINY, "online.steps=100000", "run_dir=run")
    process = start(tmp_path, *command)
    wait_until((tmp_path / "run" / "metrics.jsonl").exists, process)
    # The first one goes on meanwhile: it keeps its newest checkpoints only, and gives a file its
    # name once it is whole.
    passing = ("checkpoints/", ".tmp")
    before = {path for path in listing(tmp_path) if not any(part in path for part in passing)}
    second = run(tmp_path, *command)
    process.kill()
    process.communicate()
    assert second.status == 2
    assert all(line.endswith("left out") for line in second.out.splitlines())
    assert len(second.err.splitlines()) == 1
    assert "run_dir='run' is in use by another run" in second.err
    assert before <= listing(tmp_path)


def test_a_full_disk_stops_a_run_with_one_line_and_loses_nothing(tmp_path: Path) -> None:
    command = ("train", *PENDULUM, *TINY, "run_dir=run", "checkpoint.interval=50")

    # Room for the first checkpoints; with the buffer they grow.
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (68_000, 68_000))

    checkpoints = tmp_path / "run" / "checkpoints"
    outcome = run(tmp_path, *command, preexec_fn=small_files)
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert "run/checkpoints/" in outcome.err
    assert "cannot be written" in outcome.err
    assert "File too large" in outcome.err
    assert "run the same command again" in outcome.err
    assert not [name for name in listing(tmp_path) if ".tmp" in name]
    kept = checkpoint_paths(checkpoints)
    steps = load_checkpoint(kept[-1])["clock"]["steps"]
    again = run(tmp_path, *command)
    assert again.status == 0, again
    assert f"resuming run in stage online at {steps}" in again.out
    train_here(tmp_path / "whole", *PENDULUM, "checkpoint.interval=50")
    assert_same_run(tmp_path / "whole", tmp_path / "run")
