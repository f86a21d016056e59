"""The kinds of learners, guides, curricula and data in the configuration.

The schema of a kind is open while the configuration is composed, so that an experiment may set an
option of its own choice where the command line chooses another kind. ``keep_own`` then leaves out
what the chosen kind does not have; ``settings.kind_options`` refuses what was typed.
"""

import itertools
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from jsrl.core.errors import UserError
from jsrl.core.installed import import_installed
from jsrl.core.registry import Registry, nearest, option_names
from jsrl.datasets import datasets
from jsrl.guides import guides
from jsrl.jumpstart.curricula import curricula
from jsrl.learners import learners
from jsrl.loggers import loggers

ENTRY_POINTS: dict[str, Registry[Any]] = {
    "jsrl.datasets": datasets,
    "jsrl.learners": learners,
    "jsrl.guides": guides,
    "jsrl.curricula": curricula,
    "jsrl.loggers": loggers,
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


def open_schema(kind: type) -> DictConfig:
    """The schema of a dataclass. What is a plain dictionary in it takes any key without a ``+``."""
    schema: DictConfig = OmegaConf.structured(kind)
    for key in schema:
        node = schema._get_node(key)
        if isinstance(node, DictConfig) and node._metadata.object_type is dict:
            OmegaConf.set_struct(node, False)
    return schema


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
        node = config.get(registry.group)
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
