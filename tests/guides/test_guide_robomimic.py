"""Guides from checkpoints of robomimic: the real package where it is installed, else a stand-in.

robomimic needs a renderer that is built on installing, so that no extra brings it.
"""

import copy
import importlib.util
import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from guide_cases import act_step_by_step, built, documented_words, episodes, example, observations
from small_runs import read_summary, train_here
from specs import box, box_spec

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import EnvSpec, ImagePart, ObservationSpec, VectorPart
from jsrl.core.streams import Streams
from jsrl.guides import GuideView, robomimic_guide

installed = pytest.mark.skipif(
    importlib.util.find_spec("robomimic") is None, reason="robomimic is not installed"
)
PARTS = box_spec(
    "Parts-v0", (("pos", 0, 3), ("vel", 3, 5), ("extra", 5, 7)), (-1.0, -1.0), (1.0, 1.0), 50
)
SHAPES = {"vel": [2], "pos": [3]}
EVERYONE = torch.ones(2, 3, dtype=torch.bool)


def written(path, shapes=SHAPES, rgb=(), goal=(), algorithm=None, **changes):
    """A checkpoint as robomimic writes it, without weights."""
    low = [name for name in shapes if name not in rgb]
    modalities = {"obs": {"low_dim": low, "rgb": list(rgb)}, "goal": {"low_dim": list(goal)}}
    config = {"observation": {"modalities": modalities}, "algo": algorithm or {}}
    content = {
        "model": {},
        "algo_name": "bc",
        "config": json.dumps(config),
        "shape_metadata": {"all_shapes": shapes, "ac_dim": 2},
    }
    torch.save({**content, **changes}, path)
    return path


class StandInAlgorithm:
    """Counts its steps, as a recurrent network would."""

    def __init__(self):
        self.age = 0

    def reset(self):
        self.age = 0


class StandInRollout:
    """Acts for one episode at a time, and writes into what it is given, as robomimic does."""

    def __init__(self, draws, recurrent):
        self.policy, self.seen = StandInAlgorithm(), []
        self.draws, self.recurrent = draws, recurrent

    def start_episode(self):
        self.policy.reset()

    def __call__(self, observation):
        self.seen.append({name: array.copy() for name, array in observation.items()})
        action = np.zeros(2, np.float32)
        if "pos" in observation:
            action = np.tanh(observation["pos"][:2]) / (1 + self.policy.age)
            observation["pos"] /= 2
        self.policy.age += self.recurrent
        return action + (torch.rand(2).numpy() if self.draws else 0)


@pytest.fixture
def stand_in(monkeypatch):
    """Modules in robomimic's place."""
    package, utils = ModuleType("robomimic"), ModuleType("robomimic.utils")
    files, observing = (ModuleType(f"robomimic.utils.{n}") for n in ("file_utils", "obs_utils"))
    package.policies = []

    def policy_from_checkpoint(device, ckpt_dict):
        algorithm = json.loads(ckpt_dict["config"])["algo"]
        package.policies.append(StandInRollout("gmm" in algorithm, "rnn" in algorithm))
        return package.policies[-1], ckpt_dict

    def process_obs(frame, obs_modality):
        assert obs_modality == "rgb"
        return frame.astype(np.float32).transpose(2, 0, 1) / 255

    files.policy_from_checkpoint, observing.process_obs = policy_from_checkpoint, process_obs
    for module in (package, utils, files, observing):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return package


def refused(path, words, spec=PARTS):
    with pytest.raises(UserError, match=words) as caught:
        robomimic_guide(path, GuideView(), spec, 1)
    assert "\n" not in str(caught.value)


def test_it_sees_the_parts_that_it_was_trained_on(tmp_path, stand_in):
    guide = robomimic_guide(written(tmp_path / "p.pth"), GuideView(), PARTS, 2)
    obs = observations(2, 3, 7)
    given = obs.vector.clone()
    actions = guide.act(obs, None, EVERYONE)
    seen = stand_in.policies[-1].seen[-1]
    assert set(seen) == {"pos", "vel"}
    np.testing.assert_array_equal(seen["vel"], given[1, 2, 3:5].numpy())
    assert torch.equal(given, obs.vector)
    assert not guide.stateful
    assert actions.shape == (2, 3, 2)


def test_images_are_prepared_by_robomimic(tmp_path, stand_in):
    image = ImagePart(("cam",), (4, 5, 3), (2, 0, 1), (3, 4, 5))
    seen = ObservationSpec((VectorPart(("pos",), (3,)),), (image,))
    spec = EnvSpec("Seen-v0", seen, box((-1.0, -1.0), (1.0, 1.0)), 50)
    shapes = {"cam": [3, 4, 5], "pos": [3]}
    guide = robomimic_guide(written(tmp_path / "p.pth", shapes, ["cam"]), GuideView(), spec, 1)
    pixels = torch.arange(60).byte().view(1, 1, 3, 4, 5) * 4
    obs = Observation(torch.zeros(1, 1, 3), {"cam": pixels})
    guide.act(obs, None, torch.ones(1, 1, dtype=torch.bool))
    given = stand_in.policies[-1].seen[-1]["cam"]
    np.testing.assert_allclose(given, pixels[0, 0].numpy() / 255, atol=1e-6)


RECURRENT = {"rnn": {"enabled": True}}


def test_a_recurrent_policy_remembers_each_row(tmp_path, stand_in):
    guide = robomimic_guide(written(tmp_path / "p.pth", algorithm=RECURRENT), GuideView(), PARTS, 2)
    vectors, begins = episodes(8, 2, 3, 7)
    found = act_step_by_step(guide, vectors, begins)
    age = torch.zeros(2, 3)
    for step, begin, actions in zip(vectors, begins, found, strict=True):
        age = torch.where(begin, 0, age)
        torch.testing.assert_close(actions, torch.tanh(step[..., :2]) / (1 + age[..., None]))
        age += 1
    first = act_step_by_step(guide, vectors[:3], begins[:3])
    act_step_by_step(copy.deepcopy(guide), vectors, begins)
    rest = act_step_by_step(guide, vectors[3:], begins[3:])
    assert torch.equal(torch.cat([first, rest]), found)


def test_a_policy_that_draws_does_so_from_the_seeds_streams_and_is_clipped(tmp_path, stand_in):
    path = written(tmp_path / "p.pth", algorithm={"gmm": {"enabled": True}})
    guide = robomimic_guide(path, GuideView(), PARTS, 2)
    obs, before = observations(2, 3, 7), torch.get_rng_state()
    drawn = guide.act(obs, Streams([4, 5]), EVERYONE)
    assert torch.equal(drawn, guide.act(obs, Streams([4, 5]), EVERYONE))
    alone = robomimic_guide(path, GuideView(), PARTS, 1)
    assert torch.equal(drawn[1:], alone.act(obs[1:], Streams([5]), EVERYONE[1:]))
    assert (drawn - torch.tanh(obs.vector[..., :2])).unique().numel() > 6
    assert torch.equal(guide.act(obs, None, EVERYONE), guide.act(obs, None, EVERYONE))
    high = Observation(torch.full((2, 3, 7), 9.0))
    assert torch.equal(guide.act(high, Streams([4, 5]), EVERYONE), torch.ones(2, 3, 2))
    assert torch.equal(before, torch.get_rng_state())


def test_files_that_do_not_fit(tmp_path, stand_in):
    path = tmp_path / "p.pth"
    refused(path, "does not exist")
    path.write_bytes(b"nothing")
    refused(path, "not a checkpoint of robomimic, or truncated")
    torch.save({"weights": torch.ones(2)}, path)
    refused(path, "not a checkpoint of robomimic, which has the entries")
    refused(written(path, algo_name="hbc"), "'hbc'; guide=robomimic takes behaviour cloning")
    refused(written(path, goal=["pos"]), r"goals \(pos\)")
    refused(written(path, algorithm={"transformer": {"enabled": True}}), "observations at once")
    refused(written(path, config="{}"), "configuration that cannot be read")
    refused(written(path, {"pos": [4]}), r"pos \(4,\); Parts-v0 observes pos \(3,\), vel \(2,\)")
    refused(written(path, {"pos": [3], "goal": [2]}), r"goal \(2,\); Parts-v0 observes")
    sizes = {"all_shapes": SHAPES, "ac_dim": 7}
    refused(written(path, shape_metadata=sizes), "7 real numbers.*takes 2 real numbers")


def test_without_the_package_its_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "robomimic", None)
    refused(written(tmp_path / "p.pth"), "not installed; pip install --no-deps robomimic")


def test_what_runs_code_and_what_is_left_out_are_said(tmp_path, stand_in, capfd):
    path = written(tmp_path / "p.pth", algorithm={"gmm": {"enabled": True}})
    built("robomimic", PARTS, path=str(path))
    said = capfd.readouterr().err.splitlines()
    words = ("run code", "sees vel and pos", "clipped")
    assert [word in line for word, line in zip(words, said, strict=True)] == [True] * 3


def real_checkpoint(path, **enabled):
    from robomimic.algo import algo_factory
    from robomimic.config import config_factory
    from robomimic.utils import obs_utils

    config = config_factory("bc")
    with config.values_unlocked():
        config.observation.modalities.obs.low_dim = list(SHAPES)
        config.algo.rnn.enabled, config.algo.rnn.horizon = "rnn" in enabled, 3
        config.algo.rnn.hidden_dim, config.algo.gmm.enabled = 8, "gmm" in enabled
        config.algo.actor_layer_dims = (8,)
        config.train.hdf5_normalize_obs = True
    obs_utils.initialize_obs_utils_with_config(config)
    algorithm = algo_factory("bc", config, SHAPES, ac_dim=2, device=torch.device("cpu"))
    statistics = {
        name: {"mean": np.ones((1, *shape)).tolist(), "std": np.full((1, *shape), 2.0).tolist()}
        for name, shape in SHAPES.items()
    }
    content = {
        "model": algorithm.serialize(),
        "algo_name": "bc",
        "config": config.dump(),
        "shape_metadata": {"all_shapes": SHAPES, "ac_dim": 2},
        "obs_normalization_stats": statistics,
    }
    torch.save(content, path)
    return path


@installed
@pytest.mark.parametrize("enabled", [{}, {"rnn": True}])
def test_it_acts_as_robomimics_own_rollout_policy(tmp_path, enabled):
    from robomimic.utils.file_utils import policy_from_checkpoint

    path = real_checkpoint(tmp_path / "p.pth", **enabled)
    guide = robomimic_guide(path, GuideView(), PARTS, 2)
    vectors, begins = episodes(9, 2, 2, 7)
    found = act_step_by_step(guide, vectors, begins)
    for seed, row in np.ndindex(2, 2):
        own, _ = policy_from_checkpoint(torch.device("cpu"), ckpt_path=str(path))
        for t in range(9):
            if begins[t, seed, row]:
                own.start_episode()
            vector = vectors[t, seed, row].numpy()
            expected = own({"pos": vector[:3].copy(), "vel": vector[3:5].copy()})
            np.testing.assert_allclose(found[t, seed, row].numpy(), expected, atol=1e-6)


@installed
def test_a_real_mixture_draws_from_the_seeds_streams(tmp_path):
    guide = robomimic_guide(real_checkpoint(tmp_path / "p.pth", gmm=True), GuideView(), PARTS, 2)
    obs = observations(2, 3, 7)
    drawn = guide.act(obs, Streams([4, 5]), EVERYONE)
    assert torch.equal(drawn, guide.act(obs, Streams([4, 5]), EVERYONE))
    assert not torch.equal(drawn, guide.act(obs, Streams([6, 7]), EVERYONE))


@installed
def test_the_example_in_ten_lines(tmp_path):
    module, path = example("guide_robomimic"), tmp_path / "policy.pth"
    module.save_policy(str(path), steps=2)
    words = documented_words(module, path)
    train_here(tmp_path / "run", *words, "seeds=[0,3]", "online.steps=100")
    assert read_summary(tmp_path / "run")["env_steps"] == 200
