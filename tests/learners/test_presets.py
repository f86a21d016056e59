"""The presets, composed as the command composes them, against the published numbers."""

import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from specs import box_spec

from jsrl.commands.schemas import register
from jsrl.core.streams import Streams
from jsrl.learners.bc import BC
from jsrl.learners.iql import IQL
from jsrl.networks.encoders.encoder import EncoderOptions
from jsrl.run.build import build_learner

CONFIGS = Path(__file__).parents[2] / "configs"
LOG_STD_OF_WSRL = [math.log(1e-5), math.log(10)]
SPEC = box_spec("Fake-v0", 4, (-1.0, -1.0), (1.0, 1.0), 50)

# Of all three: two hidden layers of 256, ReLU, Adam 3e-4, batch 256, γ 0.99, target rate 0.005,
# exp-advantage clipped at 100.
COMMON = {
    "kind": "iql",
    "hidden": [256, 256],
    "batch_size": 256,
    "learning_rate": 3e-4,
    "discount": 0.99,
    "target_rate": 0.005,
    "largest_weight": 100.0,
    "exploration_noise": None,
    "adversarial_epsilon": 0.0,
}
OFFICIAL = {
    "initialisation": "orthogonal",
    "log_std_range": [-5.0, 2.0],
    "tanh_mean": True,
    "actor_schedule": "cosine",
    "value_first": True,
    "critic_reduction": "sum",
    "normalise_observations": False,
    "online_action_clip": 1.0,
}
CORL = {
    "initialisation": "pytorch",
    "log_std_range": [-20.0, 2.0],
    "tanh_mean": True,
    "actor_schedule": "cosine",
    "value_first": False,
    "critic_reduction": "mean",
    "normalise_observations": True,
    "online_action_clip": 1.0,
}
WSRL = {
    "initialisation": "variance_scaling",
    "log_std_range": LOG_STD_OF_WSRL,
    "tanh_mean": False,
    "actor_schedule": "constant",
    "value_first": False,
    "critic_reduction": "mean",
    "normalise_observations": False,
    "online_action_clip": 0.99999,
}


def task(expectile, temperature, dropout, reward_scale, reward_shift):
    return {
        "expectile": expectile,
        "temperature": temperature,
        "dropout": dropout,
        "reward_scale": reward_scale,
        "reward_shift": reward_shift,
    }


# The second value: what offline actions are clipped to.
PRESETS = {
    "iql_official": (OFFICIAL | task(0.9, 10.0, 0.0, 1.0, -1.0), 0.99999),
    "iql_official_adroit": (OFFICIAL | task(0.7, 0.5, 0.1, 1.0, 0.0), 0.99999),
    "iql_corl": (CORL | task(0.9, 10.0, 0.0, 1.0, -1.0), None),
    "iql_corl_adroit": (CORL | task(0.8, 3.0, 0.1, 1.0, 0.0), None),
    "iql_online": (
        OFFICIAL | task(0.9, 10.0, 0.0, 1.0, -1.0) | {"exploration_noise": 0.03},
        0.99999,
    ),
    "iql_wsrl": (WSRL | task(0.9, 10.0, 0.0, 10.0, -5.0), 0.99999),
    "iql_wsrl_adroit": (WSRL | task(0.7, 0.5, 0.1, 10.0, 5.0), 0.99999),
}


def composed(*overrides):
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("config", overrides=list(overrides))
    learner = OmegaConf.to_object(config.learner)
    return learner, OmegaConf.to_object(config.activation)


def built(*overrides):
    return build_learner(*composed(*overrides), Streams([0]), SPEC, None, torch.device("cpu"))


def test_every_preset_file_is_in_the_table():
    files = {path.stem for path in (CONFIGS / "learner").glob("iql_*.yaml")}
    assert files == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_numbers(name):
    expected, data_clip = PRESETS[name]
    learner = built(f"learner={name}")
    assert isinstance(learner, IQL)
    assert vars(learner.options) == COMMON | expected | {
        "compile": False,
        "data_action_clip": data_clip,
        "encoder": EncoderOptions(),
        "made_for": {},
    }


def test_plain_iql_is_the_official_preset():
    assert built("learner=iql").options == built("learner=iql_official").options


def test_each_choice_can_be_changed_from_the_command_line():
    learner = built("learner=iql_corl", "learner.expectile=0.8", "activation=tanh")
    assert (learner.options.expectile, learner.policy().mlp.activation) == (0.8, "tanh")


def test_the_preset_decides_the_networks_that_are_built():
    actor = built("learner=iql_wsrl").policy()
    assert not actor.tanh_mean
    assert actor.action_clip == 0.99999
    assert actor.log_std_range == pytest.approx(tuple(LOG_STD_OF_WSRL))
    # State-independent: one standard deviation a dimension, from 1.
    assert actor.log_std.shape == (1, 1, 2)
    assert actor.log_std.abs().sum() == 0


# Of the other learners: what their configuration says.
OF_OTHERS = {
    "td3_bc": {"alpha": 2.5, "normalise_observations": True, "reward_shift": -1.0},
    "awac": {"advantage_temperature": 1.0, "weights": "softmax", "reward_shift": -1.0},
    "awac_corl": {
        "advantage_temperature": 0.1,
        "weights": "exponential",
        "log_std_range": [-20.0, 2.0],
        "tanh_mean": False,
        "hidden": [256, 256, 256],
        "normalise_observations": True,
        "reward_shift": -1.0,
    },
}


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_preset_of_another_learner_has_the_published_numbers(name):
    options = vars(built(f"learner={name}").options)
    assert {key: options[key] for key in OF_OTHERS[name]} == OF_OTHERS[name]
    dense = vars(built(f"learner={name}", "env=gymnasium", "env.id=Pendulum-v1").options)
    assert dense["reward_shift"] == 0.0


def test_behaviour_cloning_composes_too():
    learner = built("learner=bc")
    assert isinstance(learner, BC)
    assert learner.options.learning_rate == 3e-4


def test_each_network_can_have_an_activation_of_its_own():
    smooth = ("activation=smelu", "activation.beta=0.5", "activation.critic.layer_norm=true")
    networks = built(*smooth, "activation.value.name=tanh", "activation.actor.beta=2").networks
    assert networks.actor.mlp.activation == {"name": "smelu", "beta": 2.0}
    assert networks.critic.activation == {"name": "smelu", "beta": 0.5}
    assert networks.target_critic.activation == networks.critic.activation
    assert networks.value.activation == "tanh"
    assert [hasattr(n, "norm_0") for n in (networks.critic, networks.value)] == [True, False]
    assert built("learner=bc", *smooth).policy().mlp.activation_1.beta == 0.5


# What the authors' code has for AntMaze; of RLPD, but for the number of target critics.
OF_SAC = {
    "rlpd": {
        "kind": "sac",
        "critics": 10,
        "target_critics": 2,
        "critic_updates": 20,
        "split_batch": False,
        "batch_size": 256,
        "backup_entropy": False,
        "entropy_per_dimension": -0.5,
        "hidden": [256, 256, 256],
        "learning_rate": 3e-4,
        "actor_learning_rate": None,
        "reward_scale": 1.0,
        "reward_shift": -1.0,
    },
    "wsrl": {
        "kind": "sac",
        "critics": 10,
        "target_critics": 2,
        "critic_updates": 4,
        "split_batch": True,
        "batch_size": 1024,
        "backup_entropy": False,
        "entropy_per_dimension": -0.5,
        "hidden": [256, 256],
        "critic_hidden": [256] * 4,
        "actor_learning_rate": 1e-4,
        "reward_scale": 10.0,
        "reward_shift": -5.0,
    },
}
CONSERVATIVE = {
    "conservative_weight": 5.0,
    "online_weight": None,
    "target_gap": 0.8,
    "sampled_actions": 10,
    "importance_sampling": True,
    "max_target_backup": True,
    "softmax_temperature": 1.0,
    "backup_entropy": False,
    "hidden": [256, 256],
    "critic_hidden": [256] * 4,
    "learning_rate": 3e-4,
    "actor_learning_rate": 1e-4,
    "reward_scale": 10.0,
    "reward_shift": -5.0,
    "data_action_clip": 0.99999,
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *OF_SAC.items(),
        ("cql", CONSERVATIVE | {"kind": "cql"}),
        ("cal_ql", CONSERVATIVE | {"kind": "cal_ql", "after_time_limit": "repeat"}),
    ],
)
def test_a_preset_of_soft_actor_critic_has_the_published_numbers(name, expected):
    options, activation = composed(f"learner={name}")
    assert {key: getattr(options, key) for key in expected} == expected
    normalised = name in OF_SAC
    assert (activation.critic.layer_norm or False, activation.layer_norm) == (normalised, False)
    # Without sparse rewards these stay as they are.
    options, _ = composed(f"learner={name}", "env.sparse_reward=false")
    assert options.reward_transform() == (1.0, 0.0)


def test_what_a_preset_sets_elsewhere_can_be_changed_from_the_command_line():
    _, activation = composed("learner=rlpd", "activation=smelu", "activation.critic.beta=0.5")
    assert (activation.name, activation.critic.layer_norm) == ("smelu", True)
    _, activation = composed("learner=rlpd", "activation.critic.layer_norm=false")
    assert not activation.critic.layer_norm
