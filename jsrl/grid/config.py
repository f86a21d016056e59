"""The typed schema of ``jsrl grid``: what a file in ``configs/grid`` may say."""

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class PretrainingConfig:
    """The run that trains the guide of a cell, for each seed; no experiment, no guide."""

    # That trains the guides of the cells.
    experiment: str | None = None
    # Of jsrl train, for these runs.
    overrides: list[str] = field(default_factory=list)


@dataclass
class ArmConfig:
    """One way to learn: an experiment with overrides.

    ``guide``: whether it gets the guide that was pre-trained for its cell. ``guide_arm``: the arm
    whose run with the same seeds in the same cell is its guide instead. ``policy``: whose final
    evaluation is the arm's result, ``exploration``, ``combined`` or ``guide``. ``published``: its
    column of the published table, without ``_mean``.
    """

    label: str = MISSING
    experiment: str = MISSING
    overrides: list[str] = field(default_factory=list)
    guide: bool = True
    guide_arm: str | None = None
    start: str | None = None
    policy: str = "exploration"
    published: str | None = None

    @property
    def pretrained(self) -> bool:
        """Whether its guide is the one that was pre-trained for the cell."""
        return self.guide and self.guide_arm is None


@dataclass
class PublishedConfig:
    """The row of the published table that a cell is to be compared with."""

    environment: str = MISSING
    transitions: int = MISSING


@dataclass
class CellConfig:
    """One task and its data, on which several arms are run.

    ``arms``: their names; null for all. ``guide_from``: the cell whose guide is used in place of
    one trained here.
    """

    name: str = MISSING
    overrides: list[str] = field(default_factory=list)
    arms: list[str] | None = None
    guide_from: str | None = None
    published: PublishedConfig | None = None


@dataclass
class ComparisonConfig:
    """Is arm ``first`` better than arm ``second`` in this cell? Null: in each that has both."""

    first: str = MISSING
    second: str = MISSING
    cell: str | None = None
    primary: bool = False


@dataclass
class NeverBehindConfig:
    """The bar for a rule of who acts: in no cell behind the best of its baselines.

    The exploration-policy alone is compared. ``arm`` is held to it in each cell that has it,
    ``over`` and at least one of ``baselines``.
    """

    # The arm that is held to it; null: there is no bar.
    arm: str | None = None
    # Arms, of which in each cell the one with the highest mean counts.
    baselines: list[str] = field(default_factory=list)
    # How far below that one the 95 % interval of the difference may reach, in the measure's unit.
    margin: float = 0.05
    # Where they are compared, as shares of the online steps.
    at: list[float] = field(default_factory=lambda: [0.2, 0.5, 1.0])
    # The arm of fine-tuning, over which it is to improve.
    over: str | None = None
    # The probability of improvement that it is to reach.
    improvement: float = 0.8
    # Where, as a share of the online steps.
    improvement_at: float = 0.5
    # In at least this share of the cells.
    improvement_cells: float = 0.5


@dataclass
class GridConfig:
    """A grid: cells times arms times seeds.

    Overrides are those of ``jsrl train``; of two that set one key the later holds, in the order
    grid, cell, arm or pre-training. ``seeds_per_run`` seeds share a process, along the seed axis.
    """

    # Names its folder.
    name: str = MISSING
    # Of the report.
    title: str = MISSING
    # Of every arm in every cell.
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    # Seeds that share a process.
    seeds_per_run: int = 1
    # Of jsrl train, for every run.
    overrides: list[str] = field(default_factory=list)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    # Ways to learn, by name: see configs/grid.
    arms: dict[str, ArmConfig] = field(default_factory=dict)
    # Tasks and their data: see configs/grid.
    cells: list[CellConfig] = field(default_factory=list)
    # Of two arms each: see configs/grid.
    comparisons: list[ComparisonConfig] = field(default_factory=list)
    never_behind: NeverBehindConfig = field(default_factory=NeverBehindConfig)
    # What is compared: success, return, length or normalized_score.
    measure: str = "success"
    # Lines for the report.
    notes: list[str] = field(default_factory=list)


@dataclass
class GridJobConfig:
    """``jsrl grid grid=NAME``.

    ``workers``: processes at a time; null for one a CPU core. ``cells`` and ``arms``: names of
    those to run; null for all. ``overrides`` come after the grid's own, before a cell's.
    """

    grid: GridConfig = MISSING
    # Processes at a time; null: one for each core.
    workers: int | None = None
    # The folder of the runs.
    runs: str = "runs/grid"
    # A folder for records and report; null: report beside the runs.
    output: str | None = None
    # Names of those to run; null: all.
    cells: list[str] | None = None
    # Names of those to run; null: all.
    arms: list[str] | None = None
    # Of jsrl train, after the grid's own, before a cell's.
    overrides: list[str] = field(default_factory=list)
    # Whether only the report is drawn anew.
    report_only: bool = False
