"""How well a change of inputs is noticed: every fault at several strengths, by every method.

What is found about one fault at one strength is a record, which the report reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jsrl.core.streams import Streams, seed_sequence
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.capture.steps import WatchedSteps
from jsrl.monitor.detectors.detector import compare
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.studies.baselines import kolmogorov_smirnov, mahalanobis, raw_observations
from jsrl.monitor.watch.episode_watch import Watch
from jsrl.monitor.watch.settings import WatchSettings

JOINT, LAYERS = "joint", "joint of layers"
RAW, KS, MAHALANOBIS = "raw observations", "Kolmogorov-Smirnov", "Mahalanobis"
BASELINES = (RAW, KS, MAHALANOBIS)

DYNAMICS_FACTORS = {
    "mass": (1.1, 1.5, 3.0),
    "friction": (0.7, 0.3, 0.0),
    "gear": (0.9, 0.7, 0.5),
}

Forward = Callable[[WatchedSteps], dict[str, Tensor]]


@dataclass(frozen=True)
class PowerSettings:
    """How much is tested of each fault.

    Args:
        window: how many episodes are tested together, one window after another.
        reference: how many episodes they are compared with.
        level: the level of each test.
        permutations: how many splits each test draws.
        rollouts: how many roll-outs without a fault, each with a reference of its own, show the
            false alarms.
        sequences: how many sequences of episodes are watched until an alarm.
        patience: how many episodes each sequence has at most.
        watch_permutations: how many splits each test of a watch draws.
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
class FaultSetting:
    """A fault at a strength, whose label may be in units of the column's standard deviation."""

    kind: str
    columns: tuple[int, ...]
    strength: float
    label: str

    @property
    def name(self) -> str:
        """The name of its record."""
        return f"{self.kind}-{self.label}"


def fault_settings(
    means: Sequence[float],
    spreads: Sequence[float],
    column: int,
    other: int,
    dynamics: Sequence[str],
) -> list[FaultSetting]:
    """All faults at several strengths, of one column or of the dynamics.

    Args:
        means: the mean of every column in clean episodes.
        spreads: the standard deviation of every column in clean episodes.
        column: the column that fails.
        other: the column that it is swapped with.
        dynamics: the changes of dynamics that are possible.
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
        FaultSetting(kind, (column,), strength, label)
        for kind, strengths in one.items()
        for strength, label in strengths
    ]
    found.append(FaultSetting("swapped", (column, other), 0.0, "1"))
    found += [
        FaultSetting(kind, (), factor, f"{factor}")
        for kind in dynamics
        for factor in DYNAMICS_FACTORS[kind]
    ]
    return found


def p_values_of_window(
    reference: Sample, window: Sample, settings: PowerSettings, deepest: str, seed: int
) -> dict[str, float]:
    """The p-values of all methods, and of each layer alone, for the same episodes."""

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


def p_values_of_windows(
    reference: Sequence[Sample], episodes: Sequence[Sample], settings: PowerSettings, deepest: str
) -> list[dict[str, float]]:
    """The p-values of one window of episodes after another."""
    trusted = Sample.concatenate(reference[: settings.reference], renumber=True)
    starts = range(0, len(episodes) - settings.window + 1, settings.window)
    windows = [
        Sample.concatenate(episodes[start : start + settings.window], renumber=True)
        for start in starts
    ]
    return [
        p_values_of_window(trusted, window, settings, deepest, start)
        for start, window in zip(starts, windows, strict=True)
    ]


def time_to_detection(
    reference: Sequence[Sample], episodes: Sequence[Sample], settings: PowerSettings
) -> list[int | None]:
    """How many episodes of each sequence pass until a watch raises an alarm; None without one."""
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


def as_record(
    setting: FaultSetting, p_values: list[dict[str, float]], **more: Any
) -> dict[str, Any]:
    """A record of a fault, with the p-values of each method, one for each window."""
    names = dict.fromkeys(name for entry in p_values for name in entry)
    return {
        **vars(setting),
        "p_values": {name: [entry.get(name) for entry in p_values] for name in names},
        **more,
    }
