"""Under which settings a grid was run: taken from the records, never retyped."""

from collections.abc import Mapping, Sequence
from typing import Any

from jsrl.grid.plan import GUIDE
from jsrl.grid.results import Result

SHARED = (
    *("env.id", "env.max_episode_steps", "dataset.kind", "dataset.path", "dataset.transitions"),
    *("learner.kind", "learner.hidden", "learner.batch_size"),
    *("learner.learning_rate", "learner.discount", "learner.expectile", "learner.temperature"),
)
COLLECTED = ("dataset.collected", "dataset.noise")
PRETRAINING = ("offline.updates",)
ONLINE = (
    *("start", "online.steps", "online.updates_per_step", "online.offline_fraction"),
    *("online.buffer_size", "online.learning_starts", "online.critic_warmup_steps"),
    *("evaluation.interval", "evaluation.episodes", "evaluation.final_episodes"),
    "curriculum.kind",
)
CURRICULUM = (
    *("curriculum.interval", "curriculum.stages", "curriculum.window", "curriculum.tolerance"),
    *("curriculum.initial_guide_steps", "curriculum.initial_episodes", "curriculum.minimum"),
    *("curriculum.metric", "curriculum.decide_on"),
)
WITHOUT_STAGES = ("none", "constant")


def protocol(results: Sequence[Result]) -> dict[str, Any]:
    """What the report says of what was run.

    Returns:
        ``settings``: a line for each, with its values; ``decisions``: how often the curriculum
        decides in a run, None if not equally often in all; ``passed``: what ``jsrl train`` was
        given in each arm.
    """
    runs = [result for result in results if result.records and not result.borrowed]
    guides = [run for run in runs if run.arm == GUIDE]
    arms = [run for run in runs if run.arm != GUIDE]
    staged = [run for run in arms if _settings(run)["curriculum.kind"] not in WITHOUT_STAGES]
    collecting = [run for run in runs if "dataset.collected" in _settings(run)]
    rows = [
        [f"`{key}`", _values(members, key)]
        for members, keys in (
            (runs, SHARED),
            (collecting, COLLECTED),
            (guides, PRETRAINING),
            (arms, ONLINE),
            (staged, CURRICULUM),
        )
        for key in keys
        if any(_settings(member).get(key) is not None for member in members)
    ]
    passed = [{"name": run.name, "overrides": _passed(run)} for run in runs]
    return {
        "settings": rows,
        "decisions": _evaluations_of_the_curriculum(staged),
        "passed": passed,
    }


def _settings(result: Result) -> dict[str, Any]:
    """Those of the first seed; all seeds of an arm have the same."""
    return dict(next(iter(result.records.values()))["settings"])


def _passed(result: Result) -> list[str]:
    return list(next(iter(result.records.values()))["overrides"])


def _values(results: Sequence[Result], key: str) -> str:
    """The value of a setting, or where they differ each value with those that have it."""
    found = {(r.cell, r.arm): _shown(_settings(r).get(key)) for r in results}
    values = list(dict.fromkeys(found.values()))
    if len(values) == 1:
        return values[0]
    parts = []
    for value in values:
        owners = [owner for owner, own in found.items() if own == value]
        others = [owner for owner, own in found.items() if own != value]
        parts.append(f"{value} ({', '.join(_owners(owners, others))})")
    return "; ".join(parts)


def _owners(owners: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]]) -> list[str]:
    """Arms' or cells' names alone where these tell the owners of a value from the others."""
    for part in (1, 0):
        names = list(dict.fromkeys(owner[part] for owner in owners))
        if not set(names) & {other[part] for other in others}:
            return names
    return ["/".join(owner) for owner in owners]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _evaluations_of_the_curriculum(staged: Sequence[Result]) -> str | None:
    """Online steps divided by the interval, where it is one number.

    Curricula that go by training episodes have no interval.
    """
    ratios = {_evaluations(_settings(run)) for run in staged}
    only = ratios.pop() if len(ratios) == 1 else None
    return None if only is None else f"{only:g}"


def _evaluations(settings: Mapping[str, Any]) -> float | None:
    interval = settings.get("curriculum.interval")
    return None if interval is None else float(settings["online.steps"] / interval)
