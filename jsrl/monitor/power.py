"""How well a change of inputs is noticed: every fault at several strengths, by every method.

What is found of one fault at one strength is a record, which the report reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jsrl.monitor.baselines import kolmogorov_smirnov, mahalanobis, raw_observations
from jsrl.monitor.detector import DetectorSettings, Sample, compare
from jsrl.monitor.rows import Rows
from jsrl.monitor.watch import Watch, WatchSettings, joined
from jsrl.seeding import Streams, seed_sequence

JOINT, LAYERS = "joint", "joint of layers"
RAW, KS, MAHALANOBIS = "raw observations", "Kolmogorov-Smirnov", "Mahalanobis"
BASELINES = (RAW, KS, MAHALANOBIS)

DYNAMICS_FACTORS = {
    "mass": (1.1, 1.5, 3.0),
    "friction": (0.7, 0.3, 0.0),
    "gear": (0.9, 0.7, 0.5),
}

Forward = Callable[[Rows], dict[str, Tensor]]


@dataclass(frozen=True)
class PowerSettings:
    """Windows of ``window`` episodes, one after another, against ``reference`` ones, at ``level``.

    ``rollouts`` without a fault, each with a reference of its own, tell of false alarms;
    ``sequences`` of at most ``patience`` episodes are watched, until an alarm.
    """

    window: int = 3
    reference: int = 60
    level: float = 0.05
    permutations: int = 999
    rollouts: int = 8
    sequences: int = 6
    patience: int = 10
    watch_permutations: int = 8000


@dataclass(frozen=True)
class Setting:
    """A fault at a strength, and how it is told: in units of the column's standard deviation."""

    kind: str
    columns: tuple[int, ...]
    strength: float
    label: str

    @property
    def name(self) -> str:
        """Of its record."""
        return f"{self.kind}-{self.label}"


def settings_of(
    means: Sequence[float],
    spreads: Sequence[float],
    column: int,
    other: int,
    dynamics: Sequence[str],
) -> list[Setting]:
    """All faults at three strengths, of one column (``swapped``: with another).

    Args:
        means: of every column in clean episodes.
        spreads: standard deviations.
        column: that is concerned.
        other: that it is swapped with.
        dynamics: which of them can be changed.
    """
    mean, spread = means[column], spreads[column]
    one: dict[str, list[tuple[float, str]]] = {
        "stuck": [(mean + k * spread, f"{k}") for k in (0, 1, 3)],
        "biased": [(k * spread, f"{k}") for k in (0.25, 1, 3)],
        "noisy": [(k * spread, f"{k}") for k in (0.25, 1, 3)],
        "dropped": [(p, f"{p}") for p in (0.05, 0.2, 0.5)],
        "delayed": [(float(k), f"{k}") for k in (1, 5, 20)],
        "rescaled": [(f, f"{f}") for f in (0.9, 0.5, 2.0)],
    }
    found = [
        Setting(kind, (column,), strength, label)
        for kind, strengths in one.items()
        for strength, label in strengths
    ]
    found.append(Setting("swapped", (column, other), 0.0, "1"))
    found += [
        Setting(kind, (), factor, f"{factor}")
        for kind in dynamics
        for factor in DYNAMICS_FACTORS[kind]
    ]
    return found


def judge_window(
    reference: Sample, window: Sample, settings: PowerSettings, deepest: str, seed: int
) -> dict[str, float]:
    """p-values of all methods, and of each layer alone, for the same episodes."""

    def generator(name: str) -> torch.Generator:
        state = seed_sequence(seed, "power", name).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))

    detector = DetectorSettings(settings.permutations)
    finding = compare(reference, window, detector, generator(JOINT))
    found = {JOINT: finding.p_value, LAYERS: finding.layers_p_value}
    for layer in finding.layers:
        found[f"layer {layer.layer}"] = layer.p_value
    if finding.finite:
        count = settings.permutations
        found[RAW] = raw_observations(reference, window, count, generator(RAW))
        found[KS] = kolmogorov_smirnov(reference, window)
        found[MAHALANOBIS] = mahalanobis(reference, window, deepest, count, generator(MAHALANOBIS))
    return found


def judge_windows(
    reference: Sequence[Sample], episodes: Sequence[Sample], settings: PowerSettings, deepest: str
) -> list[dict[str, float]]:
    """p-values for one window after another of the episodes."""
    trusted = joined(list(reference[: settings.reference]))
    starts = range(0, len(episodes) - settings.window + 1, settings.window)
    return [
        judge_window(trusted, joined(list(episodes[i : i + settings.window])), settings, deepest, i)
        for i in starts
    ]


def time_to_detection(
    reference: Sequence[Sample], episodes: Sequence[Sample], settings: PowerSettings
) -> list[int | None]:
    """Episodes of each sequence until the alarm of a watch within its bound; None without one."""
    watch_settings = WatchSettings(
        window=settings.window,
        reference=settings.reference,
        detector=DetectorSettings(settings.watch_permutations),
    )
    found: list[int | None] = []
    for number in range(min(settings.sequences, len(episodes) // settings.patience)):
        watch = Watch(watch_settings, Streams([number], ("time to detection",)))
        for sample in reference[: settings.reference]:
            watch.trust(sample)
        first = None
        for i in range(settings.patience):
            check = watch.add(episodes[number * settings.patience + i])
            if check is not None and check.alarm:
                first = i + 1
                break
        found.append(first)
    return found


def as_record(setting: Setting, p_values: list[dict[str, float]], **more: Any) -> dict[str, Any]:
    """A record, with p-values of each method in a row."""
    names = dict.fromkeys(name for entry in p_values for name in entry)
    return {
        **vars(setting),
        "p_values": {name: [entry.get(name) for entry in p_values] for name in names},
        **more,
    }
