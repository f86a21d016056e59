"""What the columns of a flat observation are called."""

from collections.abc import Sequence

Layout = Sequence[tuple[str, int, int]]
"""For each part of an observation its name and its [start, stop) columns; see ``EnvSpec``."""


def column_names(layout: Layout) -> tuple[str, ...]:
    """``observation[0]``, ``observation[1]``, …, ``desired_goal[0]``, …: the part, the place."""
    return tuple(f"{name}[{i}]" for name, start, stop in layout for i in range(stop - start))


def name_of_column(column: int, names: Sequence[str]) -> str:
    """A column's name, with its number, or the number alone where names are not known.

    A column below 0 stands for all of them, where they are so many that they are compared together.
    """
    if column < 0:
        return "all columns together"
    return f"{names[column]} (column {column})" if column < len(names) else f"column {column}"
