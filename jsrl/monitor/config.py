"""The typed schemas of the monitor in a run, of ``jsrl monitor`` and of ``jsrl detection``."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from jsrl.monitor.detectors.margins import STANDARD


@dataclass
class MonitorConfig:
    """What is recorded of the exploration-policy's activations, and how it is tested.

    Steps are environment steps of all environments together. The ``level`` is the probability of
    any false alarm at all in ``horizon`` episodes. See ``jsrl.monitor``.
    """

    # Whether the policy is watched; set by monitor=on and monitor=off.
    enabled: bool = False
    # A regular expression of the layers that are recorded; an encoder's convolutions, which are
    # wide, only where it names them.
    layers: str = r"inputs|.*activation_\d+|outputs"
    # Steps from one that is recorded to the next.
    interval: int = 10
    # Share of the episodes that are recorded, in (0, 1].
    share: float = 1.0
    # Recorded steps that are held in memory, and in one file of the recording.
    chunk_rows: int = 4096
    # Files of the recording that are kept, the newest ones.
    chunks: int = 64
    # Probability of any false alarm in horizon episodes.
    level: float = 0.05
    # Episodes for which the level holds.
    horizon: int = 200
    # Episodes that are tested together, the latest ones.
    window: int = 3
    # Episodes from one test to the next.
    stride: int = 3
    # Episodes in the reference.
    reference: int = 30
    # Episodes of the final policy that are kept as the reference of ``jsrl monitor``.
    trusted: int = 60
    # Permutations that are drawn for the p-value of a test.
    permutations: int = 50_000
    # Recorded steps of an episode that a test uses at most.
    rows_per_episode: int = 32
    # Steps at which a new bin of time in the episode begins.
    time_bins: list[int] = field(default_factory=list)
    # What is compared of single columns of the observation, beside the layers.
    margins: list[str] = field(default_factory=lambda: list(STANDARD))
    # Detectors: names, or {kind: NAME, OPTION: VALUE}; null: those that the network has inputs for.
    detectors: list[Any] | None = None
    # What the network's outputs are: actions, or logits of classes.
    outputs: str = "actions"
    # Seed of the random projections of wide layers.
    projection_seed: int = 0
    # Seconds after which jsrl monitor tests a growing recording again; null: only once.
    every: float | None = None
    # Small tests whose share of rejections is the detection rate of a layer.
    rate_tests: int = 100
    # Samples of each side in such a small test.
    rate_samples: int = 100


@dataclass
class FaultConfig:
    """What is to go wrong in fresh episodes; see ``jsrl.monitor.Fault``."""

    # What goes wrong, such as stuck; null: nothing.
    kind: str | None = None
    # Columns of the observation that fail.
    columns: list[int] = field(default_factory=list)
    # How strong the fault is; its unit depends on the kind.
    strength: float = 0.0
    # Seed of a fault that is random.
    seed: int = 0


@dataclass
class MonitorJobConfig:
    """``jsrl monitor run=DIR``."""

    # The folder of the run.
    run: str = MISSING
    # fresh, trusted (episodes that become the reference), a recording's folder, or an HDF5 file.
    data: str = "fresh"
    # A recording's folder or an HDF5 file; null: the reference that the run left.
    reference: str | None = None
    # One of the run's seeds; null: the first of them.
    seed: int | None = None
    # Phase of a recording; null: all phases.
    phase: str | None = None
    # How many fresh episodes are run.
    episodes: int = 30
    # Environments that run at a time.
    num_envs: int = 10
    # Every number gives fresh episodes other start states.
    key: int = 0
    fault: FaultConfig = field(default_factory=FaultConfig)
    # A folder for the page; null: monitor/audit in the run.
    output: str | None = None
    monitor: MonitorConfig = MISSING


@dataclass
class DetectionJobConfig:
    """``jsrl detection run=DIR``: how well changed inputs of a run's policy are noticed.

    Every fault is tried at several strengths on one column of the observation. See
    ``jsrl.monitor.studies``.
    """

    # The folder of the run.
    run: str = MISSING
    # Column of the observation that fails.
    column: int = MISSING
    # Column that it is swapped with.
    other: int = MISSING
    # One of the run's seeds; null: the first of them.
    seed: int | None = None
    # Which policy of the run is watched: exploration, or guide.
    which: str = "exploration"
    # A regular expression of the layers that are watched.
    layers: str = r"inputs|.*activation_\d+|outputs"
    # Steps from one that is watched to the next.
    interval: int = 5
    # Episodes without a fault, in each roll-out.
    clean: int = 150
    # Episodes with each fault at each strength.
    episodes: int = 60
    # Environments that run at a time.
    num_envs: int = 10
    # Roll-outs without a fault.
    rollouts: int = 8
    # A folder for records and report.
    output: str = MISSING
