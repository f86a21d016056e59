"""Every file under ``configs`` composes, is of the schema, and is one that a run would accept."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import composed
from omegaconf import OmegaConf

from jsrl.checks import KINDS, check
from jsrl.cli import COMMANDS, config_directory
from jsrl.config import TrainConfig
from jsrl.config_errors import SCHEMAS, mistake
from jsrl.dataset_config import FAMILIES
from jsrl.dataset_jobs import JOBS
from jsrl.errors import UserError
from jsrl.grid.config import GridConfig

GROUPS = sorted(path.name for path in config_directory().iterdir() if path.is_dir())
EXPERIMENTS = sorted(path.stem for path in (config_directory() / "experiment").glob("*.yaml"))
OPTIONS = [
    (group, path.stem)
    for group in GROUPS
    if group not in ("experiment", "grid")
    for path in sorted((config_directory() / group).glob("*.yaml"))
]

NEEDS = {
    "env=gymnasium": ("env.id=Pendulum-v1",),
    "dataset=none": ("guide=waypoint", "online.offline_fraction=0"),
    "dataset=d4rl": ("dataset.path=file.hdf5",),
    "dataset=minari": ("dataset.path=D4RL/pointmaze/umaze-v2",),
    "learner=bc": ("online.steps=0",),
    "learner=custom": ("learner.target=module:Learner",),
    "guide=none": ("curriculum=none",),
    "guide=run": ("guide.path=runs/earlier",),
    "guide=python": ("guide.target=guides.py:act",),
    "guide=torchscript": ("guide.path=policy.pt",),
    "guide=onnx": ("guide.path=policy.onnx",),
    "guide=npz": ("guide.path=policy.npz",),
    "curriculum=custom": ("curriculum.target=module:Curriculum",),
}
"""What else has to be said with an option."""


def test_the_groups_are_those_that_are_documented() -> None:
    documented = "activation curriculum dataset env experiment grid guide learner logger monitor"
    assert documented.split() == GROUPS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_passes_the_checks_and_bears_its_files_name(name: str) -> None:
    config, plain = composed(f"experiment={name}")
    check(config)
    assert config.experiment == name
    assert OmegaConf.structured(TrainConfig).keys() == plain.keys()


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_an_option_composes_on_top_of_an_experiment_and_passes_the_checks(
    group: str, option: str
) -> None:
    choice = f"{group}={option}"
    config, _ = composed("experiment=pointmaze_jsrl", choice, *NEEDS.get(choice, ()))
    check(config)
    if group in KINDS:
        assert getattr(config, group).kind == ("iql" if option.startswith("iql") else option)


@pytest.mark.parametrize("choice", [choice for choice in NEEDS if choice != "env=gymnasium"])
def test_what_an_option_needs_is_asked_for(choice: str) -> None:
    config, _ = composed("experiment=pointmaze_jsrl", choice)
    with pytest.raises(UserError, match=choice.partition("=")[2]):
        check(config)


@pytest.mark.parametrize("group", sorted(KINDS))
def test_every_kind_has_an_option_of_its_name(group: str) -> None:
    options = [option for other, option in OPTIONS if other == group]
    kinds = {"iql" if option.startswith("iql") else option for option in options}
    assert kinds == set(KINDS[group])


@pytest.mark.parametrize("path", sorted(config_directory().glob("*/*.yaml")), ids=lambda p: p.stem)
def test_a_file_says_in_a_comment_what_it_is_and_names_only_keys_of_the_schema(path: Path) -> None:
    text = path.read_text()
    values: dict[str, Any] = yaml.safe_load(text)
    values.pop("defaults", None)
    schema: Any = OmegaConf.structured(TrainConfig)
    if path.parent.name == "grid":
        schema = OmegaConf.structured(GridConfig)
    elif path.parent.name != "experiment":
        kind = TrainConfig.__dataclass_fields__[path.parent.name].type
        schema = OmegaConf.structured(kind)
    assert "#" in text or path.parent.name in ("activation",)
    for key, value in values.items():
        assert key in list(schema)
        if isinstance(value, dict) and path.parent.name == "experiment":
            kind = TrainConfig.__dataclass_fields__[key].type
            assert set(value) <= set(OmegaConf.structured(kind))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_each_command_has_a_configuration_of_its_own(name: str) -> None:
    assert (config_directory() / f"{name}.yaml").exists()
    assert name == "config" or name.partition("_")[0] in COMMANDS


def test_what_may_follow_jsrl_dataset_has_a_schema_and_a_job() -> None:
    assert list(JOBS) == list(FAMILIES)
    assert {f"dataset_{family}" for family in FAMILIES} <= set(SCHEMAS)


def test_a_key_without_a_value_and_a_key_that_nothing_reads_are_mistakes() -> None:
    schema: Any = OmegaConf.structured(SCHEMAS["evaluate"])
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
        "guide.arguments={gain: 2}",
        "learner.arguments.width=3",
    )
    assert config.env.kwargs["reward_type"] == "dense"
    assert config.env.kwargs["continuing_task"] is False
    assert config.guide.arguments == {"gain": 2}
    assert config.learner.arguments == {"width": 3}
