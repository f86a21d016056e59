"""Hydra's and OmegaConf's complaints in one line, with the nearest right name."""

import contextlib
import difflib
import re
import shlex
from collections.abc import Iterable, Iterator

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ValidationError,
)

from jsrl.core.errors import UserError
from jsrl.settings.kinds import MOVED, REGISTRIES, all_options, registry_of, split_key


def explain(error: BaseException, config_name: str) -> str:
    """One line for the user: what was wrong, the value, what was expected.

    Args:
        error: what Hydra or OmegaConf raised.
        config_name: the primary configuration, from which known keys are taken.
    """
    chain = list(_causes(error))
    override = _override(chain)
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OverrideParseException):
            return _unreadable(link)
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
    unread = next(_unread(config), None)
    return None if unread is None else _unknown_key(unread, config_name)


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


def _unreadable(error: OverrideParseException) -> str:
    """An override that is not of Hydra's grammar: with quotes, if these are what it lacks."""
    override = str(error.override)
    key, separator, value = override.partition("=")
    if separator and not set(value) & set("[]{}()'\"\\"):
        suggested = f'{key}="{value}"'
        with contextlib.suppress(OverrideParseException):
            OverridesParser.create().parse_override(suggested)
            odd = sorted(set(re.sub(r"[\w\s/.:+%$*@?|,-]", "", value, flags=re.ASCII)))
            which = "".join(odd) or value
            return (
                f"{override} cannot be read: {which} needs Hydra's own quotes inside of those of "
                f"the shell; write {shlex.quote(suggested)}"
            )
    reasons = [line for line in str(error).strip().splitlines()[1:] if line.strip(" ^~")]
    reason = [*reasons, "not Hydra's grammar"][0]
    return f"{override} cannot be read ({reason}); write key=value, lists as [1,2]"


def _missing_option(error: MissingConfigException) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, name = missing.rpartition("/")
    options = [option for option in error.options or [] if not option.endswith("schema")]
    if not group or not options:
        return _first_line(error)
    group = group.replace("/", ".")
    return f"{group}={name} is unknown{_nearest(name, options)}; there are {', '.join(options)}"


def _unknown_key(key: str, config_name: str) -> str:
    if key in MOVED:
        return f"{key} is no key any more: {MOVED[key]}"
    group, option = split_key(key)
    registry = registry_of(group)
    others = () if registry is None else registry.with_option(option)
    if others:
        return (
            f"{key} is not used with the {group} that is chosen, but with "
            f"{group}={' or '.join(others)}: leave {key} out, or choose what uses it"
        )
    schema = schema_of(config_name)
    known = [*_keys(schema), *(o for kinds in REGISTRIES for o in all_options(kinds.group))]
    return f"{key} is no key of the configuration{_nearest(key, known)}"


def schema_of(config_name: str) -> DictConfig:
    """The typed schema from which a primary configuration starts, as it was registered."""
    name = "train" if config_name == "config" else config_name
    found: DictConfig = ConfigStore.instance().load(f"{name}_schema.yaml").node
    return found


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


def _unread(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted key in a dataclass of the configuration that is none of its fields."""
    fields = getattr(OmegaConf.get_type(config), "__dataclass_fields__", None)
    for key in map(str, config):
        if fields is not None and key not in fields:
            yield f"{prefix}{key}"
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not OmegaConf.is_missing(config, key):
            yield from _unread(config[key], f"{prefix}{key}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
