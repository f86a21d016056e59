"""Finished and unfinished runs on the disk: find them, read them, pool their seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from jsrl.core.errors import UserError
from jsrl.loggers.metrics import flatten, read_records

WITHOUT_EFFECT = ("seeds", "run_dir", "device", "threads")
"""Top-level settings in which runs of one experiment may differ and still be pooled."""

NUMBERS = ("env_steps", "updates", "wall_seconds", "updates_per_second", "env_steps_per_second")
MOST_SETTINGS_IN_LABEL = 2


@dataclass(frozen=True)
class Run:
    """A run directory.

    Args:
        directory: where it is, as the user named it.
        settings: ``config.yaml``, flat, without those of ``WITHOUT_EFFECT``.
        experiment: its experiment's name.
        seeds: its seeds ``[S]``.
        summary: ``summary.json``; None if the run is not finished.
        progress: how far an unfinished run has come, in words.
    """

    directory: Path
    settings: Mapping[str, Any]
    experiment: str
    seeds: tuple[int, ...]
    summary: Mapping[str, Any] | None
    progress: str = ""

    def describe(self) -> str:
        """One line for a list of runs."""
        return (
            f"{self.experiment}, seeds {', '.join(map(str, self.seeds))}, {self.progress}"
            f" ({self.directory})"
        )

    @property
    def versions(self) -> dict[str, str]:
        return {str(k): str(v) for k, v in self._summary().get("versions", {}).items()}

    @property
    def failed(self) -> tuple[int, ...]:
        """The seeds that turned non-finite."""
        return tuple(self._summary().get("failed_seeds") or ())

    def number(self, name: str) -> float:
        """One of ``NUMBERS``; NaN where it is null."""
        value = self._summary()[name]
        return math.nan if value is None else float(value)

    def guide_steps(self, seed: int) -> float | None:
        """The number h of guide steps at the end."""
        values = self._summary().get("guide_steps")
        return None if values is None else values[self.seeds.index(seed)]

    def value(self, seed: int, policy: str, measure: str) -> float | None:
        """The final evaluation of one seed; None where it is undefined."""
        entry = (self._summary()["evaluation"].get(policy) or {}).get(measure)
        return None if entry is None else entry["per_seed"][self.seeds.index(seed)]

    def _summary(self) -> Mapping[str, Any]:
        if self.summary is None:
            raise ValueError(f"{self.directory} is not finished")
        return self.summary


@dataclass(frozen=True)
class Experiment:
    """Finished runs that differ in their seeds only.

    Args:
        label: the experiment's name, with what tells it from others of that name.
        runs: its runs.
        differences: the settings, as ``key=value``, in which it differs from others of its name.
    """

    label: str
    runs: tuple[Run, ...]
    differences: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted(seed for run in self.runs for seed in run.seeds))

    @property
    def failed(self) -> frozenset[int]:
        return frozenset(seed for run in self.runs for seed in run.failed)

    @property
    def env_steps(self) -> str:
        """Environment steps of a seed; several numbers where runs differ."""
        return ", ".join(f"{n:.0f}" for n in sorted({run.number("env_steps") for run in self.runs}))

    def run_of(self, seed: int) -> Run:
        return next(run for run in self.runs if seed in run.seeds)

    def value(self, seed: int, policy: str, measure: str) -> float | None:
        """The final evaluation of one seed; None where it is undefined."""
        return self.run_of(seed).value(seed, policy, measure)


def find_runs(directories: Sequence[Path]) -> list[Path]:
    """The run directories among and below ``directories``, each once.

    Raises:
        UserError: if there is no directory given, or one does not exist or holds no run.
    """
    if not directories:
        raise UserError("no run directory given, expected at least one: jsrl report DIR...")
    found: dict[Path, Path] = {}
    for directory in directories:
        if not directory.is_dir():
            raise UserError(
                f"{directory}: no such directory, expected a run directory or one that holds some"
            )
        candidates = [path.parent for path in sorted(directory.rglob("config.yaml"))]
        runs = [path for path in candidates if _is_run(path, directory)]
        if not runs:
            raise UserError(
                f"{directory}: not a run directory and holds none, expected config.yaml"
                " beside metrics.jsonl or summary.json; give what jsrl train wrote as run_dir"
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _is_run(path: Path, below: Path) -> bool:
    """Whether it looks like a run; Hydra keeps a ``config.yaml`` of its own in hidden folders."""
    hidden = any(part.startswith(".") for part in path.relative_to(below).parts)
    marks = ("metrics.jsonl", "summary.json", "checkpoints")
    return not hidden and any((path / mark).exists() for mark in marks)


def load_run(directory: Path) -> Run:
    """Read a run directory.

    Raises:
        UserError: if a file of it is missing or corrupt.
    """
    path = directory / "config.yaml"
    try:
        config = _plain(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}), expected the configuration of"
            " a run; restore the file or leave the run out"
        ) from error
    if (
        not isinstance(config, dict)
        or "experiment" not in config
        or not _are_seeds(config.get("seeds"))
    ):
        raise UserError(
            f"{path}: expected the configuration of a run, with experiment and a list of"
            " seeds; restore the file or leave the run out"
        )
    settings = flatten({str(k): v for k, v in config.items() if k not in WITHOUT_EFFECT})
    experiment, seeds = str(config["experiment"] or "unnamed"), tuple(config["seeds"])
    if not (directory / "summary.json").exists():
        return Run(directory, settings, experiment, seeds, None, _progress(directory))
    summary = _load_summary(directory / "summary.json")
    return Run(directory, settings, experiment, tuple(summary["seeds"]), summary)


def _plain(text: str) -> Any:
    """A configuration as nested plain values.

    A run writes it resolved. So OmegaConf, whose loader takes many times as long as the YAML
    library's own, written in C, is only for what a user put in.
    """
    if "${" in text:
        return OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _progress(directory: Path) -> str:
    path = directory / "metrics.jsonl"
    records = read_records(path) if path.exists() else []
    if not records:
        return "nothing logged yet"
    unit = "updates" if records[-1].phase == "offline" else "environment steps"
    return f"at {records[-1].step} {unit} ({records[-1].phase})"


def _load_summary(path: Path) -> dict[str, Any]:
    """Read ``summary.json`` and check what the report relies on."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}), expected the JSON that a finished run writes;"
            " restore the file or run its command again"
        ) from error
    problem = _problem(summary)
    if problem:
        raise UserError(f"{path}: {problem}; restore the file or run its command again")
    return dict(summary)


def _problem(summary: Any) -> str | None:
    """What is wrong with a summary, in words."""
    if not isinstance(summary, dict):
        return f"is a {type(summary).__name__}, expected an object"
    for key in ("experiment", "seeds", "evaluation", *NUMBERS):
        if key not in summary:
            return f"has no {key!r}, which a finished run writes"
    for key in NUMBERS:
        if not _is_number(summary[key]):
            return f"{key!r} is {summary[key]!r}, expected a number or null"
    if not _are_seeds(summary["seeds"]):
        return f"'seeds' is {summary['seeds']!r}, expected a list of whole numbers"
    if not isinstance(summary.get("versions", {}), dict):
        return f"'versions' is {summary['versions']!r}, expected an object"
    lists = _lists_of_seeds(summary)
    if lists is None:
        return "'evaluation' is not an object of policies, each with its measures"
    for name, values in lists.items():
        seeds = len(summary["seeds"])
        if not isinstance(values, list) or len(values) != seeds or not all(map(_is_number, values)):
            return f"{name} is {values!r}, expected a number or null for each of {seeds} seeds"
    return None


def _lists_of_seeds(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Everything in a summary that must have one entry a seed; None if it is not nested right."""
    lists = {} if summary.get("guide_steps") is None else {"guide_steps": summary["guide_steps"]}
    policies = summary["evaluation"]
    if not isinstance(policies, dict):
        return None
    for policy, measures in policies.items():
        if measures is None:
            continue
        if not isinstance(measures, dict):
            return None
        for measure, entry in measures.items():
            if entry is not None and not isinstance(entry, dict):
                return None
            if entry is not None:
                lists[f"evaluation.{policy}.{measure}.per_seed"] = entry.get("per_seed")
    return lists


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _are_seeds(value: Any) -> bool:
    return isinstance(value, list) and all(type(seed) is int for seed in value)


def pool(runs: Sequence[Run]) -> list[Experiment]:
    """Group finished runs by experiment and settings.

    Raises:
        UserError: if a seed appears twice in a group.
    """
    groups: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        identity = json.dumps(dict(run.settings), sort_keys=True, default=str)
        groups.setdefault(run.experiment, {}).setdefault(identity, []).append(run)
    experiments = []
    for name, variants in groups.items():
        members = list(variants.values())
        for number, group in enumerate(members, start=1):
            _refuse_duplicates(name, group)
            differences = _differences(group[0], [other[0] for other in members])
            label = name
            if 0 < len(differences) <= MOST_SETTINGS_IN_LABEL:
                label = f"{name} ({', '.join(differences)})"
            elif differences:
                label = f"{name} #{number}"
            experiments.append(Experiment(label, tuple(group), differences))
    return experiments


def _differences(run: Run, others: Sequence[Run]) -> tuple[str, ...]:
    keys = sorted({key for other in others for key in other.settings})
    return tuple(
        f"{key}={run.settings.get(key)}"
        for key in keys
        if any(other.settings.get(key) != run.settings.get(key) for other in others)
    )


def _refuse_duplicates(name: str, runs: Sequence[Run]) -> None:
    seen: dict[int, Run] = {}
    for run in runs:
        for seed in run.seeds:
            if seed in seen:
                raise UserError(
                    f"{name}: seed {seed} is in both {seen[seed].directory} and {run.directory},"
                    " expected each seed once; leave one of the two out"
                )
            seen[seed] = run
