"""The configuration that a run's folder holds, where an earlier version of the package wrote it."""

from collections.abc import Mapping
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from jsrl.core.registry import option_names
from jsrl.settings.kinds import REGISTRIES, open_schema
from jsrl.settings.schema import TrainConfig


def complete(stored: Mapping[str, Any]) -> DictConfig:
    """The configuration of a run, typed, with the defaults of keys that it lacks.

    An earlier version did not know them, and did what is their default, unless the options of the
    kind say what it formerly did. Earlier versions kept the
    options of all kinds of a group beside those of the chosen kind: these are left out.

    Raises:
        UserError: for a kind that there is not.
        OmegaConfBaseException: for a key that there is not, or a value of another type.
    """
    schema: DictConfig = OmegaConf.structured(TrainConfig)
    kept = _in_present_words(stored)
    for registry in REGISTRIES:
        *above, name = registry.group.split(".")
        holder: Any = kept
        for key in above:
            holder = holder.get(key) if isinstance(holder, Mapping) else None
        values = holder.get(name) if isinstance(holder, Mapping) else None
        if isinstance(values, Mapping) and "kind" in values:
            options = registry[str(values["kind"])].options
            OmegaConf.update(schema, registry.group, open_schema(options), merge=False)
            own = option_names(options)
            holder[name] = dict(options.formerly) | {
                key: value
                for key, value in values.items()
                if key in own or not registry.with_option(str(key))
            }
    found = OmegaConf.merge(schema, kept)
    assert isinstance(found, DictConfig)
    return found


def with_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """``complete`` as nested plain values; what has no default and is not stored is left out."""
    known = set(option_names(TrainConfig))
    filled = complete({key: value for key, value in stored.items() if key in known})
    # Some defaults follow from other keys.
    OmegaConf.resolve(filled)
    found: Any = _without_missing(OmegaConf.to_container(filled))
    # Other commands that train have keys of their own.
    return {**{key: value for key, value in stored.items() if key not in known}, **found}


def _without_missing(values: Any) -> Any:
    """Nested plain values without the keys that are not set."""
    if not isinstance(values, dict):
        return values
    return {key: _without_missing(value) for key, value in values.items() if value != MISSING}


def _in_present_words(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with today's names of the keys that earlier versions named otherwise.

    ``logger.tensorboard`` said which logger is chosen.
    """
    logger = stored.get("logger")
    if not isinstance(logger, Mapping) or "tensorboard" not in logger:
        return dict(stored)
    kept = {key: value for key, value in logger.items() if key != "tensorboard"}
    kind = "tensorboard" if logger["tensorboard"] else "plain"
    return {**stored, "logger": {"kind": kind, **kept}}
