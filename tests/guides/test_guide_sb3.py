"""Guides from zips that Stable-Baselines3 saves in the test, against its own ``predict``."""

import copy
import json
import sys
import zipfile
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from guide_cases import act_step_by_step, documented_words, episodes, example
from gymnasium import spaces
from small_runs import REACH, call, read_summary, train_here
from specs import box_spec
from stable_baselines3.common.save_util import data_to_json
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from jsrl.core.errors import UserError
from jsrl.core.observations import read_observation
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.envs.specs import action_spec, observation_spec
from jsrl.guides import GuideView, sb3_guide

PENDULUM = describe_env(EnvSettings("Pendulum-v1"))
CARTPOLE = describe_env(EnvSettings("CartPole-v1"))
SMALL = {"policy_kwargs": {"net_arch": [16]}, "device": "cpu", "seed": 2}

CONTRIB = {"TQC": "Pendulum-v1", "QRDQN": "CartPole-v1", "TRPO": "Pendulum-v1"}
ALGORITHMS = {
    **dict.fromkeys(("SAC", "TD3", "DDPG", "PPO", "A2C"), "Pendulum-v1"),
    "DQN": "CartPole-v1",
    **CONTRIB,
}


def make_model(algorithm, env, policy="MlpPolicy", **changes):
    library = stable_baselines3
    if not hasattr(library, algorithm):
        library = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    # A copy, since some algorithms write into it.
    arguments = copy.deepcopy({**SMALL, **changes})
    return getattr(library, algorithm)(policy, env, **arguments)


def saved(folder, algorithm="SAC", env="Pendulum-v1", **changes):
    model = make_model(algorithm, env, **changes)
    model.save(folder / "policy.zip")
    return model, folder / "policy.zip"


def real(env, steps, space=None):
    """Observations of steps with random actions."""
    env.action_space.seed(1)
    found = [env.reset(seed=1)[0]]
    for _ in range(steps - 1):
        observation, _, ended, _, _ = env.step(env.action_space.sample())
        found.append(env.reset()[0] if ended else observation)
    return found


def stacked(found: list[Any]) -> Any:
    """As a vectorised environment gives them."""
    if isinstance(found[0], dict):
        return {name: np.stack([each[name] for each in found]) for name in found[0]}
    return np.stack(found)


def answers(guide, observation, streams=None):
    """In the environment's units, ``[N, A]``, for observations ``[N]``; or choices."""
    obs = observation.for_each(lambda tensor: tensor.unsqueeze(0))
    actions = guide.act(obs, streams, torch.ones(1, len(obs.vector[0]), dtype=torch.bool))[0]
    if actions.dtype == torch.int64:
        return actions.numpy()
    low, high = (np.array(b) for b in (guide.view.spec.box.low, guide.view.spec.box.high))
    return low + (actions.numpy() + 1) / 2 * (high - low)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_acts_as_predict_does_on_observations_of_the_environment(tmp_path, algorithm):
    env = gym.make(ALGORITHMS[algorithm])
    model, path = saved(tmp_path, algorithm, env)
    spec = PENDULUM if ALGORITHMS[algorithm] == "Pendulum-v1" else CARTPOLE
    found = stacked(real(env, 31))
    expected, _ = model.predict(found, deterministic=True)
    actions = answers(sb3_guide(path, GuideView(), spec, 1), read(spec, found))
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 1e-5


def read(spec, found):
    first = next(iter(found.values())) if isinstance(found, dict) else found
    return read_observation(spec.observation, found, (len(first),))


class Seen(gym.Env[Any, Any]):
    """Random pictures, channels last, and what else the space holds."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = space
        self.action_space = spaces.Box(-1, 3, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def seen_spec(space: spaces.Space[Any]) -> EnvSpec:
    actions = action_spec(spaces.Box(-1, 3, (2,), np.float32), "Seen-v0")
    return EnvSpec("Seen-v0", observation_spec(space, "Seen-v0"), actions, 50)


CAMERA = spaces.Box(0, 255, (36, 37, 3), np.uint8)
PARTS = spaces.Dict(
    {
        "speed": spaces.Box(-1, 1, (2, 2), np.float32),
        "camera": CAMERA,
        "gear": spaces.Discrete(4),
    }
)


@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (CAMERA, "CnnPolicy"),
        (spaces.Box(0, 255, (4, 36, 36), np.uint8), "CnnPolicy"),
        (PARTS, "MultiInputPolicy"),
        (spaces.Discrete(5), "MlpPolicy"),
    ],
)
def test_images_and_dictionaries_are_prepared_as_predict_does(tmp_path, space, policy):
    env = Seen(space)
    model, path = saved(tmp_path, "PPO", env, policy=policy)
    found = stacked(real(env, 6))
    expected, _ = model.predict(found, deterministic=True)
    spec = seen_spec(space)
    actions = answers(sb3_guide(path, GuideView(), spec, 1), read(spec, found))
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected, 0).max() > 1e-5


def test_a_policy_of_one_part_is_given_that_part(tmp_path):
    model, path = saved(tmp_path, "PPO", Seen(CAMERA), policy="CnnPolicy")
    found = stacked(real(Seen(PARTS), 4))
    guide = sb3_guide(path, GuideView(observation=("camera",)), seen_spec(PARTS), 1)
    expected, _ = model.predict(found["camera"], deterministic=True)
    actions = answers(guide, read(seen_spec(PARTS), found))
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match=r"(?s)\(3, 36, 37\).*gear.*guide\.observation"):
        sb3_guide(path, GuideView(), seen_spec(PARTS), 1)


def test_it_answers_in_the_bounds_that_it_was_trained_with(tmp_path):
    class Unit(gym.ActionWrapper):
        def __init__(self):
            super().__init__(gym.make("Pendulum-v1"))
            self.action_space = spaces.Box(-1, 1, (1,), np.float32)

        def action(self, action):
            return 2 * action

    model, path = saved(tmp_path, "A2C", Unit())
    guide = sb3_guide(path, GuideView(), PENDULUM, 1)
    found = stacked(real(gym.make("Pendulum-v1"), 5))
    expected, _ = model.predict(found, deterministic=True)
    np.testing.assert_allclose(answers(guide, read(PENDULUM, found)), 2 * expected, atol=1e-6)
    assert "[-1, 1]" in str(guide.view.action_line("g"))


def normalised(folder, env_id="Pendulum-v1"):
    """Statistics of real observations in a file of VecNormalize."""
    env = VecNormalize(DummyVecEnv([lambda: gym.make(env_id)]))
    env.seed(0)
    env.reset()
    for _ in range(30):
        env.step(np.zeros((1, *env.action_space.shape), np.float32))
    env.save(folder / "statistics.pkl")
    env.training = False
    return env, folder / "statistics.pkl"


def test_the_statistics_of_vec_normalize_are_applied(tmp_path):
    env, statistics = normalised(tmp_path)
    model, path = saved(tmp_path)
    found = stacked(real(gym.make("Pendulum-v1"), 10))
    guide = sb3_guide(path, GuideView(), PENDULUM, 1, normaliser=statistics)
    expected, _ = model.predict(env.normalize_obs(found), deterministic=True)
    np.testing.assert_allclose(answers(guide, read(PENDULUM, found)), expected, rtol=0, atol=1e-6)
    plain = sb3_guide(path, GuideView(), PENDULUM, 1)
    assert plain.fingerprint != guide.fingerprint
    assert np.abs(answers(plain, read(PENDULUM, found)) - expected).max() > 1e-3


def test_samples_come_from_the_seeds_streams_and_from_nowhere_else(tmp_path):
    _, path = saved(tmp_path)
    guide = sb3_guide(path, GuideView(), PENDULUM, 2, sample=True)
    everyone = torch.ones(2, 3, dtype=torch.bool)
    before = torch.get_rng_state()
    obs = read(PENDULUM, np.zeros((6, 3), np.float32)).arranged(2, 3)
    drawn = guide.act(obs, Streams([4, 5]), everyone)
    again = guide.act(obs, Streams([4, 5]), everyone)
    alone = sb3_guide(path, GuideView(), PENDULUM, 1, sample=True)
    assert torch.equal(drawn, again)
    assert torch.equal(drawn[1:], alone.act(obs[1:], Streams([5]), everyone[1:]))
    assert drawn.unique().numel() == 6
    assert guide.act(obs, None, everyone).unique().numel() == 1
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("algorithm", "changes", "words"),
    [("TD3", {}, "TD3"), ("SAC", {"use_sde": True}, "gSDE")],
)
def test_a_policy_that_cannot_be_sampled_is_refused(tmp_path, algorithm, changes, words):
    _, path = saved(tmp_path, algorithm, **changes)
    with pytest.raises(UserError, match=rf"guide\.sample=true.*{words}.*guide\.sample=false"):
        sb3_guide(path, GuideView(), PENDULUM, 1, sample=True)


def recurrent(folder):
    pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    kwargs = {"lstm_hidden_size": 8, "net_arch": [8], "n_lstm_layers": 2}
    return saved(folder, "RecurrentPPO", policy="MlpLstmPolicy", policy_kwargs=kwargs)


def test_a_recurrent_policy_remembers_each_row_and_begins_anew_with_its_episode(tmp_path):
    model, path = recurrent(tmp_path)
    vectors, begins = episodes(12, 2, 3, 3)
    guide = sb3_guide(path, GuideView(), PENDULUM, 2)
    found = act_step_by_step(guide, vectors, begins)
    state = None
    for t, (step, begin) in enumerate(zip(vectors, begins, strict=True)):
        flat, starts = step.reshape(6, 3).numpy(), begin.reshape(6).numpy()
        expected, state = model.predict(flat, state, starts, deterministic=True)
        np.testing.assert_allclose(2 * found[t].reshape(6, 1), expected, rtol=0, atol=1e-6)
    alone = sb3_guide(path, GuideView(), PENDULUM, 1)
    assert torch.equal(act_step_by_step(alone, vectors[:, 1:], begins[:, 1:]), found[:, 1:])
    forgets = act_step_by_step(alone, vectors[:, 1:], torch.ones_like(begins[:, 1:]))
    assert not torch.equal(forgets, found[:, 1:])


def test_a_copy_for_evaluation_has_a_memory_of_its_own(tmp_path):
    _, path = recurrent(tmp_path)
    vectors, begins = episodes(6, 1, 2, 3)
    guide = sb3_guide(path, GuideView(), PENDULUM, 1)
    whole = act_step_by_step(guide, vectors, begins)
    first = act_step_by_step(guide, vectors[:3], begins[:3])
    twin = copy.deepcopy(guide)
    act_step_by_step(twin, -vectors, begins)
    rest = act_step_by_step(guide, vectors[3:], begins[3:])
    assert torch.equal(torch.cat([first, rest]), whole)


def rewritten(path, target, **entries):
    """The zip with other contents of some entries; None leaves one out."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        contents = {name: source.read(name) for name in source.namelist()}
        for name, content in {**contents, **entries}.items():
            if content is not None:
                archive.writestr(name, content)
    return target


def test_files_that_are_not_what_they_say(tmp_path):
    _, good = saved(tmp_path)
    whole, path = good.read_bytes(), tmp_path / "other.zip"
    for content in (whole[: len(whole) // 2], whole[:300], b"nothing of the kind"):
        path.write_bytes(content)
        refused(path, "zip.*or truncated")
    refused(tmp_path / "none.zip", "does not exist; expected a zip")
    version = "_stable_baselines3_version"
    refused(rewritten(good, path, **{version: None}), "no zip that model.save")
    refused(rewritten(good, path, parameter_list="[]"), "Stable-Baselines 2.*guide=onnx")
    refused(rewritten(good, path, **{version: "1.6.2\n"}), r"1\.6\.2.*installed.*guide=onnx")
    refused(rewritten(good, path, **{"policy.pth": b"?"}), "whose loading fails.*installed")
    other = json.dumps({"policy_class": {"__module__": "mine.policies"}})
    refused(rewritten(good, path, data=other), r"mine\.policies.*SAC, TD3, DDPG, PPO, A2C and DQN")


def refused(path, words, spec=PENDULUM, **more):
    with pytest.raises(UserError, match=words) as caught:
        sb3_guide(path, GuideView(), spec, 1, **more)
    assert "\n" not in str(caught.value)


def test_spaces_that_do_not_fit_are_both_said(tmp_path):
    _, path = saved(tmp_path)
    refused(path, r"\(3,\), float32\); CartPole-v1 observes observation \(4,\)", CARTPOLE)
    _, path = saved(tmp_path, "DQN", "CartPole-v1")
    refused(path, r"Box\(\(4,\), float32\)|\(4,\).*Pendulum-v1 observes observation \(3,\)")
    wide = box_spec("Wide-v0", 3, (-1.0, -1.0), (1.0, 1.0), 50)
    _, path = saved(tmp_path)
    refused(path, r"actions Box\(-2, 2, \(1,\), float32\); Wide-v0 takes Box\(\(2,\)\)", wide)


def test_statistics_that_do_not_fit_are_refused(tmp_path):
    _, path = saved(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, wrong = normalised(other, "MountainCarContinuous-v0")
    refused(path, r"statistics.*\(2,\)", normaliser=wrong)
    refused(path, "does not exist", normaliser=tmp_path / "none.pkl")
    (tmp_path / "junk.pkl").write_bytes(b"junk")
    refused(path, "cannot be read", normaliser=tmp_path / "junk.pkl")
    _, fits = normalised(tmp_path)
    with pytest.raises(UserError, match=r"guide\.mean and guide\.std"):
        sb3_guide(path, GuideView(mean=1.0), PENDULUM, 1, normaliser=fits)


@pytest.mark.parametrize("package", ["stable_baselines3", "sb3_contrib"])
def test_without_its_package_the_extra_is_named(tmp_path, monkeypatch, package):
    _, path = saved(tmp_path) if package == "stable_baselines3" else recurrent(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    refused(path, rf"{package}.*not installed; pip install 'jsrl-torch\[sb3\]'")


class Loud:
    """Writes to stderr when it is unpickled."""

    def __reduce__(self):
        return exec, ("import sys; sys.stderr.write('code of the file ran\\n')",)


def test_that_a_file_can_run_code_is_said_once_before_it_does(tmp_path, monkeypatch, capfd):
    _, good = saved(tmp_path)
    data = zipfile.ZipFile(good).read("data")
    loud = json.loads(data_to_json({"loud": Loud()}))
    path = rewritten(good, tmp_path / "l.zip", data=json.dumps({**json.loads(data), **loud}))
    # Refused after loading, so that no run begins.
    words = ("train", *REACH, "dataset=none", "guide=sb3", f"guide.path={path}")
    outcome = call(monkeypatch, capfd, *words)
    said = outcome.err.splitlines()
    ran = said.index("code of the file ran")
    assert outcome.status == 2
    assert [line for line in said if "run code" in line] == [said[ran - 1]]
    assert str(path) in said[ran - 1]
    assert "(3,)" in said[-1]
    assert "Reach" in said[-1]
    trusted = call(monkeypatch, capfd, *words, "guide.trusted=true")
    assert "run code" not in trusted.err


def test_the_example_in_ten_lines(tmp_path, capfd):
    module = example("guide_sb3")
    path = tmp_path / "policy.zip"
    module.save_policy(str(path), steps=20)
    train_here(tmp_path / "run", *documented_words(module, path), "seeds=[0,3]", "online.steps=100")
    assert read_summary(tmp_path / "run")["env_steps"] == 200
    assert capfd.readouterr().err.count("guide=sb3: loading") == 1
