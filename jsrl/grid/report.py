"""The report of a grid, from its records alone."""

from collections.abc import Sequence
from pathlib import Path

from jsrl.files import read_findings, write_whole
from jsrl.grid.compare import Comparison, compare
from jsrl.grid.config import GridConfig
from jsrl.grid.figures import draw_cell, draw_improvement
from jsrl.grid.markdown import arms_table, comparisons_table, readable, seeds_table
from jsrl.grid.plan import GUIDE
from jsrl.grid.protocol import protocol_sections
from jsrl.grid.results import Result, cell_results, load_results, other_guides
from jsrl.grid.rows import csv_text, curve_rows, seed_rows, summary_rows
from jsrl.report import markdown_table

RANGES = {"success": ", in [0, 1]", "length": ", in environment steps"}


def write_report(grid: GridConfig, output: Path, command: str) -> str:
    """Write ``README.md``, ``table.csv``, ``per_seed.csv``, ``curves.csv`` and the figures.

    Args:
        grid: what was asked for.
        output: the folder that holds ``raw``.
        command: what to type to repeat the grid.

    Returns:
        The cells' tables, for the terminal.

    Raises:
        UserError: if there are no records, they do not fit together, or the output cannot be
            written.
    """
    results = load_results(grid, output)
    comparisons = compare(results, grid.comparisons, grid.measure)
    _write_numbers(output, results, grid.measure)
    begun = [r for r in results if any(o.records for o in cell_results(results, r.cell))]
    cells = list(dict.fromkeys(result.cell for result in begun))
    sections = [
        f"# {grid.title}",
        *read_findings(output),
        *_missing(results),
        *_comparisons(comparisons, grid.measure, output),
        *(text for cell in cells for text in _cell(grid, cell, results, output)),
        *_reading(grid.measure, results, comparisons),
        *_list("Differences from the paper, and other notes", grid.notes),
        f"## Every seed: {readable(grid.measure)}",
        seeds_table(begun, grid.measure),
        *protocol_sections(results),
        *_making(results, command),
    ]
    write_whole(output / "README.md", ("\n\n".join(sections) + "\n").encode())
    tables = [f"{cell}\n{arms_table(cell_results(results, cell), grid.measure)}" for cell in cells]
    return "\n\n".join([*tables, *_missing(results)])


def _write_numbers(output: Path, results: Sequence[Result], measure: str) -> None:
    for name, rows in (
        ("table.csv", summary_rows(results, measure)),
        ("per_seed.csv", seed_rows(results)),
        ("curves.csv", curve_rows(results)),
    ):
        write_whole(output / name, csv_text(rows).encode())


def _missing(results: Sequence[Result]) -> list[str]:
    """The runs that are not finished, those that failed, and those with a guide of their own."""
    own = [result for result in results if not result.borrowed]
    begun = {r.cell for r in own if r.records}
    absent = list(dict.fromkeys(f"all of `{r.cell}`" for r in own if r.cell not in begun))
    missing = {r.name: r.missing for r in own if r.missing and r.cell in begun}
    failed = {r.name: r.failed for r in own if r.failed}
    sections = []
    if missing or absent:
        count, total = sum(len(r.missing) for r in own), sum(len(r.seeds) for r in own)
        names = "; ".join([*_names(missing), *absent])
        sections.append(f"{count} of {total} runs are not finished: {names}.")
    if failed:
        sections.append(
            "These seeds failed, since their numbers were no longer finite, and are left out of "
            f"the statistics: {'; '.join(_names(failed))}."
        )
    others = other_guides(results)
    if others:
        sections.append(
            "The guide of these runs was trained again, of the guide's recorded run only the "
            "record being left, and came out otherwise, as it does where another processor rounds "
            f"otherwise: {'; '.join(_names(others))}. `per_seed.csv` has the score of every run's "
            "own guide."
        )
    return sections


def _names(seeds: dict[str, list[int]]) -> list[str]:
    return [
        f"`{name}` seed{'s' if len(which) > 1 else ''} {', '.join(map(str, which))}"
        for name, which in seeds.items()
    ]


def _comparisons(comparisons: Sequence[Comparison], measure: str, output: Path) -> list[str]:
    if not comparisons:
        return []
    sections = ["## Comparisons", comparisons_table(comparisons, measure)]
    if draw_improvement(output / "improvement.png", comparisons):
        sections.append("![Probability of improvement with its interval](improvement.png)")
    return sections


def _cell(grid: GridConfig, cell: str, results: Sequence[Result], output: Path) -> list[str]:
    """Table and learning curves of one cell."""
    own = cell_results(results, cell)
    sections = [f"## {cell}", arms_table(own, grid.measure)]
    figure = f"learning_curve_{cell}.png"
    if draw_cell(output / figure, own, grid.measure, f"{grid.title}\n{cell}"):
        sections.append(f"![{readable(grid.measure)} over environment steps]({figure})")
    return sections


def _reading(
    measure: str, results: Sequence[Result], comparisons: Sequence[Comparison]
) -> list[str]:
    """What the columns mean."""
    lines = [
        f"The measure is {readable(measure)}{RANGES.get(measure, '')}, of the final policy, never "
        "the best along the way.",
        "IQM: interquartile mean over seeds. In brackets: 95 % percentile-bootstrap intervals over "
        "seeds; with few seeds they are too narrow.",
        "h at the end: guide steps with which the run ended; at 0 the jump-start is over.",
    ]
    if comparisons:
        lines += [
            "Seeds: of the first and of the second; those that failed are left out.",
            "At step: comparisons are between final evaluations; of runs of different length, at "
            "the end of the shorter ones, where an evaluation on the way, of fewer episodes, "
            "stands for the longer ones.",
            "P(first is better): probability of improvement, the share of pairs of seeds in which "
            "the first does better, ties counting half (Agarwal et al. 2021). An interval of no "
            "width says that all pairs agree, not that there is no doubt.",
            "First ahead from step: the first evaluation from which the first's mean over seeds "
            "stays above the second's to the end of the run, the final evaluation included.",
        ]
    sources = list(dict.fromkeys(r.published.source for r in results if r.published))
    if sources:
        lines.append(
            f"Published: {'; '.join(sources)}: mean ± standard deviation over seeds, after "
            "1,000,000 online steps; the paper prints 0 to 100, here it is divided by 100."
        )
    if any(c.implied is not None for c in comparisons):
        lines.append(
            "Published figures imply: the probability of improvement of two normal variables with "
            "the published means and standard deviations."
        )
    return _list("How to read it", lines)


def _making(results: Sequence[Result], command: str) -> list[str]:
    """How long it took, with what, and how to repeat it."""
    records = [r for result in results if not result.borrowed for r in result.records.values()]
    hours = sum(r["wall_seconds"] / len(r["run_seeds"]) for r in records) / 3600
    guides = [r for r in records if r["arm"] == GUIDE]
    seen: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in record["versions"].items():
            seen.setdefault(name, {})[str(version)] = None
    return [
        "## Cost",
        f"{len(records)} runs, {len(guides)} of them pre-training: {hours:.1f} hours in all, added "
        "up over processes; `per_seed.csv` has the time of each.",
        "## Versions",
        markdown_table(["package", "version"], [[n, ", ".join(v)] for n, v in seen.items()]),
        "## Repeat",
        f"```\n{command}\n```",
        "Records of finished runs are under `raw`: what has one is not run again.",
    ]


def _list(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {line}" for line in lines)] if lines else []
