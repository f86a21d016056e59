"""Demonstrations as the guide: ``python guide_replay.py FILE.hdf5 env=NAME run_dir=DIR``.

Each episode begins with the actions of the demonstration that started nearest to where it starts;
with ``guide.by=state`` instead of ``guide.choose``, with those of the nearest recorded states.
"""

import sys

import jsrl


def train(path: str, *overrides: str) -> object:
    """A run whose guide replays the demonstrations of a file; overrides as of ``jsrl train``."""
    guide = ["guide=replay", f"guide.path={path}", "guide.choose=nearest_start"]
    return jsrl.train([*guide, "curriculum=random", *overrides])


if __name__ == "__main__":
    train(*sys.argv[1:])
