"""What a grid keeps of a finished run: one small JSON file a seed, enough for the report."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jsrl.core.errors import UserError
from jsrl.core.files import read_json_record, write_whole
from jsrl.grid.plan import MEASURES, POLICIES, Setup, Task
from jsrl.grid.settings import changes, settings_of
from jsrl.loggers.metrics import Record, read_records
from jsrl.report.curves import EXPLORER_SHARE, curve, is_shared

CURVES = {
    "exploration_success": "evaluation/exploration_success",
    "exploration_return": "evaluation/exploration_return",
    "combined_success": "evaluation/combined_success",
    "combined_return": "evaluation/combined_return",
    "guide_steps": "curriculum/guide_steps",
    "stage": "curriculum/stage",
}
"""Columns of a record's learning curve, and the metrics that they come from."""

KEYS = {
    *("cell", "arm", "seed", "experiment", "overrides", "guide_from", "settings", "final"),
    *("curve", "failed", "env_steps", "updates", "wall_seconds", "run_seeds", "versions"),
}


def record_path(output: Path, cell: str, arm: str, seed: int) -> Path:
    """Where the record of a seed lies."""
    return output / "raw" / cell / arm / f"seed{seed}.json"


def is_recorded(output: Path, task: Task) -> bool:
    """Whether there is a record of every seed of a task, made with the same settings.

    Raises:
        UserError: if one was made with other settings, or is not a record.
    """
    found = True
    for seed in task.seeds:
        path = record_path(output, task.setup.cell, task.setup.arm, seed)
        if path.exists():
            _require_same(path, read_record(path), task.setup)
        else:
            found = False
    return found


def is_finished(task: Task) -> bool:
    """Whether the run directory holds the finished run, with the same settings.

    Raises:
        UserError: if it holds another run.
    """
    config = task.directory / "config.yaml"
    if not (task.directory / "summary.json").exists() or not config.exists():
        return False
    summary = json.loads((task.directory / "summary.json").read_text())
    changed = changes(settings_of(yaml.safe_load(config.read_text())), task.setup.settings)
    if tuple(summary["seeds"]) != task.seeds:
        changed.append(f"seeds were {summary['seeds']}, are {list(task.seeds)}")
    if changed:
        raise UserError(
            f"{task.directory} holds a finished run with other settings: {'; '.join(changed)}; "
            "choose another folder by runs=DIR, or delete this one"
        )
    return True


def write_records(output: Path, task: Task) -> list[dict[str, Any]]:
    """Write the record of every seed of a finished run; those that are there already stay.

    Raises:
        UserError: if a file of the run cannot be read, or the output cannot be written.
    """
    summary = json.loads((task.directory / "summary.json").read_text())
    config = yaml.safe_load((task.directory / "config.yaml").read_text())
    metrics = read_records(task.directory / "metrics.jsonl")
    records = []
    for seed in task.seeds:
        path = record_path(output, task.setup.cell, task.setup.arm, seed)
        if not path.exists():
            record = _record(task.setup, seed, summary, settings_of(config), metrics)
            write_whole(path, _json(record).encode())
        records.append(read_record(path))
    return records


def read_record(path: Path) -> dict[str, Any]:
    """A record as it was written.

    Raises:
        UserError: if the file is not a record.
    """
    return read_json_record(path, KEYS, "the record of a run", "the run repeated")


def score(record: Mapping[str, Any], policy: str, measure: str) -> float | None:
    """A final measure of one seed; None where it is undefined, or the seed failed."""
    value: float | None = record["final"][policy][measure]
    return None if record["failed"] else value


def _record(
    setup: Setup,
    seed: int,
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    metrics: Sequence[Record],
) -> dict[str, Any]:
    seeds = summary["seeds"]
    index = seeds.index(seed)
    own = [record for record in metrics if record.seed == seed]
    return {
        "cell": setup.cell,
        "arm": setup.arm,
        "seed": seed,
        "experiment": setup.experiment,
        "overrides": list(setup.overrides),
        "guide_from": setup.guide_from,
        "final": {
            policy: {
                measure: summary["evaluation"][policy][measure]["per_seed"][index]
                for measure in MEASURES
            }
            for policy in POLICIES
        },
        "failed": seed in summary["failed_seeds"],
        "guide_steps": summary["guide_steps"][index],
        # Of a run of several seeds these are sums, the time is that of all of them.
        "env_steps": summary["env_steps"] // len(seeds),
        "updates": summary["updates"] // len(seeds),
        "wall_seconds": round(summary["wall_seconds"], 1),
        "run_seeds": seeds,
        "versions": summary["versions"],
        # What the data were: two files can lie at the same path on different days.
        "dataset": summary.get("dataset"),
        "settings": dict(settings),
        "curve": _curve(own),
        **_shares(own),
        **_evaluation_cost(summary, own, index),
    }


def _curve(metrics: Sequence[Record]) -> dict[str, list[float | None]]:
    """The learning curve of one seed: steps and values ``[T]``, None where there is none."""
    columns = {column: curve([metrics], name) for column, name in CURVES.items()}
    steps = sorted({int(step) for found, _ in columns.values() for step in found})
    table: dict[str, list[float | None]] = {"step": list(steps)}
    for column, (found, values) in columns.items():
        row = values[0] if len(values) else np.array([])
        at = {int(s): float(v) for s, v in zip(found, row, strict=True)}
        finite = [at.get(step, math.nan) for step in steps]
        table[column] = [v if math.isfinite(v) else None for v in finite]
    return table


def _shares(metrics: Sequence[Record]) -> dict[str, Any]:
    """The explorer's share in what was done, of a seed whose guide acted too; else nothing."""
    steps, values = found = curve([metrics], EXPLORER_SHARE)
    if not is_shared(found):
        return {}
    return {
        "shares": {
            "step": [int(step) for step in steps],
            "explorer_share": [round(v, 4) if math.isfinite(v) else None for v in values[0]],
        }
    }


def _evaluation_cost(
    summary: Mapping[str, Any], metrics: Sequence[Record], index: int
) -> dict[str, Any]:
    """What a seed spent on evaluations that steer training; nothing if the run did not count.

    Besides the totals there is what it had spent on decisions up to each evaluation.
    """
    cost = summary.get("evaluation_cost")
    if cost is None:
        return {}
    spent = {
        name: curve([metrics], f"curriculum/decision_{name}") for name in ("episodes", "env_steps")
    }
    return {
        "evaluation_cost": {
            **{
                f"{purpose}_{name}": numbers[name][index]
                for purpose, numbers in cost.items()
                for name in spent
            },
            "step": [int(step) for step in spent["episodes"][0]],
            **{
                name: [int(value) for value in values.reshape(-1)]
                for name, (_, values) in spent.items()
            },
        }
    }


def _require_same(path: Path, record: Mapping[str, Any], setup: Setup) -> None:
    changed = changes(record["settings"], setup.settings)
    if record["guide_from"] != setup.guide_from:
        changed.append(f"guide_from was {record['guide_from']}, is {setup.guide_from}")
    if changed:
        raise UserError(
            f"{path} was made with other settings: {'; '.join(changed)}; use the same settings, "
            "choose other folders by output=DIR and runs=DIR, or delete the file and its run"
        )


def _json(value: Any, indent: str = "") -> str:
    """JSON with a line for each entry of an object; lists stay on one line."""
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value) + ("" if indent else "\n")
    deeper = indent + "  "
    lines = [f"{deeper}{json.dumps(key)}: {_json(item, deeper)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + indent + "}" + ("" if indent else "\n")
