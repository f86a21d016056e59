"""``jsrl COMMAND --help``: its groups with their options, and a line for each of its keys."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jsrl.commands.schema_text import meanings
from jsrl.commands.table import Command
from jsrl.settings.kinds import REGISTRIES, registry_of, split_key

WIDTH = 100
COLUMN = 44
LONGEST = 60
"""Characters of a value that are shown."""

RESUMED = ("run", "online.steps", "logger.progress", "logger.interval")
"""What ``jsrl resume`` may be given."""


KINDS = tuple(f"{registry.group}.kind" for registry in REGISTRIES)
"""Set by the option that is chosen."""


def help_text(command: Command, overrides: Sequence[str], configs: Path) -> str:
    """What a command takes.

    Args:
        command: the command.
        overrides: of the command line: values are shown as they are with them.
        configs: where the options of groups are.
    """
    name, schema = command.config, command.load_schema()
    values = _composed(name, schema, overrides, configs)
    title = f"jsrl {command.name} [key=value …]"
    lines = [title, *textwrap.wrap(command.example, WIDTH), ""]
    groups = dict(_groups(name, configs)) if name != "resume" else {"logger": None}
    if groups:
        lines.append("Groups; choose an option by GROUP=OPTION:")
        for group, chosen in groups.items():
            files = {path.stem for path in (configs / group).glob("*.yaml")}
            kinds = registry_of(group.replace("/", "."))
            options = sorted(files if kinds is None else files.union(kinds.names()))
            default = f" (else {chosen})" if chosen not in (None, "???") else ""
            lines += _entry(group.replace("/", "."), f"{', '.join(options)}{default}", 16)
        lines.append("")
    lines.append("Keys, with the values that they have if nothing else is given:")
    for key, meaning in _meanings(schema, values).items():
        if (name == "resume" and key not in RESUMED) or key in KINDS:
            continue
        lines += _entry(f"{key}={_shown(values, key)}", f"{meaning}{_kinds(key)}", COLUMN)
    if any(registry_of(group) is not None for group in groups):
        lines += ["", "Another choice may have other keys: give it with --help to see them."]
    lines += [
        "",
        "??? has to be given. Lists are [1,2], nothing is null; zsh needs quotes around [].",
        "--cfg job shows the configuration, --multirun sweeps over A,B; --hydra-help: Hydra's.",
    ]
    return "\n".join(lines)


def _meanings(schema: type, values: DictConfig, prefix: str = "") -> dict[str, str]:
    """The meaning of each key; in groups with kinds, of those that the chosen kind has."""
    found = {}
    for key, meaning in meanings(schema, prefix).items():
        group, option = split_key(key)
        registry = registry_of(group)
        if registry is None or prefix == f"{group}.":
            found[key] = meaning
            continue
        node = OmegaConf.select(values, group)
        if option == "kind" and not OmegaConf.is_missing(node, "kind"):
            found |= _meanings(registry[str(node.kind)].options, values, f"{group}.")
    return found


def _composed(name: str, schema: Any, overrides: Sequence[str], configs: Path) -> DictConfig:
    """The configuration as it would be; where that is not possible, the schema's own defaults."""
    if name != "resume":
        try:
            with initialize_config_dir(str(configs), version_base="1.3"):
                return compose(name, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException):
            if overrides:
                raise
    found: DictConfig = OmegaConf.structured(schema)
    for entry in fields(schema):
        if isinstance(entry.type, type) and is_dataclass(entry.type):
            found[entry.name] = OmegaConf.structured(entry.type)
    return found


def _groups(name: str, configs: Path) -> Iterator[tuple[str, Any]]:
    """The groups in a command's defaults list, with the option that is chosen there."""
    defaults = yaml.safe_load((configs / f"{name}.yaml").read_text(encoding="utf-8"))["defaults"]
    for entry in defaults:
        if isinstance(entry, dict):
            for group, option in entry.items():
                if not group.startswith("override "):
                    yield group, option


def _kinds(key: str) -> str:
    """Which kinds use a key, where not all do."""
    group, name = split_key(key)
    registry = registry_of(group)
    if registry is None:
        return ""
    using = registry.with_option(name.partition(".")[0])
    able = {kind for kind in registry.names() if kind != "none"}
    return "" if able <= set(using) else f" [{', '.join(using)}]"


def _entry(left: str, text: str, column: int) -> list[str]:
    """A name and its text beside it, or below where the name is too long."""
    wrapped = textwrap.wrap(text, WIDTH - column) or [""]
    if len(left) + 3 > column:
        left_lines = textwrap.wrap(left, WIDTH - 2, break_on_hyphens=False) or [left]
        return [*(f"  {line}" for line in left_lines), *(" " * column + line for line in wrapped)]
    first, *rest = wrapped
    return [f"  {left}".ljust(column) + first, *(" " * column + line for line in rest)]


def _shown(values: DictConfig, key: str) -> str:
    """What a key is now."""
    group, _, name = key.rpartition(".")
    node: Any = OmegaConf.select(values, group) if group else values
    if OmegaConf.is_missing(node, name):
        return "???"
    try:
        return _plain(node[name])
    except OmegaConfBaseException:  # what it follows from is not set
        raw: Any = OmegaConf.to_container(node, resolve=False)
        return _plain(raw[name])


def _plain(value: Any) -> str:
    """A value as it is typed."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=False)
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
