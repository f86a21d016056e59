"""From the configuration of a grid to the runs that it consists of, in the order of their start."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jsrl.core.errors import UserError
from jsrl.grid.config import CellConfig, GridConfig, GridJobConfig
from jsrl.grid.names import known, refuse_repeated
from jsrl.grid.never_behind_checks import check_never_behind
from jsrl.grid.published import columns, environments
from jsrl.grid.settings import Settings, compose_settings
from jsrl.settings.arguments import quoted
from jsrl.settings.composition import Compositions

GUIDE = "guide"
"""Stands where an arm's name stands: the run that pre-trains a cell's guide."""

POLICIES = ("exploration", "combined", "guide")
MEASURES = ("success", "return", "length", "normalized_score")

Key = tuple[str, str, tuple[int, ...]]
"""Cell, arm or ``guide``, and seeds: what tells runs of a grid apart."""


@dataclass(frozen=True)
class Setup:
    """What the runs of an arm in a cell have in common; only their seeds differ.

    Args:
        cell: the cell's name.
        arm: the arm's name, or ``guide``.
        experiment: the experiment that is run.
        overrides: what is passed to ``jsrl train``, less seeds and folders.
        guide_cell: the cell whose pre-trained guide is used, if one is.
        policy: whose final evaluation is the result.
        settings: what ``overrides`` compose to.
        guide_arm: the arm of this cell whose runs are the guides, if they are.
    """

    cell: str
    arm: str
    experiment: str
    overrides: tuple[str, ...]
    guide_cell: str | None
    policy: str
    settings: Settings
    guide_arm: str | None = None

    @property
    def name(self) -> str:
        return f"{self.cell}/{self.arm}"

    @property
    def guide_from(self) -> str | None:
        """Where its guide comes from, as records say it: a cell, or a cell and an arm."""
        return self.guide_cell if self.guide_arm is None else f"{self.cell}/{self.guide_arm}"


@dataclass(frozen=True)
class Task:
    """One process: a setup for some seeds.

    Args:
        setup: what is run.
        seeds: S seeds along the seed axis of the run.
        directory: the run directory.
        guide: the run directory that holds its guide.
        needs: the task that has to be finished before.
    """

    setup: Setup
    seeds: tuple[int, ...]
    directory: Path
    guide: Path | None
    needs: Key | None

    @property
    def key(self) -> Key:
        return self.setup.cell, self.setup.arm, self.seeds

    @property
    def name(self) -> str:
        return f"{self.setup.name}/{self.directory.name}"

    @property
    def log(self) -> Path:
        """Where the run's own output goes: beside its folder."""
        return self.directory.with_name(f"{self.directory.name}.log")

    def arguments(self) -> list[str]:
        """What follows ``jsrl train``."""
        folders = [f"run_dir={quoted(str(self.directory))}"]
        if self.guide is not None:
            folders.append(f"guide.path={quoted(str(self.guide))}")
        seeds = f"seeds=[{','.join(map(str, self.seeds))}]"
        return [*self.setup.overrides, "logger.progress=false", seeds, *folders]


def plan(job: GridJobConfig) -> list[Task]:
    """The runs that were asked for and the guides that they need.

    Cell by cell, the guides first and then the arms seed by seed, so that a grid which is stopped
    has about equally many seeds of every arm.

    Raises:
        UserError: if a name is unknown, a value out of range, or ``jsrl train`` would refuse a run.
    """
    check_grid(job)
    grid = job.grid
    setups = {(s.cell, s.arm): s for s in _setups(job)}
    groups = _groups(grid.seeds, grid.seeds_per_run)
    tasks: dict[Key, Task] = {}
    for cell in (c for c in grid.cells if job.cells is None or c.name in job.cells):
        arms = [setups[cell.name, arm] for arm in _arms(job, cell)]
        sources = list(dict.fromkeys(s.guide_cell for s in arms if s.guide_cell is not None))
        guides = [setups[source, GUIDE] for source in sources]
        ordered = [(s, g) for s in guides for g in groups] + [(s, g) for g in groups for s in arms]
        for setup, seeds in ordered:
            task = _task(setup, seeds, Path(job.runs) / grid.name)
            tasks.setdefault(task.key, task)
    return list(tasks.values())


def check_grid(job: GridJobConfig) -> None:
    """Raise UserError for the first name or value in a grid that cannot be meant."""
    grid = job.grid
    cells = [cell.name for cell in grid.cells]
    for where, names in (("grid.name", [grid.name]), ("cells", cells), ("arms", list(grid.arms))):
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise UserError(
                    f"{where}: {name!r} is to name a folder; use letters, digits, '.', '_' and '-'"
                )
    if GUIDE in grid.arms:
        raise UserError(f"grid.arms: {GUIDE!r} is the name of the pre-training; choose another")
    refuse_repeated("grid.cells", cells)
    refuse_repeated("grid.seeds", grid.seeds)
    for key, value in (("grid.seeds_per_run", grid.seeds_per_run), ("workers", job.workers)):
        if value is not None and value < 1:
            raise UserError(f"{key}={value} must be at least 1")
    if not grid.seeds or not cells or not grid.arms:
        raise UserError(f"grid {grid.name!r} needs at least one seed, one cell and one arm")
    known("grid.measure", [grid.measure], MEASURES)
    known("cells", job.cells or [], cells)
    known("arms", job.arms or [], grid.arms)
    for name, arm in grid.arms.items():
        _check_guide_arm(grid, name)
        known(f"grid.arms.{name}.policy", [arm.policy], POLICIES)
        known(f"grid.arms.{name}.published", filter(None, [arm.published]), columns())
    for cell in grid.cells:
        known(f"arms of cell {cell.name}", cell.arms or [], grid.arms)
        known(f"guide_from of cell {cell.name}", filter(None, [cell.guide_from]), cells)
        paper = [cell.published.environment] if cell.published else []
        known(f"published.environment of cell {cell.name}", paper, environments())
    _check_comparisons(grid)
    check_never_behind(grid)


def _check_guide_arm(grid: GridConfig, name: str) -> None:
    source = grid.arms[name].guide_arm
    if source is None:
        return
    where = f"grid.arms.{name}.guide_arm"
    known(where, [source], grid.arms)
    if grid.arms[source].guide_arm is not None:
        raise UserError(
            f"{where}={source} names itself or an arm that has a guide_arm; name one without"
        )


def _check_comparisons(grid: GridConfig) -> None:
    cells = {cell.name: cell for cell in grid.cells}
    for comparison in grid.comparisons:
        if comparison.cell is None:
            known("arm of a comparison", [comparison.first, comparison.second], grid.arms)
            continue
        known("cell of a comparison", [comparison.cell], cells)
        own = cells[comparison.cell].arms
        arms = list(grid.arms) if own is None else own
        where = f"arm of a comparison in cell {comparison.cell}"
        known(where, [comparison.first, comparison.second], arms)


def _setups(job: GridJobConfig) -> list[Setup]:
    """Everything that may have to be run, each composed once."""
    grid = job.grid
    cells = {cell.name: cell for cell in grid.cells}
    found: dict[tuple[str, str], Setup] = {}
    # Cells differ in few choices, and arms repeat in each.
    compositions = Compositions("config")
    for cell in grid.cells:
        if job.cells is not None and cell.name not in job.cells:
            continue
        for name in _arms(job, cell):
            setup = _arm_setup(job, cell, name, compositions)
            found[cell.name, name] = setup
            source = setup.guide_cell
            if source is not None and (source, GUIDE) not in found:
                found[source, GUIDE] = _guide_setup(job, cells[source], compositions)
    return list(found.values())


def _arm_setup(
    job: GridJobConfig, cell: CellConfig, name: str, compositions: Compositions
) -> Setup:
    arm = job.grid.arms[name]
    overrides = [
        f"experiment={arm.experiment}",
        *job.grid.overrides,
        *job.overrides,
        *cell.overrides,
        *(["guide=run", "guide.which=guide"] if arm.pretrained else []),
        *(["guide=run"] if arm.guide_arm else []),
        *arm.overrides,
        *([] if arm.start is None else [f"start={arm.start}"]),
    ]
    return Setup(
        cell.name,
        name,
        arm.experiment,
        tuple(overrides),
        (cell.guide_from or cell.name) if arm.pretrained else None,
        arm.policy,
        compose_settings(
            f"grid.arms.{name} in cell {cell.name}", overrides, arm.overrides, compositions
        ),
        arm.guide_arm,
    )


def _guide_setup(job: GridJobConfig, cell: CellConfig, compositions: Compositions) -> Setup:
    pretraining = job.grid.pretraining
    if pretraining.experiment is None:
        raise UserError(
            "grid.pretraining.experiment is not set, but arms take a pre-trained guide; name the "
            "experiment that trains it, or set guide: false in these arms"
        )
    overrides = [
        f"experiment={pretraining.experiment}",
        *job.grid.overrides,
        *job.overrides,
        *cell.overrides,
        *pretraining.overrides,
        "online.steps=0",
    ]
    settings = compose_settings(
        f"grid.pretraining in cell {cell.name}", overrides, pretraining.overrides, compositions
    )
    if settings["guide.kind"] != "offline":
        raise UserError(
            f"grid.pretraining.experiment={pretraining.experiment} has "
            f"guide={settings['guide.kind']}, which trains none; choose one with guide=offline"
        )
    return Setup(cell.name, GUIDE, pretraining.experiment, tuple(overrides), None, GUIDE, settings)


def _task(setup: Setup, seeds: tuple[int, ...], base: Path) -> Task:
    folder = _folder(seeds)
    directory = base / setup.cell / setup.arm / folder
    if setup.guide_arm is not None:
        cell, arm = setup.cell, setup.guide_arm
    elif setup.guide_cell is not None:
        cell, arm = setup.guide_cell, GUIDE
    else:
        return Task(setup, seeds, directory, None, None)
    return Task(setup, seeds, directory, base / cell / arm / folder, (cell, arm, seeds))


def _folder(seeds: tuple[int, ...]) -> str:
    """A run's folder: ``seed3``, ``seeds0-4`` or, where some are left out, ``seeds0_2_5``."""
    if len(seeds) == 1:
        return f"seed{seeds[0]}"
    if seeds == tuple(range(seeds[0], seeds[-1] + 1)):
        return f"seeds{seeds[0]}-{seeds[-1]}"
    return f"seeds{'_'.join(map(str, seeds))}"


def _arms(job: GridJobConfig, cell: CellConfig) -> list[str]:
    """The arms of a cell that were asked for and those they need, in the order of the grid."""
    here = [name for name in job.grid.arms if cell.arms is None or name in cell.arms]
    asked = [name for name in here if job.arms is None or name in job.arms]
    needed = [job.grid.arms[name].guide_arm for name in asked]
    return [name for name in job.grid.arms if name in asked or name in needed]


def _groups(seeds: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(seeds[start : start + size]) for start in range(0, len(seeds), size)]
