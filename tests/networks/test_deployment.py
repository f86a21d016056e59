"""``predict``: raw observations in, the environment's actions out, as Stable-Baselines3 has it."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from bounded import BOUNDS, ID, LIMIT, bounded, overrides
from small_runs import train_here
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import jsrl
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings, describe_env, make_env
from jsrl.networks.deployment import ActionUnits, DeployedPolicy, spec_values
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy


def deployed(name: str, seed: int = 0, **kwargs: Any) -> DeployedPolicy:
    """A policy with random weights for the environment with bounds ``name``."""
    spec = describe_env(EnvSettings(ID, bounded(name, **kwargs)))
    policy = GaussianPolicy(1, spec.observation.size, spec.actions.size, (16,))
    policy.mlp.initialise(INITIALISATIONS["orthogonal"], Streams([7]), "actor")
    return DeployedPolicy.of(policy, spec_values(spec), seed)


def expected(policy: DeployedPolicy, rows: np.ndarray, name: str) -> np.ndarray:
    """By hand: [-1, 1] to the bounds, in the environment's shape."""
    unit = policy.act(torch.tensor(rows, dtype=torch.float32)[None], None)[0].double().numpy()
    low, high, shape = BOUNDS[name]
    own: np.ndarray = np.array(low) + (unit + 1) / 2 * (np.array(high) - np.array(low))
    return own.reshape(len(rows), *shape)


ROWS = np.random.default_rng(0).uniform(-1, 1, (5, 3))


@pytest.mark.parametrize("name", BOUNDS)
def test_one_observation_and_a_batch_in_the_environments_units_and_shape(name: str) -> None:
    policy = deployed(name)
    right = expected(policy, ROWS, name)
    actions, state = policy.predict(ROWS)
    assert (type(actions), actions.dtype, state) == (np.ndarray, np.float32, None)
    assert actions.shape == right.shape
    np.testing.assert_allclose(actions, right, atol=1e-6)
    one, _ = policy.predict(ROWS[2])
    assert one.shape == tuple(BOUNDS[name][2])
    np.testing.assert_allclose(one, right[2], atol=1e-6)
    batch_of_one, _ = policy.predict(ROWS[2:3])
    assert batch_of_one.shape == (1, *one.shape)
    # The environment takes them: they lie within its bounds.
    env = gym.make(ID, **bounded(name))
    assert all(env.action_space.contains(action) for action in actions)


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.int64, np.bool_]
)
def test_any_real_dtype(dtype: Any) -> None:
    policy = deployed("twice")
    given = np.round(ROWS).astype(dtype)
    np.testing.assert_allclose(
        policy.predict(given)[0], expected(policy, given.astype(np.float32), "twice"), atol=1e-6
    )
    assert np.array_equal(policy.predict(given.tolist())[0], policy.predict(given)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_tensors_are_answered_by_tensors(dtype: torch.dtype) -> None:
    policy = deployed("asymmetric")
    given = torch.tensor(ROWS).round().to(dtype)
    actions, _ = policy.predict(given)
    assert isinstance(actions, torch.Tensor)
    assert actions.dtype == torch.float32
    assert not actions.is_inference()
    right = expected(policy, given.double().numpy(), "asymmetric")
    torch.testing.assert_close(actions.double(), torch.tensor(right), atol=1e-6, rtol=0)
    assert policy.predict(given[0])[0].shape == (2,)


def test_dictionaries_are_flattened_in_the_order_of_the_layout() -> None:
    policy = deployed("mixed", dictionary=True)
    # Gymnasium sorts the parts of a dictionary.
    clock, state = np.arange(10.0).reshape(5, 1, 2) / 10, ROWS
    flat = np.concatenate([clock.reshape(5, 2), state], 1)
    right = expected(policy, flat, "mixed")
    for batch in ({"state": state, "clock": clock}, {"clock": clock.reshape(5, 2), "state": state}):
        np.testing.assert_allclose(policy.predict(batch)[0], right, atol=1e-6)
    one, _ = policy.predict({"state": state[3].astype(np.float32), "clock": clock[3]})
    np.testing.assert_allclose(one, right[3], atol=1e-6)
    np.testing.assert_allclose(policy.predict(flat)[0], right, atol=1e-6)
    tensors = {"state": torch.tensor(state), "clock": torch.tensor(clock)}
    assert isinstance(policy.predict(tensors)[0], torch.Tensor)
    first, _ = policy.predict({"state": state[:1], "clock": clock[:1]})
    assert first.shape == (1, 2)


NAN = np.array([0.0, np.nan, 0.0])


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (np.zeros(4), "shape [4]; jsrl-tests/Bounded-v0 has [3]"),
        (np.zeros((2, 4)), "shape [2, 4]"),
        (np.zeros((2, 2, 3)), "shape [2, 2, 3]"),
        (np.float32(0), "shape []"),
        (NAN, "observation 0 has nan as number 1 of 'observation'"),
        (np.array([np.zeros(3), NAN]), "observation 1 has nan as number 1"),
        (np.array([0, 1e300, 0]), "has inf as number 1"),
        (np.array(["a", "b", "c"]), "expected real numbers"),
        ([[1, 2, 3], [1, 2]], "is no array"),
        (None, "expected real numbers"),
        ({"state": np.zeros(3)}, "lacks ['observation']"),
    ],
)
def test_what_cannot_be_an_observation_is_told(observation: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        deployed("twice").predict(observation)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clock": None}, "lacks ['clock']; jsrl-tests/Bounded-v0 gives a policy ['clock', 'st"),
        ({"extra": np.zeros(3)}, "has ['extra']"),
        ({"clock": np.zeros(3)}, "'clock' has shape [3]"),
        ({"clock": np.zeros((4, 1, 2))}, "differ in how many there are, {'clock': 4, 'state': 1}"),
        ({"clock": np.array([[0, np.nan]])}, "has nan as number 1 of 'clock'"),
    ],
)
def test_what_is_wrong_with_a_dictionary_is_told(changes: dict[str, Any], words: str) -> None:
    observation = {"state": np.zeros(3), "clock": np.zeros((1, 2)), **changes}
    given = {name: value for name, value in observation.items() if value is not None}
    with pytest.raises(UserError) as caught:
        deployed("twice", dictionary=True).predict(given)
    assert words in str(caught.value)


def test_samples_come_from_a_generator_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    first, again, other = deployed("twice", 3), deployed("twice", 3), deployed("twice", 4)
    draws = [first.predict(ROWS, deterministic=False)[0] for _ in range(3)]
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    repeated = [again.predict(ROWS, deterministic=False)[0] for _ in range(3)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(np.array_equal(a, b) for a, b in zip(draws, repeated, strict=True))
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], other.predict(ROWS, deterministic=False)[0])
    # The mode draws nothing, in between either.
    assert np.array_equal(first.predict(ROWS)[0], again.predict(ROWS)[0])
    assert np.abs(draws[0]).max() <= 2


def test_bounds_between_two_numbers_of_float32_are_kept() -> None:
    units = ActionUnits([-0.1], [0.1], [1])
    applied = units.apply(np.array([[-1.0], [1.0]], np.float32)).astype(np.float64)
    assert applied.min() >= -0.1
    assert applied.max() <= 0.1
    np.testing.assert_allclose(applied, [[-0.1], [0.1]], rtol=1e-6)


def test_state_is_handed_back_and_another_policy_has_no_predict() -> None:
    marker = (np.zeros(1),)
    assert deployed("unit").predict(ROWS, marker, np.ones(5, bool), True)[1] is marker
    with pytest.raises(UserError, match="load_policy has predict"):
        DeployedPolicy().predict(ROWS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of two seeds in an environment with a dictionary and a matrix of actions."""
    folder = tmp_path_factory.mktemp("deployed") / "run"
    train_here(
        folder, *overrides("matrix", dictionary=True), "guide=none", "curriculum=none",
        "dataset=none", "seeds=[0,5]", "online.steps=80", f"env.max_episode_steps={LIMIT}",
    )  # fmt: skip
    return folder


def test_a_loaded_policy_acts_in_its_environment_as_in_training(run: Path) -> None:
    settings = EnvSettings(ID, bounded("matrix", dictionary=True))
    policy = jsrl.load_policy(run, seed=5)
    assert policy.act(torch.zeros(1, 1, 5), None).shape == (1, 1, 4)
    raw, own = gym.make(ID, **settings.kwargs), make_env(settings)
    observation, _ = raw.reset(seed=1)
    flat, _ = own.reset(seed=1)
    for _ in range(LIMIT):
        unit = policy.act(torch.as_tensor(flat, dtype=torch.float32).view(1, 1, -1), None)
        flat = own.step(unit[0, 0].numpy())[0]
        observation, *_ = raw.step(policy.predict(observation)[0])
        taken = own.unwrapped.taken  # type: ignore[attr-defined]
        assert np.array_equal(taken[-1], taken[-2])


def test_stable_baselines3_evaluates_it(run: Path) -> None:
    policy: Any = jsrl.load_policy(run, seed=0)
    kwargs = bounded("matrix", dictionary=True)
    single = gym.make(ID, **kwargs)
    mean, spread = evaluate_policy(policy, single, n_eval_episodes=2, warn=False)
    assert np.isfinite([mean, spread]).all()
    several = make_vec_env(ID, n_envs=2, env_kwargs=kwargs)
    returns, lengths = evaluate_policy(
        policy, several, n_eval_episodes=4, deterministic=False, return_episode_rewards=True
    )
    assert lengths == [LIMIT] * 4
    assert len(returns) == 4


def test_pendulum_is_evaluated_as_stable_baselines3_would(tmp_path: Path) -> None:
    own = ("env=gymnasium", "env.id=Pendulum-v1", "env.success_key=null", "online.steps=80")
    train_here(tmp_path / "p", *own, "guide=none", "curriculum=none", "dataset=none")
    policy: Any = jsrl.load_policy(tmp_path / "p", seed=0)
    env = gym.make("Pendulum-v1", max_episode_steps=20)
    mean, _ = evaluate_policy(policy, env, n_eval_episodes=1, warn=False)
    assert mean < 0
    action, _ = policy.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)
