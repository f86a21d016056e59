"""What works with policies of a user's own learner, and what says in one line that it does not."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from bounded import overrides
from small_runs import REACH, call, different, newest_state, run, train_here, write_reach_data

import jsrl
from jsrl.core.checkpoint import checkpoint_paths
from jsrl.core.errors import UserError

HERE = Path(__file__).parent
TD3 = HERE.parents[1] / "scripts/examples/learner_td3.py"
PLAIN = ("dataset=none", "guide=none", "curriculum=none", "online.steps=80", "offline.updates=0")
GUIDED = ("curriculum=constant", "curriculum.guide_steps=5")
OWN = overrides("twice")


def learner(target, *more):
    return ("learner=custom", f"learner.target={HERE / target}", *more)


TD3_LEARNER = (*learner(f"{TD3}:TD3"), "learner.arguments.hidden=[8,8]")


@pytest.fixture(scope="module")
def td3_run(tmp_path_factory):
    """A run of two seeds whose learner and policy are the example's."""
    folder = tmp_path_factory.mktemp("td3") / "run"
    train_here(folder, *OWN, *PLAIN, *TD3_LEARNER, "seeds=[0,5]")
    return folder


def by_hand(state, seed_index, observations):
    """The policy's mode in NumPy, from the weights in a checkpoint."""
    rows = observations
    weights = state["policies"]["exploration"]["state"]
    for layer in ("hidden_0", "hidden_1", "output"):
        weight, bias = (weights[f"mlp.{layer}.{n}"][seed_index].numpy() for n in ("weight", "bias"))
        rows = rows @ weight + bias
        if layer != "output":
            rows = np.maximum(rows, 0)
    return np.tanh(rows)


OBSERVATIONS = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)


def test_a_policy_class_of_ones_own_is_in_the_checkpoint_by_name_and_plain_arguments(td3_run):
    stored = newest_state(td3_run)["policies"]["exploration"]["description"]
    assert stored["class"] == "td3"
    # Relative to the folder of the command where it lies below that.
    assert Path(stored["folder"], stored["target"]) == Path(f"{TD3}:DeterministicPolicy")
    assert stored["arguments"] == {
        "num_seeds": 2, "observation_size": 3, "action_size": 2, "hidden": [8, 8], "noise": 0.2,
    }  # fmt: skip


def test_it_is_loaded_and_acts_as_its_weights_say(td3_run):
    expected = 2 * by_hand(newest_state(td3_run), 1, OBSERVATIONS)
    policy = jsrl.load_policy(td3_run, seed=5)
    np.testing.assert_allclose(policy.predict(OBSERVATIONS)[0], expected, atol=1e-6)
    noisy = policy.predict(OBSERVATIONS, deterministic=False)[0]
    assert 0 < np.abs(noisy - expected).max() < 4 * 2 * 0.2


def test_it_is_evaluated_by_another_process_in_another_folder(tmp_path):
    folder = tmp_path / "pendulum"
    pendulum = ("env=gymnasium", "env.id=Pendulum-v1", "env.success_key=null")
    train_here(folder, *pendulum, *PLAIN, *TD3_LEARNER)
    outcome = run(tmp_path, "evaluate", f"run={folder}", "episodes=2")
    assert outcome.status == 0, outcome
    assert f"your own class 'td3': loading it runs the code in {TD3}" in outcome.err


def test_it_is_evaluated_as_at_the_end_of_its_run(td3_run, monkeypatch, capfd):
    summary = train_here(td3_run, *OWN, *PLAIN, *TD3_LEARNER, "seeds=[0,5]")
    outcome = call(monkeypatch, capfd, "evaluate", f"run={td3_run}")
    assert outcome.status == 0, outcome
    mean = summary["evaluation"]["exploration"]["return"]["mean"]
    assert f"{mean:>9.4g}" in next(
        line for line in outcome.out.splitlines() if line.startswith("exploration  return")
    )


def test_it_is_resumed_bitwise(td3_run, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    rest = [o for o in PLAIN if "online.steps" not in o]
    common = (*OWN, *rest, *TD3_LEARNER, "seeds=[0,5]", "checkpoint.interval=40")
    train_here(whole, *common, "online.steps=120")
    train_here(halves, *common, "online.steps=80")
    train_here(halves, *common, "online.steps=120")
    one, other = newest_state(whole), newest_state(halves)
    for key in ("learner", "policies", "runner"):
        assert different(one[key], other[key]) == []
    assert one["learner"]["updates"] > 0


def test_it_is_exported_as_its_weights_say(td3_run, tmp_path, monkeypatch, capfd):
    outcome = call(monkeypatch, capfd, "export", f"run={td3_run}", f"output={tmp_path}")
    assert outcome.status == 0, outcome
    for index, seed in enumerate((0, 5)):
        expected = 2 * by_hand(newest_state(td3_run), index, OBSERVATIONS)
        script = torch.jit.load(str(tmp_path / f"exploration_seed{seed}.torchscript.pt"))
        session = onnxruntime.InferenceSession(str(tmp_path / f"exploration_seed{seed}.onnx"))
        for rows, right in ((OBSERVATIONS, expected), (OBSERVATIONS[3], expected[3])):
            found = session.run(None, {"observation": rows})[0]
            np.testing.assert_allclose(found, right, atol=1e-5)
            np.testing.assert_allclose(script(torch.from_numpy(rows)), right, atol=1e-5)


def test_it_is_monitored(td3_run, tmp_path, monkeypatch, capfd):
    trusted = ("data=trusted", "monitor.trusted=40")
    few = ("monitor.reference=40", "episodes=6", "monitor.horizon=100", "monitor.rate_tests=10")
    outcome = call(monkeypatch, capfd, "monitor", f"run={td3_run}", *trusted, "num_envs=4")
    assert outcome.status == 0, outcome
    output = tmp_path / "audit"
    few = (*few, f"output={output}", "monitor.permutations=12000")
    outcome = call(monkeypatch, capfd, "monitor", f"run={td3_run}", *few)
    assert outcome.status == 0, outcome
    assert "no alarm" in outcome.out
    layers = json.loads((output / "violations.json").read_text())["layers"]
    assert "mlp.activation_1" in {layer["layer"] for layer in layers}


def test_a_run_with_it_is_watched_while_it_trains(tmp_path):
    folder = tmp_path / "run"
    train_here(folder, *OWN, *PLAIN, *TD3_LEARNER, "monitor=on", "monitor.trusted=4")
    assert (folder / "monitor" / "recording").is_dir()


@pytest.mark.parametrize("sample", ["false", "true"])
def test_it_guides_another_run(td3_run, tmp_path, sample):
    rest = [o for o in PLAIN if not o.startswith(("guide", "curriculum"))]
    guided = ("guide=run", f"guide.path={td3_run}", "guide.seed=5", f"guide.sample={sample}")
    summary = train_here(tmp_path / "guided", *OWN, *rest, *guided, *GUIDED)
    assert summary["env_steps"] == 80
    assert newest_state(tmp_path / "guided")["policies"]["guide"]["description"]["class"] == "td3"


def test_a_class_whose_file_has_changed_since_is_told(tmp_path):
    own, folder = tmp_path / "own_td3.py", tmp_path / "run"
    own.write_text(TD3.read_text().replace('"td3"', '"own td3"'))
    pendulum = ("env=gymnasium", "env.id=Pendulum-v1", "env.success_key=null")
    custom = (*learner(f"{own}:TD3"), "learner.arguments.hidden=[8,8]")
    train_here(folder, *pendulum, *PLAIN, *custom)
    words = f"{own}:DeterministicPolicy has changed since the policy was saved"
    outcome = run(tmp_path, "evaluate", f"run={folder}", "episodes=1")
    assert (outcome.status, words in outcome.err) == (0, False), outcome
    own.write_text(own.read_text() + "\n# Changed.\n")
    outcome = run(tmp_path, "evaluate", f"run={folder}", "episodes=1")
    assert (outcome.status, words in outcome.err) == (0, True), outcome


def change_description(folder, **changes):
    for path in checkpoint_paths(folder / "checkpoints"):
        state = torch.load(path, weights_only=True)
        description = state["policies"]["exploration"]["description"]
        state["policies"]["exploration"]["description"] = {**description, **changes}
        torch.save(state, path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class": "unheard", "target": None}, "'unheard', which is not registered"),
        ({"class": "gone", "target": "/nowhere/gone.py:Policy"}, "there is no file"),
        ({"class": "gone", "target": "no_such_module_here:Policy"}, "there is no module"),
        ({"class": "other", "target": f"{TD3}:DeterministicPolicy"}, "not registered as 'other'"),
        ({"class": "td4", "target": f"{TD3}:TD3"}, "not registered as 'td4'"),
    ],
)
def test_a_class_that_is_not_found_is_refused_in_one_line(
    tmp_path, monkeypatch, capfd, changes, words
):
    folder = tmp_path / "run"
    train_here(folder, *OWN, *PLAIN, *learner("own_policies.py:WithGaussian"))
    change_description(folder, **changes)
    for arguments in (("evaluate", f"run={folder}"), ("export", f"run={folder}")):
        outcome = call(monkeypatch, capfd, *arguments)
        assert outcome.status == 2, outcome
        said = [line for line in outcome.err.splitlines() if "runs the code in" not in line]
        assert len(said) == 1
        assert words in said[0]


def test_a_checkpoint_with_other_arguments_is_refused_in_one_line(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "run"
    train_here(folder, *OWN, *PLAIN, *learner("own_policies.py:WithGaussian"))
    change_description(folder, arguments={"num_seeds": 1, "colour": "red"})
    outcome = call(monkeypatch, capfd, "evaluate", f"run={folder}")
    assert outcome.status == 2, outcome
    assert "cannot be rebuilt" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_what_will_not_work_is_said_at_the_start_and_by_each_command(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "run"
    target = learner("own_policies.py:WithDerived")
    summary = train_here(folder, *OWN, *PLAIN, *target)
    assert summary["env_steps"] == 80
    said = capfd.readouterr().out
    lines = [line for line in said.splitlines() if "will not be in the checkpoints" in line]
    assert len(lines) == 1
    assert "the exploration policy (Derived is not registered by @register_policy)" in lines[0]
    for command in ("jsrl evaluate", "jsrl export", "jsrl monitor", "guide=run", "load_policy"):
        assert command in lines[0]
    guided = ("train", *OWN, "guide=run", f"guide.path={folder}", "online.steps=1")
    for arguments in (
        ("evaluate", f"run={folder}"),
        ("export", f"run={folder}"),
        ("monitor", f"run={folder}"),
        (*guided, f"run_dir={tmp_path / 'guided'}", "curriculum=constant"),
    ):
        outcome = call(monkeypatch, capfd, *arguments)
        assert outcome.status == 2, outcome
        assert "its exploration policy (Derived is not registered" in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
    with pytest.raises(UserError, match="Derived is not registered"):
        jsrl.load_policy(folder, seed=0)
    # It resumes all the same.
    longer = [o for o in PLAIN if "online.steps" not in o]
    again = train_here(folder, *OWN, *longer, *target, "online.steps=100")
    assert again["env_steps"] == 100


def test_a_checkpoint_of_before_gives_the_reason_too(tmp_path):
    folder = tmp_path / "run"
    train_here(folder, *OWN, *PLAIN, *learner("own_policies.py:WithDerived"))
    for path in (folder / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        del state["unsaved_policies"]
        torch.save(state, path)
    with pytest.raises(UserError, match="an earlier version of jsrl could not keep its class"):
        jsrl.load_policy(folder, seed=0)


def test_a_learner_with_the_packages_policy_works_everywhere(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "run"
    train_here(folder, *OWN, *PLAIN, *learner("own_policies.py:WithGaussian"))
    assert "will not be in the checkpoints" not in capfd.readouterr().out
    assert jsrl.load_policy(folder, seed=0).predict(np.zeros(3))[0].shape == (2,)
    for command, *rest in (("evaluate", "episodes=2"), ("export",)):
        outcome = call(monkeypatch, capfd, command, f"run={folder}", *rest)
        assert outcome.status == 0, outcome
    guided = ("guide=run", f"guide.path={folder}", *GUIDED)
    rest = [o for o in PLAIN if not o.startswith(("guide", "curriculum"))]
    assert train_here(tmp_path / "guided", *OWN, *rest, *guided)["env_steps"] == 80


def test_it_is_pretrained_frozen_and_guides_its_own_run(tmp_path, monkeypatch, capfd):
    data = write_reach_data(tmp_path / "data.hdf5")
    pretrained = (*REACH, "dataset=d4rl", f"dataset.path={data}", "guide=offline", *GUIDED)
    common = (*pretrained, *TD3_LEARNER, "online.steps=80", "offline.updates=40")
    summary = train_here(tmp_path / "run", *common)
    policies = newest_state(tmp_path / "run")["policies"]
    assert {name: stored["description"]["class"] for name, stored in policies.items()} == {
        "guide": "td3", "exploration": "td3",
    }  # fmt: skip
    guide, explorer = (policies[name]["state"] for name in ("guide", "exploration"))
    assert not torch.equal(guide["mlp.output.weight"], explorer["mlp.output.weight"])
    outcome = call(monkeypatch, capfd, "evaluate", f"run={tmp_path / 'run'}")
    assert outcome.status == 0, outcome
    mean = summary["evaluation"]["combined"]["length"]["mean"]
    assert f"{mean:>9.4g}" in next(
        line for line in outcome.out.splitlines() if line.startswith("combined     length")
    )
    with pytest.raises(UserError, match="start=warm needs a learner with start_from"):
        train_here(tmp_path / "warm", *common, "start=warm")
