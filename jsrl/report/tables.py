"""What the tables of reports have in common."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MEASURES = {"success": ".2f", "return": ".4g", "length": ".1f", "normalized_score": ".1f"}
"""What is reported, and how it is printed. Success is in [0, 1], length in environment steps."""

UNDEFINED = "-"

Lines = list[list[str]]
"""The lines of a table, each a list of cells."""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    table = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def version_lines(versions: Iterable[Mapping[str, Any]]) -> Lines:
    """A line for each package, with every version of it that runs were made with.

    Args:
        versions: of each run, by the name of the package.
    """
    seen: dict[str, dict[str, None]] = {}
    for used in versions:
        for name, version in used.items():
            seen.setdefault(name, {})[str(version)] = None
    return [[name, ", ".join(found)] for name, found in seen.items()]
