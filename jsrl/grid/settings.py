"""The settings of a run: composed before it is started, and compared with those that were used."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jsrl.core.errors import UserError
from jsrl.loggers.metrics import flatten
from jsrl.run.checks import check
from jsrl.settings.arguments import as_names
from jsrl.settings.composition import Compositions
from jsrl.settings.kind_options import refuse_unused
from jsrl.settings.kinds import keep_own
from jsrl.settings.mistakes import explain, mistake

Settings = dict[str, str | int | float | None]
"""Dotted keys; lists and booleans as JSON text."""

WITHOUT_EFFECT = (
    *("seeds", "run_dir", "device", "threads", "guide.path", "logger.", "checkpoint."),
    "objective",
)
"""Keys, or beginnings of keys, that do not tell one result from another."""

FREE = ("env.kwargs.", "guide.arguments.", "learner.arguments.", "curriculum.arguments.")
"""What stands below these is not in the schema: there a key that is missing says something."""


def compose_settings(
    name: str,
    overrides: Sequence[str],
    own: Sequence[str] = (),
    compositions: Compositions | None = None,
) -> Settings:
    """The settings of ``jsrl train`` with these overrides, as far as they affect its result.

    It has to be called inside of a Hydra job.

    Args:
        name: what messages call the run.
        overrides: Hydra's overrides, those that name folders left out.
        own: those of them that are this run's alone: their keys have to be used. What is set for
            a whole grid need not be, by each of its arms.
        compositions: of ``config``, shared with other runs; None composes this one alone.

    Raises:
        UserError: if they do not compose, or ``jsrl train`` would refuse them.
    """
    overrides, own = as_names(overrides), as_names(own)
    # The folders do not matter here, but have to be set.
    folders = ["run_dir=-"]
    if "guide=run" in overrides:
        folders.append("guide.path=-")
    if compositions is None:
        compositions = Compositions("config")
    try:
        config = compositions.compose([*overrides, *folders])
        refuse_unused(config, own)
        keep_own(config)
        wrong = mistake(config, "config")
        if wrong is not None:
            raise UserError(wrong)
        OmegaConf.resolve(config)
        typed: Any = OmegaConf.to_object(config)
        check(typed)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{name}: {explain(error, 'config')}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    plain: Any = OmegaConf.to_container(config)
    return settings_of(plain)


def settings_of(config: Mapping[str, Any]) -> Settings:
    """What affects the result in a run's resolved configuration, nested plain values."""
    return {
        key: value for key, value in flatten(config).items() if not key.startswith(WITHOUT_EFFECT)
    }


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys in which two settings differ, with both values.

    A key of the schema that only one of them has is skipped: another version of the package has
    it, with a default that does what was done before.
    """
    found = []
    for key in [*old, *(k for k in new if k not in old)]:
        if (key in old and key in new) or key.startswith(FREE):
            was, now = old.get(key), new.get(key)
            if was != now:
                found.append(f"{key} was {was}, is {now}")
    return found
