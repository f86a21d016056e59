"""Records of a grid written by hand, and the grid that they belong to."""

import json
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from jsrl.commands.paths import config_directory
from jsrl.commands.schemas import register
from jsrl.grid.config import GridJobConfig
from jsrl.grid.records import CURVES, record_path

STEPS = (0, 100, 200, 300)


def job(*overrides: str) -> GridJobConfig:
    """The configuration of ``jsrl grid OVERRIDES``."""
    register()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        typed: Any = OmegaConf.to_object(compose("grid", overrides=list(overrides)))
    return typed


def write(
    output: Path, cell: str, arm: str, seed: int, curve: list[float | None], **changes: Any
) -> dict[str, Any]:
    """A record whose exploration-policy went through ``curve``, and ended where that ends."""
    last = curve[-1]
    measures = {"success": last, "return": last, "length": 50.0, "normalized_score": None}
    settings: dict[str, Any] = {
        "env.id": "Maze",
        "start": "cold",
        "online.steps": 300,
        "curriculum.kind": "jsrl" if arm == "jsrl_cold" else "none",
        "curriculum.interval": 50,
        "dataset.kind": "waypoint",
        "offline.updates": 75,
    }
    h = [30.0, 20.0, 10.0, 0.0] if arm == "jsrl_cold" else [0.0] * 4
    columns: dict[str, Any] = dict.fromkeys(CURVES, [None] * len(STEPS))
    columns |= {"step": list(STEPS), "exploration_success": curve, "guide_steps": h}
    record = {
        "cell": cell,
        "arm": arm,
        "seed": seed,
        "experiment": "pointmaze_jsrl",
        "overrides": ["experiment=pointmaze_jsrl", "online.steps=300"],
        "guide_from": None,
        "final": dict.fromkeys(("exploration", "combined", "guide"), measures),
        "failed": False,
        "guide_steps": int(h[-1]),
        "env_steps": 300,
        "updates": 200,
        "wall_seconds": 1800.0,
        "run_seeds": [seed],
        "versions": {"python": "3.12", "jsrl-torch": "0.1.0"},
        "settings": settings | changes.pop("settings", {}),
        "curve": columns,
    } | changes
    path = record_path(output, cell, arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return record
