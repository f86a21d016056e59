"""The words after ``jsrl COMMAND``: which are Hydra's options, and which are overrides."""

import argparse
import difflib
import re
import shlex
from collections.abc import Iterable, Sequence

from jsrl.core.errors import UserError

MULTIRUN = {"--multirun", "-m"}
HELP = {"--help", "-h"}

FOLDERS = (
    *("run_dir", "run", "output", "path", "runs", "data", "reference", "behaviour"),
    *("dataset.path", "guide.path", "demonstrations", "replay.directory"),
)
"""Keys that hold a path: what is typed there is a name, also where it looks like a number."""


class _Word(str):
    """A word of a command line, which is told from another with the same letters."""


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's options with their values, and all other words, each in the order given.

    Hydra itself takes options only before or after all overrides. What an option takes is as its
    own parser has it; a word with ``=`` in it is no option's value.

    Raises:
        UserError: if an option is unknown, or lacks its value.
    """
    given = [_Word(word) for word in arguments]
    overrides = [word for word in given if "=" in word and not word.startswith("-")]
    others = [word for word in given if not any(word is own for own in overrides)]
    parser = hydra_parser()
    try:
        found, unknown = parser.parse_known_intermixed_args(others)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; --help shows what there is") from error
    if unknown:
        known = re.findall(r"(?<![\w-])--?[a-z][\w-]*", parser.format_usage())
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{unknown[0]} is no option{hint} --help shows what there is")
    plain = [*overrides, *(found.overrides or [])]
    words = [word for word in given if any(word is own for own in plain)]
    options = [word for word in given if not any(word is own for own in plain)]
    return [str(word) for word in options], [str(word) for word in words]


def hydra_parser() -> argparse.ArgumentParser:
    """The parser of Hydra's own options, which raises ``argparse.ArgumentError``.

    Hydra has no public way to it.

    Raises:
        UserError: if this version of Hydra has it elsewhere.
    """
    try:
        from hydra._internal.utils import get_args_parser
    except ImportError as error:
        raise UserError(
            f"this version of Hydra is not one that jsrl knows ({error}); install hydra-core 1.3"
        ) from error
    parser = get_args_parser()
    parser.exit_on_error = False
    # An option cut short would not be recognised elsewhere.
    parser.allow_abbrev = False
    return parser


def as_names(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them for what they mean.

    A path that looks like a number is quoted, so that it stays as typed: Hydra would make ``1`` of
    ``run_dir=01``. The choice of an option within a group is written with ``/``.
    """
    # Here, since it imports all kinds, which takes a while.
    from jsrl.settings.kinds import choice_override

    found = []
    for override in overrides:
        override = choice_override(override)
        key, separator, value = override.partition("=")
        number = re.fullmatch(r"[+-]?[\d._]+([eE][+-]?\d+)?|true|false|inf|nan", value, re.I)
        if separator and key in FOLDERS and number:
            override = f"{key}={quoted(value)}"
        found.append(override)
    return found


def quoted(value: str) -> str:
    """A value that Hydra's grammar takes as one string, whatever is in it."""
    # Backslashes are doubled before a quote and at the end, and nowhere else.
    escaped = re.sub(r"(\\*)'", r"\1\1\'", value)
    trailing = len(value) - len(value.rstrip("\\"))
    return f"'{escaped}{trailing * chr(92)}'"


def override(key: str, value: str) -> str:
    """``key=value`` for a shell: quoted for Hydra and for the shell where that is needed."""
    plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", value)
    return shlex.quote(f"{key}={value if plain else quoted(value)}")


def command_line(command: str, arguments: Iterable[str]) -> str:
    """What to type to give a command again, quoted for a shell."""
    return " ".join(["jsrl", command, *(shlex.quote(word) for word in arguments)])
