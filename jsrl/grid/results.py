"""The records of a grid, gathered by cell and arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jsrl.core.errors import UserError
from jsrl.grid.config import CellConfig, GridConfig
from jsrl.grid.names import MEASURED_ON_THE_WAY
from jsrl.grid.plan import GUIDE
from jsrl.grid.published import Published, published
from jsrl.grid.records import read_record, record_path, score
from jsrl.grid.settings import changes

Curves = tuple[np.ndarray, np.ndarray]
"""Environment steps ``[T]``, and a value for each seed ``[S, T]``, NaN where there is none."""


@dataclass(frozen=True)
class Result:
    """An arm in a cell, or the cell's guide, over its seeds.

    Args:
        cell: the cell's name.
        arm: the arm's name, or ``guide``.
        label: what readers see.
        policy: whose final evaluation counts.
        seeds: the seeds that the grid asks for.
        records: those that are there, by seed.
        published: what the paper reports of it.
        borrowed: it has no runs of its own here: a guide from another cell, which is known by its
            evaluations in the arms' runs.
    """

    cell: str
    arm: str
    label: str
    policy: str
    seeds: tuple[int, ...]
    records: Mapping[int, Mapping[str, Any]]
    published: Published | None
    borrowed: bool = False

    @property
    def name(self) -> str:
        return f"{self.cell}/{self.arm}"

    @property
    def missing(self) -> list[int]:
        return [seed for seed in self.seeds if seed not in self.records]

    @property
    def failed(self) -> list[int]:
        return [seed for seed, record in self.records.items() if record["failed"]]

    def values(self, measure: str) -> list[float | None]:
        """The final measure of every seed that is there; None where it has none, or failed."""
        return [score(record, self.policy, measure) for record in self.records.values()]

    def finite(self, measure: str) -> list[float]:
        return [value for value in self.values(measure) if value is not None]

    @property
    def steps(self) -> int:
        """Online environment steps of each seed; 0 without records."""
        records = list(self.records.values())
        return int(records[0]["settings"]["online.steps"]) if records else 0

    def finite_at(self, measure: str, step: int) -> list[float]:
        """The measure of the seeds at an evaluation on the way; at the end, the final one."""
        if step >= self.steps or self.policy == GUIDE or measure not in MEASURED_ON_THE_WAY:
            return self.finite(measure)
        steps, values = self.curves(f"{self.policy}_{measure}")
        column = values[:, steps == step]
        return [float(value) for value in column[np.isfinite(column)]]

    def curves(self, column: str, table: str = "curve") -> Curves:
        """A column of the learning curves, of the seeds that did not fail.

        Args:
            column: of the table.
            table: of the record: ``curve``, or one that not every record has.
        """
        kept = [r for r in self.records.values() if not r["failed"]]
        tables = [r[table] for r in kept if table in r]
        found = [dict(zip(t["step"], t[column], strict=True)) for t in tables]
        at = {step for row in found for step, value in row.items() if value is not None}
        steps = sorted(at)
        rows = [[np.nan if row.get(s) is None else row[s] for s in steps] for row in found]
        return np.array(steps, dtype=int), np.array(rows, dtype=float).reshape(
            len(found), len(steps)
        )


def load_results(grid: GridConfig, output: Path) -> list[Result]:
    """Everything that a grid consists of, as far as there are records: by cell, the guide first.

    Raises:
        UserError: if there is no record, a file is not one, or the seeds of an arm were run with
            different settings.
    """
    results = [
        result
        for cell in grid.cells
        for result in (*_guides(grid, cell, output), *_arms(grid, cell, output))
    ]
    if not any(result.records for result in results):
        raise UserError(
            f"{output / 'raw'} has no record of grid {grid.name!r}; run the grid first, or give "
            "its folder by output=DIR"
        )
    _require_same_data(results)
    return results


def other_guides(results: Sequence[Result]) -> dict[str, list[int]]:
    """Runs whose guide is not the one of the cell's record: trained again, it came out otherwise.

    A guide of which only the record is left is trained anew for runs that are added later; on
    another processor sums are rounded in another way. It is known by its final evaluation, which
    every run repeats from the same start states.

    Returns:
        Seeds, by the name of cell and arm.
    """
    own = [r for r in results if not r.borrowed]
    guides = {r.cell: r.records for r in own if r.arm == GUIDE}
    found: dict[str, list[int]] = {}
    for result in own:
        if result.arm == GUIDE:
            continue
        for seed, record in result.records.items():
            guide = guides.get(record["guide_from"] or "", {}).get(seed)
            if guide is not None and guide["final"][GUIDE] != record["final"][GUIDE]:
                found.setdefault(result.name, []).append(seed)
    return found


def _require_same_data(results: Sequence[Result]) -> None:
    """See that runs of a cell with the same dataset settings had the same data.

    Records of earlier versions do not say which data they had.
    """
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for result in (r for r in results if not r.borrowed):
        for seed, record in result.records.items():
            data = record.get("dataset")
            if data is None:
                continue
            settings = {k: v for k, v in record["settings"].items() if k.startswith("dataset.")}
            key = (result.cell, *map(str, sorted(settings.items())))
            name, first = seen.setdefault(key, (f"{result.name} seed {seed}", data))
            if first != data:
                raise UserError(
                    f"{name} and {result.name} seed {seed} learnt from different data (their "
                    f"hashes are {first[:16]} and {data[:16]}), though their settings are the same;"
                    " delete the records that are not meant and run the grid again"
                )


def cell_results(results: Sequence[Result], cell: str) -> list[Result]:
    return [result for result in results if result.cell == cell]


def _arms(grid: GridConfig, cell: CellConfig, output: Path) -> list[Result]:
    names = [name for name in grid.arms if cell.arms is None or name in cell.arms]
    return [
        Result(
            cell.name,
            name,
            grid.arms[name].label,
            grid.arms[name].policy,
            tuple(grid.seeds),
            _records(output, cell.name, name, grid.seeds),
            _published(cell, grid.arms[name].published),
        )
        for name in names
    ]


def _guides(grid: GridConfig, cell: CellConfig, output: Path) -> list[Result]:
    """The guide of a cell; one from another cell is known by how it did in the arms' runs here."""
    guided = [a for a in _arms(grid, cell, output) if grid.arms[a.arm].pretrained]
    if not guided:
        return []
    label = "the guide alone"
    if cell.guide_from is None:
        records = _records(output, cell.name, GUIDE, grid.seeds)
    else:
        label += f", pre-trained in {cell.guide_from}"
        records = {seed: r for arm in reversed(guided) for seed, r in arm.records.items()}
        records = dict(sorted(records.items()))
    seeds, borrowed = tuple(grid.seeds), cell.guide_from is not None
    return [Result(cell.name, GUIDE, label, GUIDE, seeds, records, None, borrowed)]


def _records(
    output: Path, cell: str, arm: str, seeds: Sequence[int]
) -> dict[int, Mapping[str, Any]]:
    """The records of an arm's seeds, in their order."""
    paths = {seed: record_path(output, cell, arm, seed) for seed in seeds}
    records = {seed: read_record(path) for seed, path in paths.items() if path.exists()}
    for seed, record in records.items():
        first = next(iter(records))
        changed = changes(records[first]["settings"], record["settings"])
        if changed:
            raise UserError(
                f"{paths[first]} and {paths[seed]} were made with different settings: "
                f"{'; '.join(changed)}; delete the one that is not meant and run the grid again"
            )
    return dict(records)


def _published(cell: CellConfig, column: str | None) -> Published | None:
    if cell.published is None or column is None:
        return None
    return published(cell.published.environment, cell.published.transitions, column)
