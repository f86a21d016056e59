"""Every file under ``configs`` composes, is of the schema, and is one that a run would accept."""

import operator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from small_runs import composed

from jsrl.commands.paths import config_directory
from jsrl.commands.schemas import register
from jsrl.commands.table import COMMANDS
from jsrl.core.errors import UserError
from jsrl.grid.config import GridConfig
from jsrl.run.checks import check
from jsrl.settings.kinds import REGISTRIES, all_options, registry_of
from jsrl.settings.mistakes import mistake
from jsrl.settings.schema import TrainConfig

GROUPS = sorted(path.name for path in config_directory().iterdir() if path.is_dir())
EXPERIMENTS = sorted(path.stem for path in (config_directory() / "experiment").glob("*.yaml"))
OPTIONS = [
    (group, path.stem)
    for group in GROUPS
    if group not in ("experiment", "grid")
    for path in sorted((config_directory() / group).glob("*.yaml"))
] + [
    ("learner.encoder", path.stem)
    for path in sorted((config_directory() / "learner" / "encoder").glob("*.yaml"))
]

OF_OTHER_COMMANDS = ("attack", "method")
"""Groups that `jsrl train` has not."""

NEEDS = {
    "env=gymnasium": ("env.id=Pendulum-v1",),
    "env=mountaincar": ("curriculum.metric=return",),
    "env=lock": ("learner=dqn",),
    "env=mountaincar_choices": ("curriculum.metric=return", "learner=dqn"),
    "dataset=none": ("guide=waypoint",),
    "dataset=python": ("dataset.target=guides.py:act",),
    "dataset=d4rl": ("dataset.path=file.hdf5",),
    "dataset=robomimic": ("dataset.path=file.hdf5",),
    "dataset=minari": ("dataset.path=D4RL/pointmaze/umaze-v2",),
    "learner=bc": ("online.steps=0",),
    "learner=ppo": ("dataset=none", "guide=waypoint"),
    "learner=custom": ("learner.target=module:Learner",),
    "guide=none": ("curriculum=none",),
    "guide=run": ("guide.path=runs/earlier",),
    "guide=python": ("guide.target=guides.py:act",),
    "guide=torchscript": ("guide.path=policy.pt",),
    "guide=onnx": ("guide.path=policy.onnx",),
    "guide=npz": ("guide.path=policy.npz",),
    "guide=sb3": ("guide.path=policy.zip",),
    "guide=torch_export": ("guide.path=policy.pt2",),
    "guide=d3rlpy": ("guide.path=policy.d3",),
    "guide=robomimic": ("guide.path=policy.pth",),
    "guide=replay": ("guide.path=demonstrations.hdf5",),
    "guide=human": ("curriculum=random", "curriculum.initial_guide_steps=50", "seeds=[0]"),
    "guide=several": ("guide.members=[{kind: random}]",),
    "curriculum=custom": ("curriculum.target=module:Curriculum",),
    **{
        f"arbiter={path.stem}": ("curriculum=none",)
        for path in (config_directory() / "arbiter").glob("*.yaml")
        if path.stem not in ("handover", "custom")
    },
    "arbiter=human": ("curriculum=none", "guide=human", "seeds=[0]"),
    "arbiter=custom": ("arbiter.target=scripts/examples/arbiter_alternate.py:Alternate",),
}
"""What else has to be said with an option."""


def test_the_groups_are_those_that_are_documented() -> None:
    documented = (
        "activation arbiter attack curriculum dataset env experiment grid guide learner logger "
        "method monitor"
    )
    assert documented.split() == GROUPS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_passes_the_checks_and_bears_its_files_name(name: str) -> None:
    config, plain = composed(f"experiment={name}")
    check(config)
    assert config.experiment == name
    assert OmegaConf.structured(TrainConfig).keys() == plain.keys()


@pytest.mark.parametrize(
    ("group", "option"), [each for each in OPTIONS if each[0] not in OF_OTHER_COMMANDS]
)
def test_an_option_composes_on_top_of_an_experiment_and_passes_the_checks(
    group: str, option: str
) -> None:
    choice = f"{group.replace('.', '/')}={option}"
    config, _ = composed("experiment=pointmaze_jsrl", choice, *NEEDS.get(choice, ()))
    check(config)
    registry = registry_of(group)
    if registry is not None:
        assert operator.attrgetter(group)(config).kind == kind_of(option, registry)


@pytest.mark.parametrize("choice", [choice for choice in NEEDS if not choice.startswith("env=")])
def test_what_an_option_needs_is_asked_for(choice: str) -> None:
    config, _ = composed("experiment=pointmaze_jsrl", choice)
    with pytest.raises(UserError, match=choice.partition("=")[2]):
        check(config)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.group)
def test_every_kind_has_an_option_of_its_name(registry: Any) -> None:
    options = [option for other, option in OPTIONS if other == registry.group]
    kinds = {kind_of(option, registry) for option in options}
    assert kinds == set(registry.names())


PRESETS_OF_SAC = ("rlpd", "wsrl")


def kind_of(option: str, registry: Any) -> str:
    """The kind of which an option is a preset, whose name begins with it, or the kind itself."""
    if option in PRESETS_OF_SAC:
        return "sac"
    named = [n for n in registry.names() if option == n or option.startswith(f"{n}_")]
    return max(named, key=len, default=option)


def keys_of_group(group: str) -> list[str]:
    of_kinds = [option.partition(".")[2] for option in all_options(group)]
    if of_kinds:
        return of_kinds
    return [str(key) for key in OmegaConf.structured(TrainConfig.__dataclass_fields__[group].type)]


@pytest.mark.parametrize("path", sorted(config_directory().glob("*/*.yaml")), ids=lambda p: p.stem)
def test_a_file_says_in_a_comment_what_it_is_and_names_only_keys_of_the_schema(path: Path) -> None:
    text = path.read_text()
    values: dict[str, Any] = yaml.safe_load(text)
    values.pop("defaults", None)
    schema: Any = OmegaConf.structured(TrainConfig)
    if path.parent.name == "grid":
        schema = OmegaConf.structured(GridConfig)
    is_global = text.startswith("# @package _global_\n")
    if path.parent.name != "grid" and not is_global:
        schema = keys_of_group(path.parent.name)
    assert "#" in text or path.parent.name in ("activation",)
    for key, value in values.items():
        assert key in list(schema)
        if isinstance(value, dict) and is_global and path.parent.name != "grid":
            assert set(value) <= set(keys_of_group(key))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_configuration_a_schema_and_a_function(name: str) -> None:
    command = COMMANDS[name]
    assert (config_directory() / f"{command.config}.yaml").exists()
    assert is_dataclass(command.load_schema())
    assert callable(command.load_function())


def test_a_command_bears_the_name_of_its_configuration() -> None:
    for command in COMMANDS.values():
        assert command.config == {"train": "config"}.get(
            command.name, command.name.replace(" ", "_")
        )


def test_a_key_without_a_value_and_a_key_that_nothing_reads_are_mistakes() -> None:
    # Nothing else in this process may have done so.
    register()
    schema: Any = OmegaConf.structured(COMMANDS["evaluate"].load_schema())
    assert mistake(schema, "evaluate") == "run is not set; give run=VALUE"
    schema.run = "x"
    assert mistake(schema, "evaluate") is None
    OmegaConf.set_struct(schema, False)
    schema.episode = 3
    assert mistake(schema, "evaluate") == (
        "episode is no key of the configuration; did you mean episodes?"
    )


def test_arguments_of_an_environment_and_of_a_guide_need_no_plus() -> None:
    config, _ = composed(
        "experiment=pointmaze_jsrl",
        "env.kwargs.reward_type=dense",
        "guide=python",
        "guide.arguments={gain: 2}",
        "learner=custom",
        "learner.arguments.width=3",
    )
    assert config.env.kwargs["reward_type"] == "dense"
    assert config.env.kwargs["continuing_task"] is False
    assert config.guide.arguments == {"gain": 2}
    assert config.learner.arguments == {"width": 3}


# Scale and shift of rewards, and the share of offline data, that each experiment has had so far.
REWARDS_AND_SHARE: dict[str, tuple[float, float, Any]] = {
    "adroit_bc": (1.0, 0.0, 0.25),
    "adroit_guide": (1.0, 0.0, 0.25),
    "adroit_iql": (1.0, 0.0, 0.25),
    "adroit_iql_merged": (1.0, 0.0, "merged"),
    "adroit_jsrl": (1.0, 0.0, 0.25),
    "adroit_jsrl_random": (1.0, 0.0, 0.25),
    "adroit_jsrl_warm": (1.0, 0.0, 0.25),
    "antmaze_bc": (1.0, 0.0, 0.25),
    "antmaze_guide": (1.0, -1.0, 0.25),
    "antmaze_iql": (1.0, -1.0, 0.25),
    "antmaze_iql_merged": (1.0, -1.0, "merged"),
    "antmaze_jsrl": (1.0, -1.0, 0.25),
    "antmaze_jsrl_random": (1.0, -1.0, 0.25),
    "antmaze_jsrl_warm": (1.0, -1.0, 0.25),
    "antmaze_naive": (1.0, -1.0, 0.25),
    "antmaze_naive_warmup": (1.0, -1.0, 0.25),
    "antmaze_offline": (1.0, -1.0, 0.25),
    "antmaze_play_guide": (1.0, -1.0, 0.25),
    "lock_dqn": (1.0, 0.0, 0.0),
    "lock_dqn_jsrl": (1.0, 0.0, 0.0),
    "mountaincar_dqn": (1.0, 0.0, 0.0),
    "mountaincar_dqn_jsrl": (1.0, 0.0, 0.0),
    "mountaincar_jsrl": (0.1, 0.0, 0.0),
    "mountaincar_no_guide": (0.1, 0.0, 0.0),
    "mountaincar_ppo": (0.05, 0.0, 0.0),
    "mountaincar_ppo_jsrl": (0.05, 0.0, 0.0),
    "mountaincar_sac": (1.0, 0.0, 0.0),
    "mountaincar_sac_jsrl": (1.0, 0.0, 0.0),
    "mountaincar_td3": (1.0, 0.0, 0.0),
    "mountaincar_td3_jsrl": (1.0, 0.0, 0.0),
    "pointmaze_cal_ql": (10.0, -5.0, 0.5),
    "pointmaze_cql": (10.0, -5.0, 0.5),
    "pointmaze_her": (1.0, -1.0, 0.0),
    "pointmaze_her_jsrl": (1.0, -1.0, 0.0),
    "pointmaze_iql": (1.0, -1.0, 0.25),
    "pointmaze_jsrl": (1.0, -1.0, 0.25),
    "pointmaze_naive": (1.0, -1.0, 0.25),
    "pointmaze_naive_warmup": (1.0, -1.0, 0.25),
    "pointmaze_no_guide": (1.0, -1.0, 0.0),
    "pointmaze_offline": (1.0, -1.0, 0.25),
    "pointmaze_rlpd": (1.0, -1.0, 0.5),
    "pointmaze_rlpd_jsrl": (1.0, -1.0, 0.5),
    "pointmaze_wsrl": (10.0, -5.0, 0.0),
    "pointmaze_wsrl_guide": (10.0, -5.0, 0.5),
    "seen_maze_bc": (1.0, 0.0, 0.25),
    "seen_maze_jsrl": (1.0, -1.0, 0.0),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_keeps_its_rewards_and_its_share_of_offline_data(name: str) -> None:
    config, _ = composed(f"experiment={name}")
    learner, share = config.learner, config.online.offline_fraction
    assert (*(learner.reward_transform() or (1.0, 0.0)), share) == REWARDS_AND_SHARE[name]


LEARNERS = [option for group, option in OPTIONS if group == "learner" and "adroit" not in option]


@pytest.mark.parametrize("learner", LEARNERS)
def test_rewards_of_a_users_environment_are_left_as_they_are(learner: str) -> None:
    own = ("env=gymnasium", "env.id=Pendulum-v1", f"learner={learner}")
    for base in ((), ("experiment=pointmaze_jsrl",), ("experiment=antmaze_jsrl",)):
        config, _ = composed(*base, *own)
        assert config.learner.reward_transform() in (None, (1.0, 0.0))
    if config.learner.reward_transform() is None:
        return
    config, _ = composed(*own, "learner.reward_scale=3", "learner.reward_shift=-2")
    assert config.learner.reward_transform() == (3.0, -2.0)
    config, _ = composed(*own, "env.sparse_reward=true", "learner=iql_wsrl")
    assert config.learner.reward_transform() == (10.0, -5.0)


MADE_FOR_DATA = (
    "pointmaze_cal_ql",
    "pointmaze_cql",
    "pointmaze_rlpd",
    "pointmaze_rlpd_jsrl",
    "pointmaze_wsrl_guide",
)


def test_without_data_no_share_is_offline_unless_it_is_asked_for() -> None:
    without = ("dataset=none", "guide=none", "curriculum=none", "online.critic_warmup_steps=0")
    for name in EXPERIMENTS:
        if name in MADE_FOR_DATA:
            continue
        config, plain = composed(f"experiment={name}", *without, "start=cold")
        assert config.online.offline_fraction == plain["online"]["offline_fraction"] == 0
        check(config)
    config, _ = composed(*without, "online.offline_fraction=0.25")
    with pytest.raises(UserError, match=r"offline_fraction=0\.25 needs offline data"):
        check(config)
    config, _ = composed("dataset=d4rl", "dataset.path=x.hdf5")
    assert config.online.offline_fraction == 0.25
