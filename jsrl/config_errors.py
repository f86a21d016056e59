"""Hydra's and OmegaConf's complaints in one line, with the nearest right name."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ValidationError,
)

from jsrl.config import (
    BenchmarkConfig,
    EvaluateConfig,
    ExportConfig,
    ReportConfig,
)
from jsrl.config import TrainConfig as _TrainConfig
from jsrl.dataset_config import FAMILIES
from jsrl.grid.config import GridJobConfig
from jsrl.monitor.config import DetectionJobConfig, MonitorJobConfig
from jsrl.reproducibility.config import ReproducibilityConfig

SCHEMAS: dict[str, Any] = {
    "config": _TrainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "report": ReportConfig,
    "benchmark": BenchmarkConfig,
    **{f"dataset_{name}": schema for name, schema in FAMILIES.items()},
    "grid": GridJobConfig,
    "monitor": MonitorJobConfig,
    "detection": DetectionJobConfig,
    "reproducibility": ReproducibilityConfig,
}


def explain(error: BaseException, config_name: str) -> str:
    """One line for the user: what was wrong, the value, what was expected.

    Args:
        error: what Hydra or OmegaConf raised.
        config_name: the primary configuration, from which known keys are taken.
    """
    chain = list(_causes(error))
    override = _override(chain)
    for link in chain:
        if isinstance(link, OverrideParseException):
            reason = [*str(link).strip().splitlines(), "not Hydra's grammar"][1]
            return f"{link.override} cannot be read ({reason}); write key=value, lists as [1,2]"
        if isinstance(link, MissingConfigException):
            return _missing_option(link)
        if isinstance(link, ConfigKeyError | ConfigAttributeError):
            key = override.partition("=")[0] or str(link.full_key or link.key)
            return _unknown_key(key, config_name)
        # The innermost of several speaks in OmegaConf's own placeholders.
        if isinstance(link, ValidationError) and "$" not in str(link):
            return f"{override or link.full_key} does not fit: {_first_line(link)}"
    return _first_line(error)


def mistake(config: DictConfig, config_name: str) -> str | None:
    """What is wrong with a composed configuration, if anything.

    A key may have no value, or, added by ``+key=value``, be one that nothing reads.
    """
    for key in sorted(OmegaConf.missing_keys(config)):
        return f"{key} is not set; give {key}=VALUE"
    for key in _keys(config):
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        fields = getattr(OmegaConf.get_type(node), "__dataclass_fields__", None)
        if fields is not None and name not in fields:
            return _unknown_key(key, config_name)
    return None


def _override(chain: Iterable[BaseException]) -> str:
    """The command line's ``key=value``, or its key, that Hydra stumbled over; empty if none."""
    for link in chain:
        found = re.match(r"(?:Error merging override|Could not override) '?([^'\n]+)", str(link))
        if found:
            return found.group(1).rstrip(".")
    return ""


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


def _unknown_key(key: str, config_name: str) -> str:
    known = list(_keys(OmegaConf.structured(SCHEMAS[config_name])))
    return f"{key} is no key of the configuration{_nearest(key, known)}"


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every key that the schema knows, dotted, those of groups included."""
    for key in map(str, config):
        name = f"{prefix}{key}"
        yield name
        kind = OmegaConf.get_type(config, key)
        if OmegaConf.is_missing(config, key):
            kind = config._metadata.object_type.__annotations__.get(key)
            if kind is not None and hasattr(kind, "__dataclass_fields__"):
                yield from _keys(OmegaConf.structured(kind), f"{name}.")
        elif isinstance(config._get_node(key), DictConfig):
            yield from _keys(config[key], f"{name}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
