"""What the machine has for processes of one's own."""

import os


def available_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


UNUSED_KEYS, ALLOWED = "JSRL_UNUSED_KEYS", "allow"
"""Name and value of the variable with which a grid starts its runs.

What is set for all of its arms need not be used by each: the grid has looked at the arms' own.
"""
