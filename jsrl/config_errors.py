"""Hydra's and OmegaConf's complaints in one line, with the nearest right name."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from jsrl.config import BenchmarkConfig, CollectConfig, EvaluateConfig, ExportConfig, ReportConfig
from jsrl.config import TrainConfig as _TrainConfig

SCHEMAS: dict[str, Any] = {
    "config": _TrainConfig,
    "evaluate": EvaluateConfig,
    "dataset": CollectConfig,
    "export": ExportConfig,
    "report": ReportConfig,
    "benchmark": BenchmarkConfig,
}


def explain(error: BaseException, config_name: str) -> str:
    """One line for the user: what was wrong, the value, what was expected.

    Args:
        error: what Hydra or OmegaConf raised.
        config_name: the primary configuration, from which known keys are taken.
    """
    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, MissingConfigException):
            return _missing_option(link)
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            return _unknown_key(link, config_name)
        if isinstance(link, MissingMandatoryValue):
            key = link.full_key or "a key"
            return f"{key} is not set; give {key}=VALUE"
        if isinstance(link, ValidationError):
            return f"{link.full_key}: {_first_line(link)}"
    return _first_line(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The innermost cause first: it knows the key."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        links.append(link)
        link = link.__cause__ or link.__context__
    yield from reversed(links)


def _missing_option(error: MissingConfigException) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, name = missing.rpartition("/")
    options = [option for option in error.options or [] if not option.endswith("schema")]
    if not group or not options:
        return _first_line(error)
    return f"{group}={name} is unknown{_nearest(name, options)}; there are {', '.join(options)}"


def _unknown_key(error: OmegaConfBaseException, config_name: str) -> str:
    key = str(error.full_key or error.key)
    known = list(_keys(OmegaConf.structured(SCHEMAS[config_name])))
    return f"{key} is no key of the configuration{_nearest(key, known)}"


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every key that the schema knows, dotted, those of groups included."""
    for key in config:
        name = f"{prefix}{key}"
        yield name
        kind = OmegaConf.get_type(config, str(key))
        if OmegaConf.is_missing(config, key):
            kind = config._metadata.object_type.__annotations__.get(str(key))
            if kind is not None and hasattr(kind, "__dataclass_fields__"):
                yield from _keys(OmegaConf.structured(kind), f"{name}.")
        elif isinstance(config._get_node(key), DictConfig):
            yield from _keys(config[key], f"{name}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
