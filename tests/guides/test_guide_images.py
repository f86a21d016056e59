"""Guides that see images: a user's own as the environment gives them, networks as bytes."""

from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from fakes import FixedSteps
from guide_cases import write_policy
from gymnasium import spaces
from minibatches import random_images, seen, small_encoder
from rollout.collected import make as make_collector
from rollout.collected import run as collect
from small_runs import newest_state, train_here
from specs import box, vector

import jsrl
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import EnvSpec, VectorPart
from jsrl.core.streams import Streams
from jsrl.envs.lookup import make_registered
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.guides import ForeignGuide, GuideView, NetworkGuide, python_guide, torchscript_guide
from jsrl.guides.seen_maze import SeenMazeGuide
from jsrl.networks.deployment import spec_values
from jsrl.networks.policies import GaussianPolicy

SEEN_MAZE = "jsrl/pointmaze-umaze-seen-v0"
SPEC = EnvSpec(
    "Seen-v0",
    seen(vector((("place", 0, 2), ("speed", 2, 3))), camera=(3, 16, 17), wrist=(1, 15, 15)),
    box((-1.0, -1.0), (1.0, 1.0)),
    50,
)


def observed(seeds, environments):
    streams = Streams(range(seeds))
    vectors = streams.normal("vectors", (environments, SPEC.observation.size))
    return Observation(vectors, random_images(streams, "image", environments, SPEC.observation))


def everyone(seeds=2, environments=4):
    return torch.ones(seeds, environments, dtype=torch.bool)


def random_policy(seeds, **changes):
    """Policies whose convolutions, trunks and layers are a seed's own."""
    policy = GaussianPolicy(
        *(len(seeds), SPEC.observation.size, 2, (16,)),
        images=SPEC.observation.image_shapes,
        encoder=small_encoder(**changes),
    )
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad():
        for parameter in policy.parameters():
            for row, generator in zip(parameter, generators, strict=True):
                row.normal_(0, 0.3, generator=generator)
    return policy


class Idle:
    """In place of an exploration-policy: stands still."""

    def act(self, obs, streams):
        return torch.zeros(*obs.leading, 2)


class Plain(gym.Env):
    """A dictionary with a tuple in it, of a choice, of numbers with two axes, and of an image.

    What is observed is kept in ``given``.
    """

    given: ClassVar[list[Any]] = []

    SPACES = spaces.Dict(
        {
            "pair": spaces.Tuple((spaces.Discrete(3, start=5), spaces.Box(-1, 1, (2, 1)))),
            "view": spaces.Box(0, 255, (16, 17, 3), np.uint8),
        }
    )

    def __init__(self):
        self.observation_space = self.SPACES
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self._observe(), {}

    def step(self, action):
        return self._observe(), 0.0, False, False, {}

    def _observe(self):
        self.given.append(self.observation_space.sample())
        return self.given[-1]


gym.register("jsrl-tests/Plain-v0", Plain, max_episode_steps=4)


def test_a_python_guide_is_given_what_the_environment_gives_with_rows_in_front():
    settings, asked = EnvSettings("jsrl-tests/Plain-v0", success_key=None), []

    def rows(observations, seed_index, generator):
        asked.append(observations)
        return np.zeros((len(observations["view"]), 2))

    spec = describe_env(settings)
    guide = ForeignGuide(rows, GuideView(), spec, 1, "own", "0", takes_images=True)
    collector = make_collector([0], 1, settings)
    Plain.given.clear()
    collect(collector, 3, Idle(), guide, [FixedSteps(3)])
    collector.close()
    assert len(asked) == 3
    for seen_by_guide, given in zip(asked, Plain.given[:3], strict=True):
        assert seen_by_guide.keys() == {"pair", "view"}
        assert isinstance(seen_by_guide["pair"], tuple)
        choice, numbers = seen_by_guide["pair"]
        assert choice.tolist() == [given["pair"][0]]
        np.testing.assert_array_equal(numbers, given["pair"][1][None])
        np.testing.assert_array_equal(seen_by_guide["view"], given["view"][None])
        assert seen_by_guide["view"].dtype == np.uint8


def test_the_guide_of_the_seen_maze_acts_in_the_collector_as_in_a_plain_loop():
    settings = EnvSettings(SEEN_MAZE, max_episode_steps=300)
    guide = python_guide(
        "jsrl.guides.seen_maze:SeenMazeGuide", {}, GuideView(), describe_env(settings), 2
    )
    collector = make_collector([0, 4], 1, settings)
    rows, episodes = collect(collector, 300, Idle(), guide, [FixedSteps(300)] * 2)
    reset_seeds = [Streams([seed]).child("collector").integer("reset", 0, 0)[0] for seed in (0, 4)]
    collector.close()
    assert all(episode.success == 1.0 for episode in episodes)
    assert {episode.seed_index for episode in episodes} == {0, 1}
    env, own = make_registered(SEEN_MAZE, {}, None), SeenMazeGuide()
    for index, seed in enumerate(reset_seeds):
        observation, _ = env.reset(seed=seed)
        for step in range(60):
            image = rows.observation.images["image"][step, index, 0].permute(1, 2, 0)
            np.testing.assert_array_equal(image.numpy(), observation["image"])
            action = own.act(observation)
            np.testing.assert_allclose(rows.action[step, index, 0].numpy(), action, atol=1e-6)
            observation, *_ = env.step(rows.action[step, index, 0].numpy())
    env.close()


def test_a_guide_may_be_given_some_parts_alone():
    calls = []

    def rows(observations, seed_index, generator):
        calls.append(observations)
        return np.zeros((len(observations["wrist"]), 2))

    view = GuideView(observation=("wrist", "speed"), mean=1.0, std=2.0)
    guide = ForeignGuide(rows, view, SPEC, 1, "own", "0", takes_images=True)
    obs = observed(1, 3)
    guide.act(obs, None, everyone(1, 3))
    (given,) = calls
    assert given.keys() == {"wrist", "speed"}
    np.testing.assert_array_equal(given["speed"], (obs.vector[0, :, 2:] - 1) / 2)
    np.testing.assert_array_equal(given["wrist"], obs.images["wrist"][0].numpy())
    # Of vectors alone it is given one array, as ever.
    flat = ForeignGuide(lambda o, s, g: o[:, :2], GuideView(("place",)), SPEC, 1, "flat", "0")
    place = Observation(obs.vector.clamp(-1, 1), obs.images)
    assert torch.equal(flat.act(place, None, everyone(1, 3)), place.vector[..., :2])


def test_files_that_take_vectors_only_are_refused_where_there_are_images(tmp_path):
    path = tmp_path / "g.pt"
    torch.jit.script(torch.nn.Linear(3, 2)).save(str(path))
    with pytest.raises(UserError) as caught:
        torchscript_guide(path, GuideView(), SPEC, 1)
    assert "takes vectors only, and Seen-v0 observes the images camera, wrist" in str(caught.value)
    assert "\n" not in str(caught.value)
    guide = torchscript_guide(path, GuideView(observation=("place", "speed")), SPEC, 1)
    assert not guide.view.images


def test_a_policy_that_sees_images_guides_as_it_acts_and_only_in_the_mask():
    policy, obs, mask = random_policy([3, 1]), observed(2, 4), everyone()
    mask[0, 1] = mask[1, 3] = False
    guide = NetworkGuide.from_policy(policy, GuideView(), SPEC)
    actions = guide.act(obs, None, mask)
    assert torch.equal(actions[mask], policy.act(obs.only(mask), None)[mask])
    assert torch.equal(actions[~mask], torch.zeros(2, 2))
    # What rows outside of the mask show changes nothing.
    other = Observation(obs.vector.clone(), {n: image.clone() for n, image in obs.images.items()})
    for image in other.images.values():
        image[~mask] = 255 - image[~mask]
    assert torch.equal(guide.act(other, None, mask), actions)
    black = Observation(
        obs.vector, {**obs.images, "camera": torch.zeros_like(obs.images["camera"])}
    )
    assert not torch.equal(guide.act(black, None, mask), actions)


@pytest.mark.parametrize("sample", [False, True])
def test_its_seeds_are_bitwise_the_same_alone_and_in_company(sample):
    policy, obs = random_policy([3, 1]), observed(2, 4)
    guide = NetworkGuide.from_policy(policy, GuideView(), SPEC, sample=sample)
    single = NetworkGuide.from_policy(policy.select(1), GuideView(), SPEC, sample=sample)
    together, alone = Streams([3, 1]), Streams([1])
    for _ in range(2):
        company = guide.act(obs, together, everyone())
        assert torch.equal(company[1:], single.act(obs[1:], alone, everyone(1)))


def test_a_runs_policy_with_images_is_measured_by_the_images_it_is_given(tmp_path):
    policy = random_policy([0])
    write_policy(tmp_path / "c.pt", policy, [0], environment=spec_values(SPEC))

    def load(spec, view=None):
        return NetworkGuide.from_checkpoint(
            tmp_path / "c.pt", [0], None, view=view or GuideView(), spec=spec
        )

    obs = observed(1, 4)
    assert torch.equal(load(SPEC).act(obs, None, everyone(1)), policy.act(obs, None))
    smaller = seen(SPEC.observation, camera=(3, 16, 16), wrist=(1, 15, 15))
    for spec, view in (
        (EnvSpec("Smaller-v0", smaller, SPEC.actions, 50), None),
        (SPEC, GuideView(observation=("place", "speed", "wrist"))),
    ):
        with pytest.raises(UserError) as caught:
            load(spec, view)
        assert "was trained on the images {'camera': (3, 16, 17)" in str(caught.value)
        assert "\n" not in str(caught.value)
    # It may be one of more images than it knows.
    more = seen(SPEC.observation, camera=(3, 16, 17), wrist=(1, 15, 15), back=(3, 20, 20))
    wider = EnvSpec("Wider-v0", more, SPEC.actions, 50)
    guide = load(wider, GuideView(observation=("place", "speed", "camera", "wrist")))
    images = {**obs.images, "back": torch.zeros(1, 4, 3, 20, 20, dtype=torch.uint8)}
    actions = guide.act(Observation(obs.vector, images), None, everyone(1))
    assert torch.equal(actions, policy.act(obs, None))


RUN = (
    *("env=seen_maze_umaze", "env.max_episode_steps=20", "learner=sac", "learner.hidden=[8]"),
    *("learner/encoder=drq", "learner.encoder.channels=4", "learner.encoder.features=5"),
    *("dataset=none", "offline.updates=0", "online.steps=24", "online.learning_starts=16"),
    *("curriculum=constant", "curriculum.guide_steps=8", "evaluation.interval=24"),
    *("learner.batch_size=4", "online.buffer_size=100", "checkpoint.interval=24"),
)


def test_a_run_from_images_is_guided_and_guides_another_run(tmp_path):
    own = ("guide=python", "guide.target=jsrl.guides.seen_maze:SeenMazeGuide")
    summary = train_here(tmp_path / "first", *RUN, *own, "guide.arguments.noise=0.5")
    assert summary["env_steps"] == 24
    policies = newest_state(tmp_path / "first")["policies"]
    assert policies["exploration"]["description"]["arguments"]["images"] == {"image": [3, 64, 64]}
    guided = ("guide=run", f"guide.path={tmp_path / 'first'}", "guide.sample=true")
    train_here(tmp_path / "second", *RUN, *guided)
    policies = newest_state(tmp_path / "second")["policies"]
    first = newest_state(tmp_path / "first")["policies"]["exploration"]["state"]
    for name, value in policies["guide"]["state"].items():
        assert torch.equal(value, first[name]), name
    policy = jsrl.load_policy(tmp_path / "second", seed=0)
    env = make_registered(SEEN_MAZE, {}, None)
    action, _ = policy.predict(env.reset(seed=0)[0])
    env.close()
    assert action.shape == (2,) and np.isfinite(action).all()


def test_a_file_as_guide_of_a_run_from_images_is_refused_before_anything_is_done(tmp_path):
    path = tmp_path / "g.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(UserError, match=r"takes vectors only, and .* observes the images image"):
        train_here(tmp_path / "run", *RUN, "guide=torchscript", f"guide.path={path}")


CHOICE = replace(
    SPEC,
    observation=replace(
        SPEC.observation,
        vector=(*SPEC.observation.vector, VectorPart(("gear",), (), (3,), (0,))),
    ),
)


@pytest.mark.parametrize(
    ("view", "spec", "words"),
    [
        (GuideView(observation=(1, "wrist")), SPEC, "names columns, but guide own sees images"),
        (GuideView(mean=1.0, std=2.0), CHOICE, "would change numbers that stand for choices"),
    ],
)
def test_what_cannot_be_given_as_the_environment_gives_it_is_refused(view, spec, words):
    with pytest.raises(UserError) as caught:
        ForeignGuide(lambda *_: None, view, spec, 1, "own", "0", takes_images=True)
    assert words in str(caught.value)
    # Vectors alone may be given by columns and normalised.
    ForeignGuide(lambda *_: None, GuideView(observation=(1, 0)), spec, 1, "own", "0")
