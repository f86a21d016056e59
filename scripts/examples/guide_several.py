"""Several guides, one for each episode: ``python guide_several.py FILE.hdf5 env=NAME run_dir=DIR``.

Demonstrations are replayed by the nearest state, or it acts at random: the one that led to success
more often so far is drawn more often (Thompson sampling). Every transition says which one acted.
"""

import sys

import jsrl


def train(path: str, *overrides: str) -> object:
    """A run with two guides; overrides as of ``jsrl train``."""
    members = f"guide.members=[{{kind: replay, path: '{path}', by: state}}, {{kind: random}}]"
    return jsrl.train(["guide=several", members, "guide.choose=success", *overrides])


if __name__ == "__main__":
    train(*sys.argv[1:])
