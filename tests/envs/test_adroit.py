"""Adroit hands with a binary reward: what they pay, when they end, whose success they report."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from adroit_hands import solved_state
from gymnasium.utils.env_checker import check_env
from policy_files import POLICIES, needs_policies
from small_runs import finish

import jsrl
from jsrl.core.errors import UserError
from jsrl.envs.adroit import REWARDS, SOLVED, AdroitBinaryEnv
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.envs.registration import ADROIT_TASKS, adroit_id
from jsrl.guides.npz import ExpertPolicy, read_npz

SIZES = {"door": (39, 28), "pen": (45, 24), "relocate": (39, 30)}
"""D4RL's observations and actions."""


@pytest.mark.parametrize("task", ADROIT_TASKS)
def test_importing_the_package_registers_the_tasks_with_d4rls_sizes_and_limits(task):
    assert jsrl.__version__
    assert gym.spec(adroit_id(task)).max_episode_steps == (100 if task == "pen" else 200)
    spec = describe_env(EnvSettings(adroit_id(task)))
    assert (spec.observation.size, spec.actions.size) == SIZES[task]
    assert set(spec.box.low) == {-1.0} and set(spec.box.high) == {1.0}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("task", ADROIT_TASKS)
@pytest.mark.parametrize("end_on_success", [False, True])
def test_passes_gymnasiums_checker(task, end_on_success):
    env = AdroitBinaryEnv(task, end_on_success=end_on_success)
    check_env(env, skip_render_check=True)
    env.close()


def start_solved(env, task):
    env.reset(seed=0)
    options = {"initial_state_dict": solved_state(task, env)}
    return env.reset(seed=0, options=options)


@pytest.mark.parametrize("task", ADROIT_TASKS)
@pytest.mark.parametrize("reward", REWARDS)
def test_pays_by_the_state_of_each_step_and_goes_on_after_success(task, reward):
    env = AdroitBinaryEnv(task, reward)
    before, after = {"minus_one_zero": (-1.0, 0.0), "zero_one": (0.0, 1.0)}[reward]
    for seed in (0, 1):
        env.reset(seed=seed)
        _, paid, terminated, truncated, info = env.step(np.zeros(env.action_space.shape))
        assert (paid, terminated, truncated, info["success"]) == (before, False, False, False)
    start_solved(env, task)
    _, paid, terminated, truncated, info = env.step(np.zeros(env.action_space.shape))
    assert (paid, terminated, truncated, info["success"]) == (after, False, False, True)
    assert type(info["success"]) is bool and type(paid) is float
    env.close()


@pytest.mark.parametrize("task", ADROIT_TASKS)
def test_ends_at_success_if_asked_to_and_only_then(task):
    env = AdroitBinaryEnv(task, end_on_success=True)
    env.reset(seed=0)
    assert not env.step(np.zeros(env.action_space.shape))[2]
    start_solved(env, task)
    assert env.step(np.zeros(env.action_space.shape))[1:4] == (0.0, True, False)
    env.close()


@pytest.mark.parametrize("task", ADROIT_TASKS)
def test_success_is_the_underlying_environments_and_follows_from_the_observation(task):
    ours = AdroitBinaryEnv(task)
    theirs = gym.make(f"AdroitHand{task.capitalize()}Sparse-v1").unwrapped
    rng, found = np.random.default_rng(0), []
    for solved in (True, False):
        observation, _ = ours.reset(seed=3)
        np.testing.assert_array_equal(observation, theirs.reset(seed=3)[0])
        if solved:
            options = {"initial_state_dict": solved_state(task, ours)}
            ours.reset(seed=3, options=options)
            theirs.reset(seed=3, options=options)
        for _ in range(40):
            action = rng.uniform(-1.1, 1.1, ours.action_space.shape)
            observation, paid, *_, info = ours.step(action)
            other, sparse, *_, other_info = theirs.step(action)
            np.testing.assert_array_equal(observation, other)
            assert info["success"] == other_info["success"] == (paid == 0.0) == (sparse == 10.0)
            # In the precision in which data are stored, too.
            assert ours.task.solved(observation[None].astype(np.float32))[0] == info["success"]
            found.append(info["success"])
    assert {True, False} == set(found)
    ours.close()
    theirs.close()


def test_the_same_seed_gives_the_same_episode_and_another_seed_another():
    def episode(seed):
        envs = Environments(EnvSettings(adroit_id("relocate")), 1)
        rows = [envs.reset(np.ones(1, bool), [seed]).vector]
        for index in range(20):
            step = envs.step(np.full((1, 30), np.sin(index), np.float32))
            rows.append(step.observation.vector)
            assert step.successes.tolist() == [0.0]
        envs.close()
        return np.concatenate(rows)

    np.testing.assert_array_equal(episode(7), episode(7))
    assert (episode(7)[0] != episode(8)[0]).any()


def test_an_unknown_task_and_reward_are_told():
    with pytest.raises(UserError, match="no task 'hammer'; choose one of door, pen, relocate"):
        AdroitBinaryEnv("hammer")
    with pytest.raises(UserError, match=r"reward='sparse' is unknown; choose one of minus_one"):
        describe_env(EnvSettings(adroit_id("door"), {"reward": "sparse"}))
    assert set(SOLVED) == set(ADROIT_TASKS)


def test_making_one_is_quiet_and_leaves_no_file(tmp_path):
    program = (
        "import sys, jsrl, gymnasium\n"
        "assert not {'mujoco', 'gymnasium_robotics', 'torch'} & set(sys.modules)\n"
        "env = gymnasium.make('jsrl/door-binary-v0')\n"
        "env.reset(seed=0)\n"
        "env.step(env.action_space.sample())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    outcome = finish(process)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@needs_policies
@pytest.mark.parametrize("task", ADROIT_TASKS)
def test_the_experts_of_d4rl_solve_the_task_step_after_step(task):
    env = gym.make(adroit_id(task))
    policy = ExpertPolicy(read_npz(POLICIES / f"adroit_{task}_expert.npz"))
    episodes = []
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        over, successes = False, []
        while not over:
            action = policy(observation[None].astype(np.float32), 0, None)[0]
            observation, paid, _, over, info = env.step(action)
            solved = env.unwrapped.task.solved(observation[None])[0]
            assert solved == info["success"] == (paid == 0)
            successes.append(info["success"])
        assert len(successes) == ADROIT_TASKS[task]
        episodes.append(sum(successes) > 25)
    assert sum(episodes) >= 2
    env.close()
