"""Many configurations of one command, of which those with the same choices are composed once.

Hydra merges some thirty files and schemas for each composition. Which ones follows from the choices
of groups alone; the values of single keys are set on the result. So a composition can be kept, and
only the values be set on a copy of it. ``remember`` makes Hydra's own compositions faster.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class _SharedSchemas(dict[str, Any]):
    """What is registered with Hydra; a copy of it is the same.

    Hydra copies its sources for each composition, and all schemas with them, although it copies
    those that it loads once more.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "_SharedSchemas":
        return self


def remember() -> None:
    """Let Hydra neither copy all schemas nor parse a file again for each composition."""
    store = ConfigStore.instance()
    if not isinstance(store.repo, _SharedSchemas):
        store.repo = _SharedSchemas(store.repo)
    _remember_files()


def _remember_files() -> None:
    """Have Hydra read configuration files by a source that parses each once, while it is the same.

    Hydra takes sources of users for schemes that it does not have itself, so that its own is
    replaced where it is kept. A Hydra that has it elsewhere does without.
    """
    try:
        from hydra._internal.core_plugins.file_config_source import FileConfigSource
        from hydra._internal.sources_registry import SourcesRegistry
        from hydra.core.plugins import Plugins
    except ImportError:
        return
    # Sources are registered when the plug-ins are found.
    Plugins.instance()
    known: dict[tuple[Any, ...], Any] = {}

    class RememberedFiles(FileConfigSource):
        def load_config(self, config_path: str) -> Any:
            path = Path(self.path, self._normalize_file_name(config_path))
            if not path.is_file():
                return super().load_config(config_path)
            told = path.stat()
            key = (str(path), self.provider, told.st_mtime_ns, told.st_size, told.st_ino)
            if key not in known:
                known[key] = super().load_config(config_path)
            return copy.deepcopy(known[key])

    types = SourcesRegistry.instance().types
    if types.get("file") is FileConfigSource:
        types["file"] = RememberedFiles


class Compositions:
    """``hydra.compose`` of one command, faster where choices repeat, with the same results.

    It is for as long as neither files nor registered schemas change.

    Args:
        name: of the primary configuration.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration with these overrides. Hydra has to be initialised.

        Raises:
            HydraException: as ``hydra.compose`` does.
            OmegaConfBaseException: as ``hydra.compose`` does.
        """
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = [override for override in parsed if _is_value(override)]
        others = [override for override in parsed if not _is_value(override)]
        if any(_reaches_into_keys(override) for override in others):
            return compose(self._name, overrides=list(overrides))
        choices = tuple(str(override.input_line) for override in others)
        if choices not in self._known:
            self._known[choices] = compose(self._name, overrides=list(choices))
        config = OmegaConf.create(self._known[choices])
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            # Hydra says it in words of its own, which are explained elsewhere.
            return compose(self._name, overrides=list(overrides))
        return config


def _is_value(override: Override) -> bool:
    """Whether it sets a dotted key that exists. Groups have no dots in their names."""
    key = override.key_or_group
    return (
        override.type is OverrideType.CHANGE
        and override.package is None
        and not override.is_sweep_override()
        and not override.is_hydra_override()
        and "." in key
        and "/" not in key
    )


def _reaches_into_keys(override: Override) -> bool:
    """Whether it may set what a dotted key sets too, so that their order counts."""
    value: Any = None if override.is_sweep_override() else override.value()
    return override.type is not OverrideType.CHANGE or isinstance(value, dict)
