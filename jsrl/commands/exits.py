"""How a command ends: its exit status, and the one line that it says."""

import sys
from typing import NoReturn

ALARM = 1
USER_ERROR = 2
CRASH = 3
SIGNAL = 128


def fail(message: str) -> NoReturn:
    """Print one line on a mistake that the user can mend, and end with exit status 2."""
    print(f"jsrl: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(USER_ERROR)


def leave(what: str, number: int) -> NoReturn:
    """Print a line that says how to go on, and end as after signal ``number``."""
    print(what, flush=True)
    raise SystemExit(SIGNAL + number)
