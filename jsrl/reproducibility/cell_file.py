"""What is kept of a cell, an activation at a level of nondeterminism: one JSON file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.files import read_json_record, write_whole
from jsrl.run.directory import Complete, differences

RECORD = "reproducibility.json"
KEYS = {
    *("cell", "task", "activation", "layer_norm", "level", "replicas", "failed", "settings"),
    *("differences", "scores", "versions", "wall_seconds"),
}


def read_cell(path: Path) -> dict[str, Any]:
    """A record as it was written.

    Raises:
        UserError: if the file is not a record.
    """
    return read_json_record(path, KEYS, "the record of a cell", "the cell measured again")


def finished_cell(folder: Path, settings: Mapping[str, Any], complete: Complete) -> bool:
    """Whether the folder holds this cell's record.

    Args:
        folder: of the cell.
        settings: of the cell that is asked for.
        complete: gives what an earlier version wrote the keys that it did not know.

    Raises:
        UserError: if it holds that of another.
    """
    path = folder / RECORD
    if not path.exists():
        return False
    changed = differences(complete(read_cell(path)["settings"]), settings)
    if changed:
        raise UserError(
            f"{path} is of other settings: {'; '.join(changed)}; use the same, or another run_dir"
        )
    return True


def write_cell(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record: the cell is finished."""
    text = json.dumps(_plain(record), indent=1, ensure_ascii=False)
    write_whole(folder / RECORD, f"{text}\n".encode())


def _plain(value: Any) -> Any:
    """Plain values: arrays as lists, numbers with seven digits, which is what they are good for."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return value
