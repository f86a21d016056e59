"""What a training run records of its policy, and how it is tested."""

from dataclasses import dataclass, field

from jsrl.monitor.detectors.rates import RateSettings
from jsrl.monitor.watch.settings import WatchSettings

TESTED_PHASES = ("guide", "exploration")
"""The phases that are tested while a run trains; they share the level."""


@dataclass(frozen=True)
class TrainingMonitorSettings:
    """What is recorded and how it is tested.

    Args:
        layers: a regular expression of layer names; see ``LayerCapture``.
        interval: the steps from one that is recorded to the next.
        share: the share of the episodes that are recorded.
        chunk_rows: how many steps are held in memory, and in a file.
        chunks: how many files are kept.
        trusted: how many episodes of the final policy are kept as its reference.
        watch: when an alarm is raised.
        rates: the settings of the detection rates.
    """

    layers: str
    interval: int
    share: float
    chunk_rows: int
    chunks: int
    trusted: int
    watch: WatchSettings = field(default_factory=WatchSettings)
    rates: RateSettings = field(default_factory=RateSettings)
