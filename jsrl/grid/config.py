"""The typed schema of ``jsrl grid``: what a file in ``configs/grid`` may say."""

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class PretrainingConfig:
    """The run that trains the guide of a cell, for each seed; no experiment, no guide."""

    experiment: str | None = None
    overrides: list[str] = field(default_factory=list)


@dataclass
class ArmConfig:
    """One way to learn: an experiment with overrides.

    ``guide``: whether it gets the guide that was pre-trained for its cell. ``policy``: whose final
    evaluation is the arm's result, ``exploration``, ``combined`` or ``guide``. ``published``: its
    column of the published table, without ``_mean``.
    """

    label: str = MISSING
    experiment: str = MISSING
    overrides: list[str] = field(default_factory=list)
    guide: bool = True
    start: str | None = None
    policy: str = "exploration"
    published: str | None = None


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
class GridConfig:
    """A grid: cells times arms times seeds.

    Overrides are those of ``jsrl train``; of two that set one key the later holds, in the order
    grid, cell, arm or pre-training. ``seeds_per_run`` seeds share a process, along the seed axis.
    """

    name: str = MISSING
    title: str = MISSING
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    seeds_per_run: int = 1
    overrides: list[str] = field(default_factory=list)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    arms: dict[str, ArmConfig] = field(default_factory=dict)
    cells: list[CellConfig] = field(default_factory=list)
    comparisons: list[ComparisonConfig] = field(default_factory=list)
    measure: str = "success"
    notes: list[str] = field(default_factory=list)


@dataclass
class GridJobConfig:
    """``jsrl grid grid=NAME``.

    ``workers``: processes at a time; null for one a CPU core. ``cells`` and ``arms``: names of
    those to run; null for all. ``overrides`` come after the grid's own, before a cell's.
    """

    grid: GridConfig = MISSING
    workers: int | None = None
    runs: str = "runs/grid"
    output: str | None = None
    cells: list[str] | None = None
    arms: list[str] | None = None
    overrides: list[str] = field(default_factory=list)
    report_only: bool = False
