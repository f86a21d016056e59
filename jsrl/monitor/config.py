"""The typed schema of the monitor: in a run, of ``jsrl monitor`` and of ``jsrl detection``."""

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class MonitorConfig:
    """What is recorded of the exploration-policy's activations, and how it is tested.

    ``layers`` is a regular expression of layer names, ``interval`` in steps, ``share`` of the
    episodes; ``level`` is for any false alarm in ``horizon`` episodes. See ``jsrl.monitor``.
    """

    enabled: bool = False
    layers: str = r"inputs|.*activation_\d+|outputs"
    interval: int = 10
    share: float = 1.0
    # Of the recording: rows of a file and in memory, and how many files are kept.
    chunk_rows: int = 4096
    chunks: int = 64
    level: float = 0.05
    horizon: int = 200
    # Episodes: tested together; from one test to the next; in the reference.
    window: int = 3
    stride: int = 3
    reference: int = 30
    # Episodes of the final policy that are kept as the reference of ``jsrl monitor``.
    trusted: int = 60
    permutations: int = 50_000
    rows_per_episode: int = 32
    # Steps at which a new bin of time in the episode begins.
    time_bins: list[int] = field(default_factory=list)
    # jsrl monitor: seconds after which a growing recording is looked at again; null: once.
    every: float | None = None
    # Of the detection rates: tests, and samples of each side in each.
    rate_tests: int = 100
    rate_samples: int = 100


@dataclass
class FaultConfig:
    """What is to go wrong in fresh episodes; see ``monitor.faults.Fault``; null: nothing."""

    kind: str | None = None
    columns: list[int] = field(default_factory=list)
    strength: float = 0.0
    seed: int = 0


@dataclass
class MonitorJobConfig:
    """``jsrl monitor run=DIR``."""

    run: str = MISSING
    # ``fresh`` episodes, ``trusted`` ones to be the reference, a recording's folder, an HDF5 file.
    data: str = "fresh"
    # Null is what the run left; or a recording, or an HDF5 file.
    reference: str | None = None
    # One of the run's seeds; null is its first.
    seed: int | None = None
    # Of a recording; null is every one.
    phase: str | None = None
    # Fresh episodes: how many, at a time, and which start states.
    episodes: int = 30
    num_envs: int = 10
    key: int = 0
    fault: FaultConfig = field(default_factory=FaultConfig)
    output: str | None = None
    monitor: MonitorConfig = MISSING


@dataclass
class DetectionJobConfig:
    """``jsrl detection run=DIR``: how well changed inputs of a run's policy are noticed.

    ``column`` of the observation is the sensor that fails, ``other`` the one it is swapped with.
    ``clean`` and ``episodes`` are how many without, and with, each fault at each strength.
    """

    run: str = MISSING
    column: int = MISSING
    other: int = MISSING
    seed: int | None = None
    # The run's policy: its exploration-policy, or its own guide.
    which: str = "exploration"
    layers: str = r"inputs|.*activation_\d+|outputs"
    interval: int = 5
    clean: int = 150
    episodes: int = 60
    num_envs: int = 10
    # Without a fault, of ``clean`` episodes each.
    rollouts: int = 8
    output: str = MISSING
