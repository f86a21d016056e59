"""What is composed with a memory is what Hydra composes without one."""

import copy
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from jsrl.commands.paths import config_directory
from jsrl.commands.schemas import register
from jsrl.settings.composition import Compositions
from jsrl.settings.kinds import keep_own

EXPERIMENTS = sorted(path.stem for path in (config_directory() / "experiment").glob("*.yaml"))
VALUES = (
    *("online.steps=${evaluation.interval}", "learner.batch_size=8"),
    *("online.steps=70", "env.kwargs.mine=[1,{a: 2}]"),
)


def everything(config: DictConfig) -> list[tuple[object, ...]]:
    """Each node with its type, flags and raw value; what resolves, resolved."""
    found: list[tuple[object, ...]] = []

    def visit(node: DictConfig, name: str) -> None:
        flags = (OmegaConf.is_struct(node), OmegaConf.is_readonly(node))
        found.append((name, OmegaConf.get_type(node), *flags))
        for key in node:
            path = f"{name}.{key}"
            if OmegaConf.is_missing(node, key):
                found.append((path, "missing", OmegaConf.get_type(node, key)))
            elif isinstance(node[key], DictConfig):
                visit(node[key], path)
            else:
                interpolated = OmegaConf.is_interpolation(node, key)
                found.append((path, OmegaConf.get_type(node, key), node[key], interpolated))

    visit(config, "")
    return found


def test_an_experiment_is_as_hydra_composes_it() -> None:
    register()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        compositions = Compositions("config")
        # One of each six: all would take long.
        for name in EXPERIMENTS[::6]:
            base = [f"experiment={name}", "run_dir=-", "start=warm"]
            compositions.compose([*base, VALUES[1]])  # what is kept does not change with it
            # The order of choices and values does not matter to Hydra either.
            overrides = [VALUES[0], *base, *VALUES[1:]]
            fast, own = compositions.compose(overrides), compose("config", overrides)
            assert everything(fast) == everything(own)
            assert keep_own(fast) == keep_own(own)
            assert OmegaConf.to_container(fast) == OmegaConf.to_container(own)


@pytest.mark.parametrize(
    "overrides",
    [
        ["learner={batch_size: 9}", "learner.batch_size=8"],
        ["learner.batch_size=8", "learner={batch_size: 9}"],
        ["+env.kwargs.other=1", "++env.kwargs.other=2", "learner.batch_size=8"],
        ["learner=sac", "learner/encoder=drq", "learner.encoder.features=9"],
        ["online.steps=70", "online.steps=80"],
    ],
)
def test_what_else_the_grammar_has_is_left_to_hydra(overrides: list[str]) -> None:
    register()
    words = ["experiment=pointmaze_jsrl", "run_dir=-", *overrides]
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        fast = Compositions("config").compose(words)
        assert everything(fast) == everything(compose("config", words))


@pytest.mark.parametrize(
    "wrong", ["checkpoint.intervall=8", "learner.batch_size=many", "learner.hidden=[", "learner=a"]
)
def test_a_mistake_is_told_in_hydras_words(wrong: str) -> None:
    register()
    words = ["experiment=pointmaze_jsrl", "run_dir=-", wrong]
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        with pytest.raises(HydraException) as own:
            compose("config", words)
        with pytest.raises(type(own.value)) as fast:
            Compositions("config").compose(words)
    assert str(fast.value) == str(own.value)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    register()
    path = tmp_path / "mine.yaml"
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        for text, value in (("a: 1", 1), ("a: 22", 22)):
            path.write_text(text)
            assert compose("mine") == {"a": value}
            assert compose("mine", ["a=3"]) == {"a": 3}
            assert compose("mine") == {"a": value}


def test_what_is_registered_is_never_changed_by_a_composition() -> None:
    register()
    before = copy.deepcopy(dict(ConfigStore.instance().repo))
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        compose("config", ["experiment=pointmaze_jsrl", "run_dir=-", "learner.batch_size=8"])
    assert before == dict(ConfigStore.instance().repo)
