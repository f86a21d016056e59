"""You as the guide: ``python guide_human.py env=NAME run_dir=DIR`` (``pip install pygame``).

In a window you see the environment and act for the first 50 steps of each episode, with the arrows;
then the exploration-policy goes on. Escape saves and stops; the same command goes on from there.
"""

import sys

import jsrl


def train(*overrides: str) -> object:
    """A run that you guide in two dimensions; overrides as of ``jsrl train``."""
    keys = "guide.keys={left: [-1, 0], right: [1, 0], down: [0, -1], up: [0, 1]}"
    steps = ["curriculum=random", "curriculum.initial_guide_steps=50"]
    return jsrl.train(["guide=human", keys, "guide.frames_per_second=20", *steps, *overrides])


if __name__ == "__main__":
    train(*sys.argv[1:])
