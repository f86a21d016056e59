"""The kinds of learners, guides, curricula, arbiters and data in the configuration.

The schema of a kind is open while the configuration is composed, so that an experiment may set an
option of its own choice where the command line chooses another kind. ``keep_own`` then leaves out
what the chosen kind does not have; ``settings.kind_options`` refuses what was typed.
"""

import itertools
from collections.abc import Callable
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from jsrl.core.errors import UserError
from jsrl.core.installed import import_installed
from jsrl.core.registry import Registry, nearest, option_names
from jsrl.datasets import datasets
from jsrl.guides import guides
from jsrl.jumpstart.arbiters import arbiters
from jsrl.jumpstart.curricula import curricula
from jsrl.learners import learners
from jsrl.loggers import loggers
from jsrl.monitor.attribution.methods import methods
from jsrl.monitor.studies.attacks import attacks
from jsrl.networks.encoders import encoders

ENTRY_POINTS: dict[str, Registry[Any]] = {
    "jsrl.datasets": datasets,
    "jsrl.learners": learners,
    # Behind the learners, of whose options it is one.
    "jsrl.encoders": encoders,
    "jsrl.guides": guides,
    "jsrl.curricula": curricula,
    "jsrl.arbiters": arbiters,
    "jsrl.loggers": loggers,
    "jsrl.attacks": attacks,
    "jsrl.methods": methods,
}
"""The groups whose options depend on the kind that is chosen, by the name under which an installed
package brings a kind."""

REGISTRIES = tuple(ENTRY_POINTS.values())

for _group in ENTRY_POINTS:
    import_installed(_group)

MOVED = {
    "logger.tensorboard": "choose logger=tensorboard, or logger=plain for metrics.jsonl alone",
}
"""Keys of earlier versions, and what to write instead."""


def registry_of(group: str) -> Registry[Any] | None:
    """The registry of a group; None where the group has one schema for all of its options."""
    return next((registry for registry in REGISTRIES if registry.group == group), None)


def split_key(key: str) -> tuple[str, str]:
    """A dotted key as its group and its option: ``learner.encoder.features`` is of an encoder."""
    groups = [registry.group for registry in REGISTRIES if key.startswith(f"{registry.group}.")]
    group = max(groups, key=len, default=key.partition(".")[0])
    return group, key[len(group) + 1 :]


def choice_override(override: str) -> str:
    """``learner.encoder=drq`` as Hydra has it, which separates the group's name by ``/``."""
    key, equals, value = override.partition("=")
    registry = registry_of(key)
    if registry is None or "." not in key or not equals:
        return override
    return f"{key.replace('.', '/')}={value}"


def open_schema(kind: type) -> DictConfig:
    """The schema of a dataclass. What is a plain dictionary in it takes any key without a ``+``."""
    schema: DictConfig = OmegaConf.structured(kind)
    for key in schema:
        node = schema._get_node(key)
        if isinstance(node, DictConfig) and node._metadata.object_type is dict:
            OmegaConf.set_struct(node, False)
    return schema


def store_schema(
    group: str, name: str, kind: type, make: Callable[[], DictConfig] | None = None
) -> None:
    """Make a schema known to Hydra, if it is not yet.

    In one process there may be many compositions, and schemas take as long to make as all else.

    Args:
        group: of the option, with slashes; "" for a command's own schema.
        name: what a file in ``configs`` has in its defaults.
        kind: the dataclass.
        make: gives the schema; None: ``open_schema`` of the dataclass.
    """
    store = ConfigStore.instance()
    folder = store.repo
    for part in filter(None, group.split("/")):
        folder = folder.get(part, {})
    known = folder.get(f"{name}.yaml")
    if known is None or OmegaConf.get_type(known.node) is not kind:
        node = open_schema(kind) if make is None else make()
        store.store(group=group or None, name=name, node=node, provider="jsrl")


def all_options(group: str) -> list[str]:
    """The dotted keys of all kinds of a group; none where the group has no kinds."""
    registry = registry_of(group)
    if registry is None:
        return []
    kinds = (option_names(registry[name].options) for name in registry.names())
    return [f"{group}.{option}" for option in dict.fromkeys(itertools.chain(*kinds))]


def kind_schema(registry: Registry[Any], name: str) -> DictConfig:
    """The schema of one kind, which takes keys of other kinds too while it is composed."""
    schema = open_schema(registry[name].options)
    schema.kind = name
    OmegaConf.set_struct(schema, False)
    return schema


def keep_own(config: DictConfig) -> dict[str, str]:
    """Leave out of a composed configuration what the chosen kinds do not have.

    Args:
        config: of any command; changed in place.

    Returns:
        For each group of which something was left out, a line that tells what.

    Raises:
        UserError: for a key that no kind of its group has, or a kind that is not the chosen one's.
    """
    lines = {}
    for registry in REGISTRIES:
        node = OmegaConf.select(config, registry.group, default=None)
        if node is None:
            continue
        kind = registry[str(node.kind)]
        if OmegaConf.get_type(node) not in (kind.options, dict):
            raise UserError(
                f"{registry.group}.kind={kind.name} is set by the option that is chosen; write "
                f"{registry.group}={kind.name}"
            )
        own = option_names(kind.options)
        foreign = [str(key) for key in node if key not in own]
        for key in foreign:
            if not registry.with_option(key):
                known = (f"{registry.group}.{name}" for name in own)
                key = f"{registry.group}.{key}"
                if key in MOVED:
                    raise UserError(f"{key} is no key any more: {MOVED[key]}")
                raise UserError(f"{key} is no key of the configuration{nearest(key, known)}")
            with open_dict(node):
                del node[key]
        if foreign:
            lines[registry.group] = (
                f"{registry.group}={kind.name} has no {', '.join(foreign)}, which the experiment "
                "sets for another choice: left out"
            )
    return lines
