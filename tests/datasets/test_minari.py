"""Minari datasets, each made by Minari itself in a temporary store."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium_robotics
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer
from specs import box_spec, vector

from jsrl.core.errors import UserError
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.datasets import load_minari

pytestmark = pytest.mark.filterwarnings("ignore")

POINT_MAZE = "jsrl/pointmaze-v0"
PENDULUM = "jsrl/pendulum-v0"
LAYOUT = (("achieved_goal", 0, 2), ("desired_goal", 2, 4), ("observation", 4, 8))


class Walk(gym.Env[np.ndarray, np.ndarray]):
    """A line of which the end is the goal, with an action space of the test's choice."""

    def __init__(self, action_space: gym.Space[Any], observation_space: gym.Space[Any]) -> None:
        self.action_space = action_space
        self.observation_space = observation_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.position = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self.position += 1
        return self._observation(), float(self.position), self.position == 3, False, {}

    def _observation(self) -> Any:
        if isinstance(self.observation_space, gym.spaces.Box):
            return np.full(self.observation_space.shape, self.position, dtype=np.float32)
        return self.position


def collect(env: gym.Env[Any, Any], dataset_id: str, episodes: int, steps: int = 100) -> None:
    """Random episodes, each to its end or to ``steps``, written into the local store by Minari."""
    env.action_space.seed(0)
    buffers = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        buffer = EpisodeBuffer(observations=[observation], actions=[])
        done = False
        while not done and len(buffer.rewards) < steps:
            action = env.action_space.sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            buffer.observations.append(observation)
            buffer.actions.append(action)
            buffer.rewards.append(reward)
            buffer.terminations.append(terminated)
            buffer.truncations.append(truncated)
            done = terminated or truncated
        if isinstance(observation, dict):
            columns = {key: [o[key] for o in buffer.observations] for key in observation}
            buffer = replace(buffer, observations=columns)
        buffers.append(buffer)
    minari.create_dataset_from_buffers(
        dataset_id, buffers, env=env, algorithm_name="random", data_format="hdf5"
    )
    env.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with point-maze and pendulum episodes."""
    path = tmp_path_factory.mktemp("minari")
    gym.register_envs(gymnasium_robotics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(path))
        maze = gym.make("PointMaze_UMaze-v3", continuing_task=False, max_episode_steps=15)
        collect(maze, POINT_MAZE, episodes=3)
        collect(gym.make("Pendulum-v1", max_episode_steps=10), PENDULUM, episodes=2)
    return path


@pytest.fixture(autouse=True)
def offline(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(store))
    # No server type of that name exists: downloading fails as it would without a network.
    monkeypatch.setenv("MINARI_REMOTE", "nowhere://at-all")


def make_walk(action_space: gym.Space[Any], observation_space: gym.Space[Any], name: str) -> str:
    dataset_id = f"jsrl/{name}-v0"
    if not (Path(minari.storage.get_dataset_path(dataset_id))).exists():
        collect(Walk(action_space, observation_space), dataset_id, episodes=2)
    return dataset_id


def test_dictionary_observations_follow_the_layout_and_keep_true_successors() -> None:
    dataset = load_minari(POINT_MAZE, LAYOUT, download=False)
    assert (len(dataset), dataset.num_episodes) == (45, 3)
    row = 0
    for episode in minari.load_dataset(POINT_MAZE).iterate_episodes():
        for t in range(len(episode.rewards)):
            for when, flat in (
                (t, dataset.data.observations[row]),
                (t + 1, dataset.data.next_observations[row]),
            ):
                for name, start, stop in LAYOUT:
                    np.testing.assert_allclose(
                        flat[start:stop], episode.observations[name][when], rtol=1e-6
                    )
            assert dataset.data.rewards[row] == episode.rewards[t]
            np.testing.assert_allclose(dataset.data.actions[row], episode.actions[t], rtol=1e-6)
            row += 1
    assert row == 45
    assert np.flatnonzero(dataset.data.timeouts).tolist() == [14, 29, 44]
    assert not dataset.data.terminals.any()
    assert "Minari jsrl/pointmaze-v0: 45 transitions in 3 episodes" in dataset.summary()


def test_without_a_layout_parts_are_sorted_by_name() -> None:
    plain = load_minari(POINT_MAZE)
    assert plain.fingerprint == load_minari(POINT_MAZE, LAYOUT).fingerprint
    swapped = load_minari(POINT_MAZE, (("observation", 0, 4), ("desired_goal", 4, 6)))
    np.testing.assert_array_equal(
        swapped.data.observations, plain.data.observations[:, [4, 5, 6, 7, 2, 3]]
    )


def test_actions_are_rescaled_by_the_action_space() -> None:
    dataset = load_minari(PENDULUM, (("observation", 0, 3),), download=False)
    stored = [episode.actions for episode in minari.load_dataset(PENDULUM).iterate_episodes()]
    np.testing.assert_allclose(dataset.data.actions, np.concatenate(stored) / 2, atol=1e-6)
    assert np.abs(np.concatenate(stored)).max() > 1
    assert dataset.episode_lengths.tolist() == [10, 10]


def pendulum(bound: float) -> EnvSpec:
    """An environment like the pendulum, with torques up to ``bound``."""
    return box_spec("Pendulum", 3, (-bound,), (bound,), 200)


@pytest.mark.parametrize("bound", [2.0, 8.0])
def test_actions_are_rescaled_by_the_bounds_that_are_trained_in(bound: float) -> None:
    dataset = load_minari(PENDULUM, spec=pendulum(bound))
    stored = [episode.actions for episode in minari.load_dataset(PENDULUM).iterate_episodes()]
    np.testing.assert_allclose(dataset.data.actions, np.concatenate(stored) / bound, atol=1e-6)
    (line,) = dataset.lines
    differs = "recorded in an action space of [-2, 2]" in line
    assert differs == (bound != 2)
    if differs:
        assert "if that range stands for [-8, 8], give dataset.action_low=-2 " in line
        relative = load_minari(PENDULUM, spec=pendulum(bound), action_low=-2, action_high=2)
        np.testing.assert_allclose(relative.data.actions, np.concatenate(stored) / 2, atol=1e-6)


def test_actions_that_the_environment_cannot_take_are_refused_or_clipped() -> None:
    with pytest.raises(UserError, match=r"outside \[-0.5, 0.5\].*dataset.clip_actions=true"):
        load_minari(PENDULUM, spec=pendulum(0.5))
    dataset = load_minari(PENDULUM, spec=pendulum(0.5), clip_actions=True)
    stored = [episode.actions for episode in minari.load_dataset(PENDULUM).iterate_episodes()]
    expected = np.clip(np.concatenate(stored), -0.5, 0.5) / 0.5
    np.testing.assert_allclose(dataset.data.actions, expected, atol=1e-6)
    assert "of 20 rows lie outside [-0.5, 0.5] and are clipped" in dataset.lines[-1]


def test_data_read_by_their_own_bounds_are_refused_for_others() -> None:
    dataset = load_minari(PENDULUM)
    dataset.validate(pendulum(2.0))
    message = r"read for the bounds \[-2, 2\], but Pendulum has \[-8, 8\]"
    with pytest.raises(UserError, match=message):
        dataset.validate(pendulum(8.0))


def test_a_package_that_a_format_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'pyarrow is not installed. Please install it using `pip install "minari[arrow]"`'

    def fail(*_: Any, **__: Any) -> None:
        raise ImportError(text)

    monkeypatch.setattr(minari, "load_dataset", fail)
    with pytest.raises(UserError, match=r"package pyarrow .*Arrow.*pip install pyarrow") as caught:
        load_minari(PENDULUM)
    assert "\n" not in str(caught.value)


def test_terminations_are_terminals() -> None:
    box = gym.spaces.Box(-1, 1, (2, 3), np.float32)
    name = make_walk(box, gym.spaces.Box(-9, 9, (2, 2), np.float32), "terminal")
    dataset = load_minari(name, (("observation", 0, 4),))
    assert dataset.data.terminals.tolist() == [False, False, True] * 2
    assert not dataset.data.timeouts.any()
    assert dataset.data.next_observations[:, 3].tolist() == [1, 2, 3] * 2
    assert (dataset.action_size, dataset.num_successes) == (6, 2)


def test_an_episode_that_is_cut_off_ends_by_timeout() -> None:
    box = gym.spaces.Box(-1, 1, (1,), np.float32)
    walk = Walk(box, gym.spaces.Box(-9, 9, (1,), np.float32))
    collect(walk, "jsrl/cut-v0", episodes=2, steps=2)
    dataset = load_minari("jsrl/cut-v0")
    assert not dataset.data.terminals.any()
    assert dataset.data.timeouts.tolist() == [False, True] * 2
    assert dataset.data.next_observations[:, 0].tolist() == [1, 2] * 2


def test_choices_are_numbered_from_zero_where_the_environment_is_known() -> None:
    box, choice = gym.spaces.Box(-9, 9, (1,), np.float32), gym.spaces.Discrete(3, start=2)
    name = make_walk(choice, box, "choosing")
    choice.seed(0)
    recorded = [int(choice.sample()) for _ in range(6)]
    assert set(recorded) == {2, 3, 4}
    spec = EnvSpec("Choosing-v0", vector(1), DiscreteActions(3, start=2), 3)
    dataset = load_minari(name, spec=spec)
    assert dataset.data.actions.dtype == np.int64
    assert dataset.data.actions.tolist() == [number - 2 for number in recorded]
    # Without an environment its own space says where they begin.
    assert load_minari(name).data.actions.tolist() == [number - 2 for number in recorded]
    load_minari(name).validate(spec)
    fewer = replace(spec, actions=DiscreteActions(2, start=2))
    with pytest.raises(UserError, match=r"actions holds 4 at index \d; expected 2 to 3"):
        load_minari(name, spec=fewer)


def test_unusable_spaces_are_refused() -> None:
    box = gym.spaces.Box(-1, 1, (1,), np.float32)
    unbounded = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    discrete = gym.spaces.Discrete(9)
    name = make_walk(unbounded, box, "unbounded")
    with pytest.raises(UserError, match=r"action dimension 0 are \[-inf, inf\]"):
        load_minari(name)
    name = make_walk(gym.spaces.MultiBinary(2), box, "bits")
    with pytest.raises(UserError, match=r"action space is MultiBinary\(2\); expected a Box"):
        load_minari(name)
    name = make_walk(box, discrete, "counting")
    with pytest.raises(UserError, match=r"space of 'observation' is Discrete\(9\)"):
        load_minari(name)


@pytest.mark.parametrize(
    ("dataset_id", "layout", "message"),
    [
        (POINT_MAZE, (("pixels", 0, 2),), "no observation part 'pixels'.*achieved_goal, desired"),
        (POINT_MAZE, (("observation", 0, 27),), "'observation' has size 4, but .* size 27"),
        (PENDULUM, LAYOUT, "no observation part 'achieved_goal'"),
        (PENDULUM, (("observation", 0, 8),), "'observation' has size 3, but .* size 8"),
    ],
)
def test_a_layout_that_does_not_match_is_refused(
    dataset_id: str, layout: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_minari(dataset_id, layout)
    assert str(caught.value).startswith(f"dataset Minari {dataset_id}: ")


def test_a_dataset_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"downloading is off.*minari download no/such-v0"):
        load_minari("no/such-v0", download=False)
    for name in ("no/such-v0", "not an identifier"):
        with pytest.raises(UserError, match="cannot be downloaded") as caught:
            load_minari(name)
        assert "\n" not in str(caught.value)


def test_what_is_not_in_the_store_is_downloaded_into_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(dataset_id: str) -> None:
        asked.append(dataset_id)
        shutil.copytree(store / PENDULUM, tmp_path / dataset_id)

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr("minari.storage.hosting.download_dataset", download)
    first, second = load_minari(PENDULUM), load_minari(PENDULUM)
    assert asked == [PENDULUM]
    assert len(first) == 20 and first.fingerprint == second.fingerprint


def test_a_broken_store_is_refused() -> None:
    box = gym.spaces.Box(-1, 1, (1,), np.float32)
    name = make_walk(box, gym.spaces.Box(-9, 9, (1,), np.float32), "broken")
    folder = Path(minari.storage.get_dataset_path(name)) / "data"
    contents = (folder / "main_data.hdf5").read_bytes()
    (folder / "main_data.hdf5").write_bytes(contents[: len(contents) // 2])
    with pytest.raises(UserError, match=r"cannot be read .*delete its folder"):
        load_minari(name)
    (folder / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_minari(name)
