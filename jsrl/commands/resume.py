"""``jsrl resume run=DIR``: go on with a run by the configuration that its folder holds."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jsrl.commands.paths import expand_home
from jsrl.core.errors import UserError
from jsrl.core.registry import option_names
from jsrl.loggers import loggers
from jsrl.run.directory import MAY_CHANGE, differences
from jsrl.run.origin import command_folder, let_import_from
from jsrl.run.stored_config import complete, with_defaults
from jsrl.settings.arguments import MULTIRUN, quoted
from jsrl.settings.schema import ResumeConfig, TrainConfig

STORED = "stored_run"
"""The name under which Hydra finds the configuration of the run."""


def prepare(options: Sequence[str], overrides: Sequence[str], configs: Path) -> list[str]:
    """Make a run's configuration known to Hydra, and enter the folder of its command.

    Args:
        options: Hydra's options on the command line.
        overrides: Hydra's overrides on the command line.
        configs: where the options of groups are.

    Returns:
        The overrides that Hydra is to apply to the stored configuration.

    Raises:
        UserError: if there is no such run, or an override is none that a run may be resumed with.
    """
    if MULTIRUN & set(options):
        raise UserError(
            "jsrl resume goes on with one run; to go on with a sweep, give its own command again "
            "with the same run_dir"
        )
    named = [o.partition("=")[2] for o in overrides if o.startswith("run=")]
    if not named:
        raise UserError("run is not set; give run=DIR, the folder of the run to go on with")
    run = Path(expand_home(_unquoted(named[-1]), "run")).resolve()
    stored = read_stored(run)
    folder = command_folder(run, stored)
    os.chdir(folder)
    let_import_from(folder)
    stored["logger"] = _logger(stored["logger"], overrides)
    ConfigStore.instance().store(name=STORED, node=_typed(stored), provider="jsrl")
    found = [o for o in overrides if not o.startswith("run=")]
    return [*_without_groups(found, configs), f"run={quoted(str(run))}"]


def read_stored(run: Path) -> dict[str, Any]:
    """The configuration of a run, complete: keys of later versions have their default.

    Raises:
        UserError: if the folder is no run's, or its configuration is of another version.
    """
    file = run / "config.yaml"
    if not file.is_file():
        raise UserError(f"run={str(run)!r} is no run directory: {_what_is_there(run)}")
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{file} cannot be read: {str(error).splitlines()[0]}; restore the file"
        ) from error
    if not isinstance(stored, dict) or "seeds" not in stored:
        raise UserError(f"{file} is no configuration of a run; choose the folder of a run")
    try:
        OmegaConf.to_object(complete(stored))
        return with_defaults(stored)
    except OmegaConfBaseException as error:
        key = error.full_key or "a key"
        raise UserError(
            f"{file}: {key} is not as this version of jsrl has it "
            f"({str(error).splitlines()[0]}); resume the run with the version that wrote it, which "
            "its summary.json or the package's history names"
        ) from error


def check_changes(run: Path, resolved: Mapping[str, Any]) -> None:
    """See that nothing is changed that may not.

    Raises:
        UserError: key by key, with both values.
    """
    changed = differences(read_stored(run), resolved)
    if changed:
        raise UserError(
            f"run={str(run)!r} cannot be resumed with another configuration: {'; '.join(changed)}; "
            f"leave that out ({MAY_CHANGE}), or begin a new run by jsrl train"
        )


def training_of(config: ResumeConfig) -> TrainConfig:
    """What ``jsrl train`` would be given."""
    return TrainConfig(**{f.name: getattr(config, f.name) for f in fields(TrainConfig)})


def _typed(stored: Mapping[str, Any]) -> DictConfig:
    """What is stored, whose groups are of the schema of their kinds."""
    typed = complete(stored)
    return OmegaConf.create({str(key): typed._get_node(key) for key in typed})


def _what_is_there(run: Path) -> str:
    if not run.exists():
        return "it does not exist"
    if not run.is_dir():
        return "it is a file; name the folder of the run"
    inside = sorted(path.parent.name for path in run.glob("*/config.yaml"))
    near = (
        f", but its folder {inside[0]} has one: jsrl resume goes on with one run" if inside else ""
    )
    return f"it has no config.yaml{near}"


def _without_groups(overrides: Sequence[str], configs: Path) -> list[str]:
    """Overrides of single keys: which logger is chosen is known already.

    Raises:
        UserError: if another group is chosen anew.
    """
    groups = {path.name for path in configs.iterdir() if path.is_dir()}
    found = []
    for override in overrides:
        key = override.partition("=")[0]
        if key == "logger":
            continue
        if key in groups:
            raise UserError(
                f"{override} chooses another {key}, which a run cannot be resumed with "
                f"({MAY_CHANGE}); begin a new run by jsrl train"
            )
        elif key == "run_dir":
            raise UserError("run_dir is not changed by jsrl resume: the run stays where run=DIR is")
        else:
            found.append(override)
    return found


def _logger(stored: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The run's logger, or another one that is chosen, which keeps the options that all have.

    Raises:
        UserError: if there is no such logger.
    """
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("logger=")]
    if not chosen or chosen[-1] == stored["kind"]:
        return dict(stored)
    shared = {name: stored[name] for name in option_names(loggers.base)}
    return shared | {"kind": loggers[chosen[-1]].name}


def _unquoted(value: str) -> str:
    """What Hydra's grammar makes of a value.

    Raises:
        UserError: if it is none.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    from jsrl.settings.mistakes import explain

    try:
        parsed = OverridesParser.create().parse_override(f"run={value}").value()
    except OverrideParseException as error:
        raise UserError(explain(error, "resume")) from error
    return str(parsed)
