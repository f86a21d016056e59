"""Adroit data: exact labels of demonstrations, rollouts of their clone, and the file."""

import h5py
import numpy as np
import pytest
import torch
from adroit_hands import HUMAN_DOOR, write_demonstrations
from policy_files import expert_arrays
from small_runs import call, listing

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.datasets import load_hdf5
from jsrl.datasets.adroit import cloned_guide, relabel
from jsrl.datasets.dataset import make_dataset
from jsrl.envs.adroit import AdroitBinaryEnv, BinaryTask
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.envs.registration import ADROIT_TASKS, adroit_id

SHORT = ("env.max_episode_steps=15", "behaviour_cloning.updates=20")

needs_human_door = pytest.mark.skipif(
    not HUMAN_DOOR.exists(), reason="D4RL's door-human is not on this machine"
)


@pytest.mark.parametrize("task", ADROIT_TASKS)
def test_labels_are_what_the_hand_said_when_the_demonstrations_were_made(task, tmp_path):
    successes = write_demonstrations(tmp_path / "demos.hdf5", task)
    assert 0 < successes.sum() < len(successes)
    demonstrations = load_hdf5(tmp_path / "demos.hdf5", clip_actions=True)
    data = relabel(demonstrations, BinaryTask(task))
    np.testing.assert_array_equal(data.rewards, np.where(successes, 0, -1))
    np.testing.assert_array_equal(
        relabel(demonstrations, BinaryTask(task, "zero_one")).rewards, successes
    )
    # The states are as recorded, the actions as the hand clipped them; only time ends an episode.
    np.testing.assert_array_equal(data.observations, demonstrations.data.observations)
    assert np.abs(data.actions).max() == 1
    assert not data.terminals.any()
    assert np.flatnonzero(data.timeouts).tolist() == [10, 21, 32]
    assert (demonstrations.data.rewards == 7.5).all()


def test_demonstrations_end_at_success_where_the_task_does(tmp_path):
    write_demonstrations(tmp_path / "demos.hdf5", solve=(0, 2))
    demonstrations = load_hdf5(tmp_path / "demos.hdf5", clip_actions=True)
    data = relabel(demonstrations, BinaryTask("door", end_on_success=True))
    assert np.flatnonzero(data.terminals).tolist() == [0, 12]
    assert np.flatnonzero(data.timeouts).tolist() == [11]
    assert data.rewards.tolist() == [0] + [-1] * 11 + [0]


def door_positions(*hinge):
    observations = np.zeros((len(hinge), 39), np.float32)
    observations[:, 28] = hinge
    observations[:, 0] = np.arange(len(hinge))
    return observations


def arrays(observations, terminal_rows, **more):
    terminals = np.zeros(len(observations), bool)
    terminals[list(terminal_rows)] = True
    return {
        "observations": observations,
        "actions": np.zeros((len(observations), 28), np.float32),
        "rewards": np.zeros(len(observations), np.float32),
        "terminals": terminals,
        "timeouts": np.zeros(len(observations), bool),
        **more,
    }


def test_a_terminal_step_without_a_recorded_successor_is_left_out():
    # Its success is not known: the state that it led to stands nowhere in the file.
    recorded = make_dataset(arrays(door_positions(0, 1.4, 1.5, 0, 1.4, 0), [2]), "demos")
    data = relabel(recorded, BinaryTask("door"))
    assert data.observations[:, 0].tolist() == [0, 1, 3, 4]
    assert data.rewards.tolist() == [0, 0, 0, -1]
    assert data.timeouts.tolist() == [False, True, False, True]
    with pytest.raises(UserError, match=r"demos: no transition has a known successor"):
        relabel(make_dataset(arrays(door_positions(0, 1.4), [0, 1]), "demos"), BinaryTask("door"))


def test_a_terminal_step_with_its_successor_stays_as_a_timeout():
    observations, successors = door_positions(0, 1.4), door_positions(1.4, 1.5)
    recorded = make_dataset(arrays(observations, [1], next_observations=successors), "demos")
    data = relabel(recorded, BinaryTask("door"))
    assert data.rewards.tolist() == [0, 0]
    assert (data.terminals.tolist(), data.timeouts.tolist()) == ([False] * 2, [False, True])


@needs_human_door
def test_labels_of_the_human_demonstrations_agree_with_their_dense_rewards():
    demonstrations = load_hdf5(HUMAN_DOOR, clip_actions=True)
    data = relabel(demonstrations, BinaryTask("door"))
    # Beyond 1.35 rad the dense reward holds 20 of bonuses, below it 10 at most.
    np.testing.assert_array_equal(data.rewards == 0, demonstrations.data.rewards > 15)
    solved = np.logical_or.reduceat(data.rewards == 0, demonstrations.episode_starts)
    assert (len(data), len(solved), solved.sum()) == (6704, 25, 7)


@needs_human_door
def test_replaying_the_human_demonstrations_would_not_be_exact():
    with h5py.File(HUMAN_DOOR) as file:
        names = ("qpos", "qvel", "door_body_pos")
        state = {name: file[f"infos/initial_{name}"][0] for name in names}
        recorded, action = file["observations"][:2], file["actions"][0]
    env = AdroitBinaryEnv("door")
    first, _ = env.reset(seed=0, options={"initial_state_dict": state})
    assert 0.1 < np.abs(first - recorded[0]).max() < 0.6
    second, *_ = env.step(action)
    assert np.abs(second - recorded[1]).max() > 0.1
    # It is the door of that episode: only the arm stands elsewhere.
    np.testing.assert_allclose(first[32:35], recorded[0][32:35], atol=1e-4)
    env.close()


def test_a_clone_acts_as_it_was_shown_with_noise_of_the_size_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(400, 39)).astype(np.float32)
    shown = np.tanh(observations[:, :28])
    recorded = make_dataset(arrays(observations, [399]) | {"actions": shown}, "demos")
    spec = describe_env(EnvSettings(adroit_id("door")))
    steps = []
    guide = cloned_guide(recorded.data, spec, 300, 0.0, 0.05, 0, steps.append)
    assert steps == list(range(1, 301))
    obs = Observation(torch.from_numpy(observations[None, :50]))
    mask = torch.ones(1, 50, dtype=torch.bool)
    mean = guide.act(obs, None, mask)[0].numpy()
    assert np.abs(mean - shown[:50]).mean() < 0.2
    sampled = guide.act(obs, Streams([0]), mask)[0].numpy()
    inside = np.abs(mean) < 0.8
    np.testing.assert_allclose((sampled - mean)[inside].std(), 0.05, rtol=0.1)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_demonstrations("demos.hdf5")
    return tmp_path


def test_demonstrations_come_first_then_rollouts_of_their_clone(workshop, monkeypatch, capfd):
    def collect(path, *more):
        command = ("dataset", "adroit", "demonstrations=demos.hdf5", "transitions=70", *SHORT)
        outcome = call(monkeypatch, capfd, *command, f"path={path}", *more)
        assert (outcome.status, outcome.err) == (0, ""), outcome
        assert "70 transitions" in outcome.out
        return load_hdf5(path)

    dataset = collect("a.hdf5")
    demonstrations = relabel(load_hdf5("demos.hdf5", clip_actions=True), BinaryTask("door"))
    shown = len(demonstrations)
    for name in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(
            getattr(dataset.data, name)[:shown], getattr(demonstrations, name)
        )
    # Three demonstrations of 11, then episodes of 15, the last one cut.
    assert dataset.episode_lengths.tolist() == [11, 11, 11, 15, 15, 7]
    assert set(np.unique(dataset.data.rewards)) == {-1, 0}
    assert not dataset.data.terminals.any()
    with h5py.File("a.hdf5") as file:
        assert file["infos/demonstration"][()].tolist() == [True] * shown + [False] * 37
        found = dict(file.attrs)
    assert found["env_id"] == "jsrl/door-binary-v0" and found["seed"] == 0
    assert found["demonstrations"] == "demos.hdf5" and "version_mujoco" in found
    assert collect("b.hdf5").fingerprint == dataset.fingerprint
    assert collect("c.hdf5", "seed=1").fingerprint != dataset.fingerprint
    files = {"a.hdf5", "b.hdf5", "c.hdf5", "demos.hdf5"}
    assert {name for name in listing(workshop) if "report" not in name} == files


def test_an_expert_serves_where_there_are_no_demonstrations(workshop, monkeypatch, capfd):
    np.savez("expert.npz", **expert_arrays(39, 30))
    command = ("dataset", "adroit", "env=adroit_relocate", "guide=npz", "guide.path=expert.npz")
    outcome = call(monkeypatch, capfd, *command, "transitions=40", "env.max_episode_steps=15")
    assert (outcome.status, outcome.err) == (0, ""), outcome
    dataset = load_hdf5("data/jsrl/relocate-binary-v0.hdf5")
    assert (len(dataset), dataset.action_size) == (40, 30)
    with h5py.File("data/jsrl/relocate-binary-v0.hdf5") as file:
        assert not file["infos/demonstration"][()].any()


def test_all_transitions_may_be_demonstrations(workshop, monkeypatch, capfd):
    command = ("dataset", "adroit", "demonstrations=demos.hdf5", "transitions=33", "path=a.hdf5")
    options = ("env.kwargs.reward=zero_one", *SHORT)
    assert call(monkeypatch, capfd, *command, *options).status == 0
    assert len(load_hdf5("a.hdf5")) == 33
    assert load_hdf5("a.hdf5").data.rewards.min() == 0


MISTAKES = [
    ((), ("demonstrations=None", "guide=none", "guide=npz guide.path=FILE")),
    (("guide=offline", "demonstrations=demos.hdf5"), ("guide=offline", "exists already")),
    (("demonstrations=no.hdf5",), ("demonstrations=no.hdf5", "no such file")),
    (("demonstrations=door-humen-v0",), ("door-humen-v0", "door-human-v0")),
    (("demonstrations=cut.hdf5",), ("demonstrations=cut.hdf5", "truncated")),
    (("demonstrations=demos.hdf5", "env=adroit_relocate"), ("demos.hdf5", "action size is 28")),
    (("demonstrations=demos.hdf5", "transitions=32"), ("transitions=32", "33")),
    (("demonstrations=demos.hdf5", "transitions=0"), ("transitions=0", "at least 1")),
    (
        ("demonstrations=demos.hdf5", "behaviour_cloning.noise=0"),
        ("behaviour_cloning.noise=0", "above 0"),
    ),
    (
        ("demonstrations=demos.hdf5", "behaviour_cloning.dropout=1"),
        ("behaviour_cloning.dropout=1", "[0, 1)"),
    ),
    (
        ("demonstrations=demos.hdf5", "behaviour_cloning.update=9"),
        ("did you mean behaviour_cloning.updates?",),
    ),
    (("guide=npz", "guide.path=pen.npz"), ("'pen.npz'", "45 observations", "39")),
    (("guide=npz", "guide.path=no.npz"), ("'no.npz'", "does not exist")),
    (("env=adroit_hammer",), ("env=adroit_hammer", "adroit_door")),
    (("env=antmaze_umaze",), ("jsrl/antmaze-umaze-v0", "jsrl/door-binary-v0")),
    (("env.kwargs.reward=dense",), ("reward='dense'", "minus_one_zero")),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: "_".join(value[-1:]))
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(
    arguments, words, workshop, monkeypatch, capfd
):
    (workshop / "cut.hdf5").write_bytes((workshop / "demos.hdf5").read_bytes()[:5000])
    np.savez("pen.npz", **expert_arrays(45, 24))
    before = listing(workshop)
    outcome = call(monkeypatch, capfd, "dataset", "adroit", *arguments)
    assert outcome.status == 2, outcome
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert [word for word in words if word not in outcome.err] == [], outcome.err
    assert listing(workshop) == before
